import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from fl_gan_lib.recording import files
from fl_gan_lib.records import (
    AttackRecord,
    is_recognisable,
    load_all_records,
    load_records,
    record_path,
    summarise,
)


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
    (tmp_path / "seeds.csv").write_text("", encoding="utf-8")
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


METRICS = {name: [0.25, 0.75] for name in ("seconds", "accuracy", "recognition", "probe", "diversity")}
METRICS |= {"round": [1, 5]}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rounds": np.array([1])}, "disagree on the number of recorded rounds"),
        ({"samples": np.zeros((1, 20, 28, 28), np.uint8)}, "disagree on the number of recorded rounds"),
        ({"samples": np.zeros((2, 20, 28, 28), np.float32)}, r"samples is float32 of shape \(2, 20, 28, 28\)"),
        ({"samples": np.zeros((2, 20, 784), np.uint8)}, "samples is uint8 of shape"),
        ({"samples": np.zeros((2, 0, 28, 28), np.uint8)}, "samples is uint8 of shape"),
        ({"final_samples": np.zeros((7, 28, 27), np.uint8)}, "final_samples is uint8 of shape"),
        ({"private_samples": np.zeros((0, 28, 28), np.uint8)}, "private_samples is uint8 of shape"),
        ({"private_samples": None}, "it lacks private_samples"),
        ({"rounds": np.array([[1], [5]])}, "rounds is int64 of shape"),
        ({"rounds": np.array([5, 1])}, r"whole numbers that increase from 1: \[5, 1\]"),
        ({"rounds": np.array([1, 1])}, "increase from 1"),
        ({"rounds": np.array([0, 5])}, "increase from 1"),
        ({"rounds": np.array([1.0, 5.0])}, "whole numbers"),
        ({"rounds": np.array([1, 6])}, "the column `round` of the metrics is not the recorded rounds"),
        ({"version": 2}, "version 2, and this library reads version 1"),
        ({"version": None}, "version None"),
        ({"config": []}, "config or its metrics are missing, or not by name"),
        ({"config": None}, "config or its metrics are missing, or not by name"),
        ({"config target": "3"}, "target is '3', and not of type int"),
        ({"config target": True}, "target is True, and not of type int"),
        ({"config target": 3.0}, "target is 3.0, and not of type int"),
        ({"config target": 10}, "target is 10, and not the number of one of 10 classes"),
        ({"config kind": ["attack"]}, r"kind is \['attack'\], and not of type str"),
        ({"config dataset": None}, "dataset is None"),
        ({"config seed": "0"}, "seed is '0'"),
        ({"config rounds": [[[]] * 1000]}, r"rounds is \[\[\[\].{1,80}, and not of type int"),
        ({"config probe_anchors": {"real images": 0.9}}, "probe_anchors are .* not a value for each of"),
        ({"config probe_anchors": {"noise": 0, "another class": 0, "real images": None}}, "not from 0 to 1"),
        ({"metrics": [METRICS]}, "config or its metrics are missing, or not by name"),
        ({"metrics": {}}, "the metrics lack accuracy, diversity, recognition, round, seconds"),
        ({"metrics probe": [0.5]}, "the columns of the metrics are not of one length"),
        ({"metrics round": None}, "column 'round' of the metrics is not a number for each recorded round"),
        ({"metrics probe": 0.5}, "column 'probe'"),
        ({"metrics probe": {"0": 0.5, "1": 0.5}}, "column 'probe'"),
        ({"metrics probe": [[0.5], [0.5]]}, "column 'probe'"),
        ({"metrics probe": [0.5, "0.5"]}, "column 'probe'"),
        ({"metrics probe": [0.5, True]}, "column 'probe'"),
        ({"metrics probe": [0.5, None]}, "column 'probe'"),
        ({"metrics probe": [0.5, float("inf")]}, "column 'probe'"),
        ({"metrics another": [10**400, 0]}, "column 'another'"),
        ({"metrics recognition": [0.5, 1.5]}, "column `recognition` of the metrics is not from 0 to 1"),
        ({"metrics recognition": [-0.5, float("nan")]}, "column `recognition`"),
    ],
)
def test_a_record_whose_parts_do_not_fit_together_is_refused(record, changes, reason):
    text, arrays = files.unpack(record.dumps())
    for key, value in changes.items():
        part, *inner = key.split()
        place = arrays if isinstance(value, np.ndarray) or key == "private_samples" else text
        place, key = (place[part], inner[0]) if inner else (place, part)
        place[key] = value
    content = files.pack(text, {name: array for name, array in arrays.items() if array is not None})
    with pytest.raises(ValueError, match=rf"not a readable attack record \(.*{reason}.*\): make it again"):
        AttackRecord.loads(content)


def test_a_folder_or_a_file_that_may_not_be_read_is_named(record, tmp_path):
    (tmp_path / "attack_4.npz").mkdir()
    with pytest.raises(ValueError, match=r"attack_4.npz cannot be read \(.*\): give a file that you may read"):
        AttackRecord.load(tmp_path / "attack_4.npz")
    with pytest.warns(UserWarning, match=r"left out: .*attack_4.npz cannot be read"):
        load_records(tmp_path)
    path = record.save(tmp_path / "attack_3.npz")
    with pytest.raises(FileNotFoundError, match="no record at"):
        AttackRecord.load(path / "attack_3.npz")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever runs this may read everything")
def test_somebody_elses_file_is_named(record, tmp_path):
    path = record.save(tmp_path / "attack_3.npz")
    path.chmod(0)
    with pytest.raises(ValueError, match=r"attack_3.npz cannot be read \(Permission denied\)"):
        AttackRecord.load(path)


def test_a_record_under_the_name_of_another_digit_is_left_out(record, tmp_path):
    record.save(record_path(tmp_path, 3))
    record.save(record_path(tmp_path, 4))
    with pytest.warns(UserWarning, match=r"left out: .*attack_4.npz is a record of the class 3"):
        assert list(load_records(tmp_path)) == [3]


def test_a_failed_save_leaves_the_old_record_whole(record, tmp_path):
    path = record.save(tmp_path / "attack_3.npz")
    before = path.read_bytes()
    record.config["unserialisable"] = object()
    with pytest.raises(TypeError):
        record.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "module", ["records", "figures", "studies.figures", "explorer.widget", "explorer.live", "explorer.server"]
)
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


def test_a_record_of_a_time_before_the_probe_still_loads(record, tmp_path):
    del record.metrics["probe"], record.config["probe_anchors"]
    loaded = AttackRecord.load(record.save(tmp_path / "attack_3.npz"))
    assert loaded.metrics["probe"].isna().all() and loaded.anchors == {}
    assert not is_recognisable(loaded).any() and summarise(loaded).startswith("Not judged")


def test_only_a_probe_that_tells_real_images_from_noise_calls_anything_recognisable(record):
    record.metrics["probe"] = [0.5, 0.75]
    assert is_recognisable(record).tolist() == [False, True]
    record.config["probe_anchors"] = {"noise": 0.5, "another class": 0.1, "real images": 0.6}
    assert is_recognisable(record).tolist() == [False, False]
    record.config["probe_anchors"] = dict.fromkeys(record.anchors, 0.0)
    assert not is_recognisable(record).any()
