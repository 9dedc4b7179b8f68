"""What the explorer sends to the browser; what the browser makes of it is tested in tests/browser."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fl_gan_lib.explorer.page import NUM_GREYS, describe
from fl_gan_lib.explorer.widget import attack_explorer


def picture(url: str) -> np.ndarray:
    assert url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


def test_all_rounds_of_a_record_are_in_one_picture_in_few_greys(record):
    run = attack_explorer({3: record}).first
    shown = run["targets"]["3"]
    assert run["name"] == "attack" and shown["rounds"] == [1, 5]
    for name, images in {"fakes": record.samples, "private": record.private_samples[None]}.items():
        expected = images.transpose(0, 2, 1, 3).reshape(images.shape[0] * 28, -1)
        shades = picture(shown[name]["png"])
        assert np.abs(shades.astype(int) - expected).max() <= 255 / (NUM_GREYS - 1) / 2 + 1
        assert len(np.unique(shades)) == NUM_GREYS


def test_numbers_that_are_missing_are_none(record):
    record.metrics["accuracy"] = float("nan")
    metrics = attack_explorer({3: record}).first["targets"]["3"]["metrics"]
    assert metrics["accuracy"] == [None, None] and metrics["probe"] == [0.25, 0.75]


def test_other_runs_are_sent_when_they_are_asked_for(record, monkeypatch):
    record.config["kind"] = "oracle"
    explorer, sent = attack_explorer({}, beside={"oracle": {3: record}, "a defence": {3: record}}), []
    monkeypatch.setattr(explorer, "send", sent.append)
    assert explorer.names == ["attack", "oracle", "a defence"] and explorer.first["name"] == "attack"
    for name in ("oracle", "a defence"):
        explorer._on_message(None, {"kind": "load", "run": name}, [])
    run, defence = sent
    assert run["name"] == "oracle"
    assert run["targets"]["3"]["fakes_title"] == "The oracle's fakes, drawn with the private images"
    assert run["targets"]["4"]["missing"].endswith("Make one with: make records DIGITS=4")
    assert defence["targets"]["4"]["missing"].endswith("in this run. It has 3.")


def test_digits_without_a_record_say_how_to_make_one(record):
    records = {target: replace(record, config=record.config | {"target": target}) for target in (3, 5, 7)}
    first = attack_explorer(records).first
    assert list(first["targets"]) == first["classes"] == list("0123456789")
    assert all("make records DIGITS=" + digit in first["targets"][digit]["missing"] for digit in "0124689")
    assert len(attack_explorer({}).first["targets"]) == 10


def named(record, target, **config):
    """The same pictures, of one of twenty people."""
    people = [f"s{person}" for person in range(1, 21)]
    return replace(record, config=record.config | {"target": target, "classes": people} | config)


def test_classes_have_names_and_pictures_a_side(record, tmp_path):
    large = {
        name: np.repeat(np.repeat(getattr(record, name), 2, -1), 2, -2)[..., :48, :48]
        for name in ("samples", "final_samples", "private_samples")
    }
    first = attack_explorer({4: replace(named(record, 4), **large)}).first
    assert first["classes"][4] == "s5" and len(first["targets"]) == 20
    shown = first["targets"]["4"]
    assert shown["side"] == 48 and picture(shown["fakes"]["png"]).shape == (2 * 48, 20 * 48)
    assert shown["private_title"] == "The victim's private images of the class s5"
    assert first["targets"]["0"]["missing"] == "There is no readable record of the class s1 in this run. It has s5."


def test_a_record_of_another_class_or_of_other_classes_is_refused(record, tmp_path):
    with pytest.raises(ValueError, match="under 4 there is a record of the class 3"):
        attack_explorer({4: record})
    explorer = attack_explorer({3: record}, beside={"people": {3: named(record, 3)}})
    with pytest.raises(ValueError, match="'people' is of other classes than the first"):
        explorer._on_message(None, {"kind": "load", "run": "people"}, [])


def test_images_of_ones_own_have_no_live_attack(record, tmp_path):
    assert attack_explorer({3: named(record, 3, dataset="faces")}, live_folder=tmp_path).can_train
    assert not attack_explorer({3: named(record, 3, dataset="own images")}, live_folder=tmp_path).can_train


def test_the_sentence_says_what_is_seen(record):
    sentence = "Round 5, class 3: 5 of 7 fakes are classified as 3. The probe is at 0.75 (real images 0.90)."
    assert describe(record, 1) == sentence
    record.metrics["probe"] = float("nan")
    assert describe(record, 1).endswith("The probe is not measured.")


def test_it_leaves_a_page_that_needs_no_kernel_and_no_network(record, monkeypatch):
    outputs = []
    monkeypatch.setattr("fl_gan_lib.explorer.widget.display", lambda output, **_: outputs.append(output))
    attack_explorer({3: record}, beside={"oracle": {}})._ipython_display_()
    page, widget = outputs
    assert "application/vnd.jupyter.widget-view+json" in widget
    html = page.data
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(data)["name"] == "attack"
    assert not re.findall(r"(?:src|href|import)\s*[=(]?\s*[\"']https?:", html)


@pytest.mark.parametrize(
    "message",
    [
        *({"kind": "start", "target": digit} for digit in (11, -1, 10**9, True, 3.0, "3", "../3", None)),
        *({"kind": "load", "run": name} for name in ("none", "../attack", 3, ["attack"])),
        *({"kind": "start"}, {"kind": "stop"}, {"kind": 1}, [], "start", None),
    ],
)
def test_nonsense_from_the_browser_starts_nothing(record, tmp_path, monkeypatch, message):
    monkeypatch.setattr("fl_gan_lib.explorer.widget.start_attack", lambda *_, **__: pytest.fail("started"))
    attack_explorer({3: record}, live_folder=tmp_path)._on_message(None, message, [])
    explorer = attack_explorer({3: record})
    explorer._on_message(None, {"kind": "start", "target": 3}, [])


def test_a_live_attack_shows_its_record_as_it_grows(record, tmp_path, monkeypatch):
    stopped = []

    def start(target, path, *, dataset, report):
        assert (target, path, dataset) == ("3", tmp_path / "live_3.npz", "mnist-5k")
        report({"running": True, "round": None, "rounds": 200, "message": "Preparing"})
        record.save(path)
        report({"running": True, "round": 5, "rounds": 200, "message": "Training", "saved": True})
        return lambda: stopped.append(True)

    monkeypatch.setattr("fl_gan_lib.explorer.widget.start_attack", start)
    explorer = attack_explorer({}, live_folder=tmp_path)
    explorer._on_message(None, {"kind": "start", "target": 3}, [])
    assert explorer.live == {"running": True, "round": 5, "rounds": 200, "message": "Training"}
    assert explorer.live_run["target"] == 3 and explorer.live_run["run"]["rounds"] == [1, 5]
    explorer._on_message(None, {"kind": "start", "target": 4}, [])
    assert explorer.live_run["target"] == 3
    explorer._on_message(None, {"kind": "stop"}, [])
    assert stopped == [True]


def test_a_live_attack_that_cannot_start_or_be_read_leaves_the_explorer_usable(record, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no memory for another process")

    def start(target, path, *, dataset, report):
        path.unlink(missing_ok=True)  # somebody tidies up
        report({"running": True, "round": 5, "rounds": 200, "message": "Training", "saved": True})
        report({"running": False, "round": 5, "rounds": 200, "message": "Stopped"})

    explorer = attack_explorer({}, live_folder=tmp_path)
    for begin, message in ((fail, "did not start: no memory for another process"), (start, "Stopped")):
        monkeypatch.setattr("fl_gan_lib.explorer.widget.start_attack", begin)
        explorer.start(3)
        assert message in explorer.live["message"] and not explorer.live["running"]
