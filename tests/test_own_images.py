"""The attack on images of one's own: the page that says how, `make attack` on a folder, and what can go wrong."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fl_gan_lib import ImageDataset, run_attack
from fl_gan_lib.figures import plot_comparison
from fl_gan_lib.records import AttackRecord, load_all_records, load_records, record_path, summarise

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "notebooks" / "pages" / "own_images.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("number", range(7))
def test_each_piece_of_code_on_the_page_runs_and_is_short(number, drawings, monkeypatch):
    assert len(BLOCKS) == 7
    block = BLOCKS[number]
    assert len([line for line in block.splitlines() if line.strip()]) <= 10
    monkeypatch.chdir(drawings.parent)
    names = {"__name__": "__main__"}
    if "compare(" in block:
        few = "digits=[3], seeds=[0], rounds=1, num_workers=1"
        exec(block.replace("digits=[3, 9], seeds=[0, 1, 2], rounds=100", few), names)
        assert names["table"]["defence"].tolist() == ["none", "slow client"]
        return
    exec(re.sub(r"rounds=\d+", "rounds=2, progress=False", block), names)
    assert names["record"].rounds.tolist() == [1, 2]


def test_a_folder_of_forty_drawings_is_attacked_and_ends_as_digits_do(drawings, tmp_path):
    out = tmp_path / "Ergebnis 'dort' \"für\" mich"
    installed = [f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.ready"]
    options = [f"DATA={drawings}", "TARGET=house", "ROUNDS=3", f"OUT={out}"]
    command = ["make", "attack", *options, *installed]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    record = AttackRecord.load(out / "attack_house.npz")
    assert record.classes == ("cross", "house", "ring") and record.target_name == "house"
    assert (out / "comparison_house.png").exists() and (out / "03_gan_attack_house.ipynb").exists()
    # `make` inside of `make test` says where it was.
    said = [line for line in answer.stdout.strip().splitlines() if not line.startswith("make")]
    first, *_, last = said[-4:]
    assert first.startswith("Not judged: what the class house looks like") and last.startswith("Look at: ")
    assert "3 held-out images of the target are too few: at least 50 are needed" in answer.stdout
    assert not (out / "unfinished_house.ipynb").exists() and not (ROOT / "img" / "comparison_house.png").exists()
    shorter = subprocess.run([*command, "ROUNDS=2"], cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert shorter.returncode and "is a record of 3 rounds, and this run would end after 2" in shorter.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["TARGET=hose"], "the target is 'hose': it must be one of the classes cross, house, ring"),
        ([], "no target: name the class"),
        (["TARGET=house", "ROUNDS=0"], "rounds is 0"),
        (["TARGET=house", "DATA=nowhere"], "there is no folder nowhere"),
    ],
)
def test_a_mistake_is_named_before_the_notebook_starts(drawings, tmp_path, options, message):
    installed = [f"VENV={sys.prefix}", f"--old-file={sys.prefix}/.ready"]
    command = ["make", "attack", f"DATA={drawings}", f"OUT={tmp_path / 'out'}", *options, *installed]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, encoding="utf-8")
    assert answer.returncode and message in answer.stderr and "Traceback" not in answer.stderr
    assert not list(tmp_path.glob("out/*"))


def test_where_held_out_images_are_few_the_record_says_what_is_not_measured(drawings, tmp_path):
    pair = ImageDataset.from_folder(drawings, side=16).split()
    record = run_attack("ring", dataset=pair, rounds=2, num_frames=1, progress=False, path=tmp_path / "attack_ring.npz")
    last = record.metrics.iloc[-1]
    unmeasured = ["frechet_distance", "frechet_real", "probe", "copy_ratio", "target_accuracy"]
    assert last[unmeasured].isna().all() and last[["recognition", "diversity", "accuracy"]].notna().all()
    assert record.config["not_measured"].startswith("3 held-out images of the target are too few")
    assert record.samples.shape[2:] == (16, 16) and record.config["dataset"] == "own images"
    assert AttackRecord.load(tmp_path / "attack_ring.npz") == record
    assert "probe not measured (3 held-out images" in summarise(record)
    plot_comparison(record).savefig(tmp_path / "picture.png")
    assert "probe" not in plot_comparison(record).axes[0].get_yticklabels()[0].get_text()


def test_images_of_ones_own_are_as_good_as_those_that_have_a_name():
    pair = run_attack(3, dataset=pair_of_mnist(), rounds=1, num_frames=1, progress=False)
    named = run_attack(3, rounds=1, num_frames=1, progress=False)
    assert np.array_equal(pair.final_samples, named.final_samples)
    assert pair.metrics.drop(columns="seconds").equals(named.metrics.drop(columns="seconds"))


def pair_of_mnist():
    from fl_gan_lib import load_dataset

    return load_dataset()


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (lambda train, test: train, "dataset is of type ImageDataset: give a name, or a pair"),
        (lambda train, test: (train, test.images), "dataset is of type tuple"),
        (lambda train, test: (train, test, test), "dataset is of type tuple"),
        (lambda train, test: (train, ImageDataset(test.images, test.labels)), "of 3 classes and .* of 3 and"),
        (lambda train, test: (train, test.subset([])), r"there are \d+ training and 0 test images"),
        (lambda train, test: None, "dataset is of type NoneType"),
        (lambda train, test: "drawings", "unknown data set 'drawings'.*from_folder"),
    ],
)
def test_what_is_no_pair_of_data_sets_is_refused(drawings, dataset, message):
    pair = ImageDataset.from_folder(drawings).split()
    with pytest.raises(ValueError, match=message):
        run_attack("house", dataset=dataset(*pair), rounds=1, progress=False)


def test_an_interrupted_run_does_not_go_on_with_other_images(drawings, tmp_path):
    class Stop(Exception):
        pass

    def stop(*_):
        raise Stop

    dataset = ImageDataset.from_folder(drawings)
    options = {"rounds": 3, "num_frames": 1, "progress": False, "path": tmp_path / "attack_house.npz"}
    with pytest.raises(Stop):
        run_attack("house", dataset=dataset.split(), watch=stop, **options)
    with pytest.raises(ValueError, match=r"another run, which is unfinished .*digest is"):
        run_attack("house", dataset=dataset.split(seed=1), **options)
    assert run_attack("house", dataset=dataset.split(), **options).rounds[-1] == 3


def test_records_of_named_classes_are_found_in_a_folder(record, tmp_path):
    config = record.config | {"classes": ["a", "b b", "c_3", "9"]}
    for target, name in enumerate(config["classes"]):
        for kind in ("attack", "9_honest"):
            record.config = config | {"target": target}
            record.save(record_path(tmp_path, name, kind))
    assert list(load_records(tmp_path)) == list(load_records(tmp_path, "9_honest")) == [0, 1, 2, 3]
    kinds = load_all_records(tmp_path)
    assert list(kinds) == ["attack", "9 honest"] and [each.target_name for each in kinds["9 honest"].values()] == [
        "a",
        "b b",
        "c_3",
        "9",
    ]
    record.config = config | {"classes": ["x", "y"], "target": 1}
    record.save(record_path(tmp_path, "y"))
    with pytest.warns(UserWarning, match=r"attack_y\.npz is of other classes than 9: keep it in another folder"):
        assert list(load_records(tmp_path)) == [0, 1, 2, 3]


def test_faces_are_drawn_and_recorded_by_name(tmp_path):
    record = run_attack("s5", dataset="faces", rounds=1, num_frames=1, progress=False, path=tmp_path / "attack_s5.npz")
    assert record.target == 4 and record.target_name == "s5" and record.samples.shape[2:] == (32, 32)
    assert len(record.private_samples) == 8 and record.metrics["probe"].isna().all()
