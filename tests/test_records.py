import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fl_gan_lib.records import AttackRecord, load_all_records, load_records, record_path


def test_round_trip(record, tmp_path):
    path = record.save(record_path(tmp_path / "new", 3))
    loaded = AttackRecord.load(path)
    for name in ("samples", "final_samples", "private_samples", "rounds"):
        assert np.array_equal(getattr(loaded, name), getattr(record, name))
    pd.testing.assert_frame_equal(loaded.metrics, record.metrics)
    assert loaded.config == record.config and loaded.target == 3
    assert list(load_records(path.parent)) == [3]
    assert [file.name for file in path.parent.iterdir()] == ["attack_3.npz"]


def test_all_kinds_of_runs_are_found_by_name_the_attack_first(record, tmp_path):
    for kind in ("a_defence", "attack", "oracle"):
        record.save(record_path(tmp_path, 3, kind))
    (tmp_path / "seeds.csv").write_text("")
    (tmp_path / "anatomy.npz").write_bytes(b"")
    runs = load_all_records(tmp_path)
    assert list(runs) == ["attack", "a defence", "oracle"] and all(list(run) == [3] for run in runs.values())
    assert runs["oracle"][3].target == 3 and 4 not in runs["oracle"]


def test_a_kind_is_read_when_it_is_looked_into(record, tmp_path):
    for kind in ("attack", "oracle"):
        record.save(record_path(tmp_path, 3, kind))
    runs = load_all_records(tmp_path)
    record_path(tmp_path, 3, "oracle").unlink()
    assert len(runs["attack"]) == 1
    with pytest.warns(UserWarning, match="no records of the kind oracle"):
        assert len(runs["oracle"]) == 0


def test_missing_records_say_how_to_make_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="run_attack"):
        AttackRecord.load(tmp_path / "attack_3.npz")
    with pytest.warns(UserWarning, match=r"no records of the kind attack in .*make records"):
        assert load_records(tmp_path) == {}


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: b"not a record",
        lambda content: content[: len(content) // 2],
        lambda content: content[:200] + bytes([content[200] ^ 255]) + content[201:],
    ],
)
def test_damaged_records_are_refused(record, tmp_path, damage):
    path = record.save(tmp_path / "attack_3.npz")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=r"attack_3.npz is not a readable attack record"):
        AttackRecord.load(path)


def test_every_damaged_byte_of_a_real_picture_is_found_or_harmless(record, tmp_path):
    record.samples[:] = np.triu(np.full((28, 28), 255, np.uint8))
    content = record.save(tmp_path / "attack_3.npz").read_bytes()
    for position in range(40, len(content), len(content) // 200):
        (tmp_path / "attack_3.npz").write_bytes(content[:position] + b"\x55\xaa" + content[position + 2 :])
        try:
            AttackRecord.load(tmp_path / "attack_3.npz")
        except ValueError as error:
            assert "not a readable attack record" in str(error)


def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "attack_3.npz"
    np.savez(path, samples=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="not a readable attack record"):
        AttackRecord.load(path)


def test_a_record_that_contradicts_itself_is_refused(record, tmp_path):
    record.rounds = record.rounds[:1]
    with pytest.raises(ValueError, match="disagree"):
        AttackRecord.load(record.save(tmp_path / "attack_3.npz"))


def test_a_failed_save_leaves_the_old_record_whole(record, tmp_path):
    path = record.save(tmp_path / "attack_3.npz")
    before = path.read_bytes()
    record.config["unserialisable"] = object()
    with pytest.raises(TypeError):
        record.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("module", ["records", "figures", "widgets", "live", "demo"])
def test_no_torch_behind_the_viewers(module):
    code = f"import sys, fl_gan_lib.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_damaged_record_is_left_out_and_named(record, tmp_path):
    record.save(record_path(tmp_path, 3))
    record_path(tmp_path, 4).write_bytes(b"PK")
    with pytest.warns(UserWarning, match=r"left out: .*attack_4.npz is not a readable attack record"):
        assert list(load_records(tmp_path)) == [3]


def test_each_kind_of_run_is_loaded_by_its_name(record, tmp_path):
    record.save(record_path(tmp_path, 3, "oracle"))
    assert list(load_records(tmp_path, "oracle")) == [3]
