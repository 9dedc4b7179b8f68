"""What the explorer sends to the browser; what the browser makes of it is tested in tests/browser."""

import base64
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fl_gan_lib.explorer.live import LiveAttacks
from fl_gan_lib.explorer.page import HELD_BACK, NUM_GREYS, anchors_of, describe, page_files, record_of
from fl_gan_lib.explorer.widget import attack_explorer, draw_secret


def picture(url: str) -> np.ndarray:
    assert url.startswith("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("L"))


def shown(explorer, target):
    return explorer.first[str(target)]


def test_all_rounds_of_a_record_are_in_one_picture_in_few_greys(record):
    frames = shown(attack_explorer({3: record}), 3)
    assert frames["rounds"] == [1, 5]
    for name, images in {"fakes": record.samples, "private": record.private_samples[None]}.items():
        expected = images.transpose(0, 2, 1, 3).reshape(images.shape[0] * 28, -1)
        shades = picture(frames[name])
        assert np.abs(shades.astype(int) - expected).max() <= 255 / (NUM_GREYS - 1) / 2 + 1
        assert len(np.unique(shades)) == NUM_GREYS


def test_numbers_that_are_missing_are_none(record):
    record.metrics["accuracy"] = float("nan")
    metrics = shown(attack_explorer({3: record}), 3)["metrics"]
    assert metrics["accuracy"] == [None, None] and metrics["probe"] == [0.25, 0.75]


def test_numbers_stand_beside_their_anchors(record):
    held_back = replace(record, metrics=record.metrics.assign(probe=[0.1, 0.2]))
    runs = {"attack": {3: record}, HELD_BACK: {3: held_back}}
    anchors = dict(record_of(runs, "attack", 3)["anchors"]["probe"])
    assert anchors == {"noise": record.anchors["noise"], "real images": 0.9, "class held back": 0.2}
    assert "class held back" not in dict(record_of(runs, HELD_BACK, 3)["anchors"]["probe"])
    assert "class held back" not in dict(record_of({"attack": {3: record}}, "attack", 3)["anchors"]["probe"])


def test_other_runs_are_sent_when_they_are_asked_for(record, monkeypatch):
    record.config["kind"] = "oracle"
    explorer, sent = attack_explorer({}, beside={"oracle": {3: record}, "a defence": {3: record}}), []
    monkeypatch.setattr(explorer, "send", sent.append)
    assert explorer.index["runs"] == ["attack", "oracle", "a defence"]
    for run, target in (("oracle", "3"), ("oracle", "4"), ("a defence", "4")):
        explorer._on_message(None, {"kind": "load", "run": run, "target": target}, [])
    assert [(one["kind"], one["run"], one["target"]) for one in sent[:2]] == [("record", "oracle", t) for t in "34"]
    there, lacking, defence = (one["record"] for one in sent)
    assert there["fakes_title"] == "The oracle's fakes, drawn with the private images"
    assert lacking["missing"].endswith("Make one with: make records DIGITS=4")
    assert defence["missing"].endswith("in this run. It has 3.")


def test_digits_without_a_record_say_how_to_make_one(record):
    records = {target: replace(record, config=record.config | {"target": target}) for target in (3, 5, 7)}
    explorer = attack_explorer(records)
    assert list(explorer.first) == explorer.index["classes"] == list("0123456789")
    assert all("make records DIGITS=" + digit in explorer.first[digit]["missing"] for digit in "0124689")
    assert len(attack_explorer({}).first) == 10


def named(record, target, **config):
    """The same pictures, of one of twenty people."""
    people = [f"s{person}" for person in range(1, 21)]
    return replace(record, config=record.config | {"target": target, "classes": people} | config)


def test_classes_have_names_and_pictures_a_side(record, tmp_path):
    large = {
        name: np.repeat(np.repeat(getattr(record, name), 2, -1), 2, -2)[..., :48, :48]
        for name in ("samples", "final_samples", "private_samples")
    }
    explorer = attack_explorer({4: replace(named(record, 4), **large)})
    assert explorer.index["classes"][4] == "s5" and explorer.index["first"] == "4" and len(explorer.first) == 20
    frames = shown(explorer, 4)
    assert frames["side"] == 48 and picture(frames["fakes"]).shape == (2 * 48, 20 * 48)
    assert frames["private_title"] == "The victim's private images of the class s5"
    assert shown(explorer, 0)["missing"] == "There is no readable record of the class s1 in this run. It has s5."


def test_a_record_of_another_class_or_of_other_classes_is_refused(record, monkeypatch):
    with pytest.raises(ValueError, match="under 4 there is a record of the class 3"):
        attack_explorer({4: record})
    explorer = attack_explorer({3: record}, beside={"people": {3: named(record, 3)}})
    sent = []
    monkeypatch.setattr(explorer, "send", sent.append)
    explorer._on_message(None, {"kind": "load", "run": "people", "target": "3"}, [])
    assert "'people' is of other classes than the first" in sent[0]["record"]["missing"]


def test_images_of_ones_own_have_no_live_attack(record, tmp_path):
    assert attack_explorer({3: named(record, 3, dataset="faces")}, live_folder=tmp_path).can_train
    assert not attack_explorer({3: named(record, 3, dataset="own images")}, live_folder=tmp_path).can_train


def test_the_sentence_says_what_is_seen(record):
    sentence = "Round 5, class 3: 5 of 7 fakes are classified as 3. The probe is at 0.75 (real images 0.90)."
    assert describe(record, 1) == sentence
    record.metrics["probe"] = float("nan")
    assert describe(record, 1).endswith("The probe is not measured.")


def test_where_identifiers_have_looked_their_word_stands_in_the_place_of_the_probe(record):
    person = named(record, 4)
    person.metrics["identified"] = [0.0, 0.914]
    assert describe(person, 1) == (
        "Round 5. Networks that have learned from other photographs name s5 for 91% of the fakes (by chance: 5.0%)."
    )
    frames = shown(attack_explorer({4: person}), 4)
    assert list(frames["metrics"]) == ["identified", "recognition", "diversity", "accuracy"]
    assert anchors_of(person)["identified"] == [("chance", 0.05)]


def test_people_have_a_page_of_their_own(record):
    files = page_files({"attack": {3: record}}, {"attack": {4: named(record, 4)}})
    digits, people = (json.loads(files[f"{place}index.js"]()[20:-2]) for place in ("", "people/"))
    assert digits["other"] == "people" and digits["offered"] == list(range(10))
    assert people["other"] == "digits" and people["offered"] == [4] and people["classes"][4] == "s5"
    assert b'"../page.js"' in files["people/index.html"]() and b'"page.js"' in files["index.html"]()
    assert b'["attack", "4", {"side": 28' in files["people/runs/attack/4.js"]()
    assert "other" not in json.loads(page_files({"attack": {3: record}})["index.js"]()[20:-2])


def test_it_leaves_a_page_that_needs_no_kernel_and_no_network(record, monkeypatch):
    outputs = []
    monkeypatch.setattr("fl_gan_lib.explorer.widget.display", lambda output, **_: outputs.append(output))
    attack_explorer({3: record}, beside={"oracle": {}})._ipython_display_()
    page, widget = outputs
    assert "application/vnd.jupyter.widget-view+json" in widget
    html = page.data
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html)
    assert json.loads(data)["index"]["runs"] == ["attack"] and json.loads(data)["records"]["3"]["rounds"] == [1, 5]
    assert not re.findall(r"(?:src|href|import)\s*[=(]?\s*[\"']https?:", html)


class Ordered:
    """In place of the attacks: what they were told to do."""

    def __init__(self, monkeypatch) -> None:
        self.all: list = []
        monkeypatch.setattr(LiveAttacks, "start", lambda _, **what: self.all.append(what) or True)
        monkeypatch.setattr(LiveAttacks, "stop", lambda _: self.all.append("stop"))
        monkeypatch.setattr(LiveAttacks, "prepare", lambda _: None)


@pytest.fixture
def ordered(monkeypatch) -> Ordered:
    return Ordered(monkeypatch)


@pytest.mark.parametrize(
    "message",
    [
        *({"kind": "start", "target": digit} for digit in ("11", "-1", True, 3.0, 3, "../3", "", None)),
        *({"kind": "load", "run": name, "target": "3"} for name in ("none", "../attack", 3, ["attack"])),
        *({"kind": "load", "run": "attack", "target": target} for target in (3, "../3", "", None)),
        *({"kind": "start"}, {"kind": 1}, [], "start", None),
    ],
)
def test_nonsense_from_the_browser_starts_nothing(record, tmp_path, ordered, message):
    attack_explorer({3: record}, live_folder=tmp_path)._on_message(None, message, [])
    attack_explorer({3: record})._on_message(None, {"kind": "start", "target": "3"}, [])
    assert not ordered.all


def test_a_live_attack_is_started_and_stopped(tmp_path, ordered):
    explorer = attack_explorer({}, live_folder=tmp_path / "new")
    explorer._on_message(None, {"kind": "start", "target": "3"}, [])
    explorer._on_message(None, {"kind": "stop"}, [])
    path = str(tmp_path / "new" / "live_3.npz")
    assert ordered.all == [{"title": "Live attack on 3", "target": "3", "dataset": "mnist-5k", "path": path}, "stop"]


def test_a_live_attack_that_cannot_start_leaves_the_explorer_usable(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise OSError("no memory for another process")

    explorer, sent = attack_explorer({}, live_folder=tmp_path), []
    monkeypatch.setattr(LiveAttacks, "start", fail)
    monkeypatch.setattr(explorer, "send", sent.append)
    explorer._on_message(None, {"kind": "start", "target": "3"}, [])
    assert sent == [{"kind": "news", "part": {"running": False, "message": "no memory for another process"}}]


def test_an_attack_on_a_drawn_secret_needs_good_drawings(ordered, monkeypatch):
    widget, sent = draw_secret(), []
    monkeypatch.setattr(widget, "send", sent.append)
    drawn = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    for number in (7, 8):
        packed = base64.b64encode(drawn[:number].tobytes()).decode()
        widget._on_message(None, {"kind": "drawings", "drawings": packed}, [])
        assert np.array_equal(widget.pictures, drawn[:number]) and packed not in str(widget.get_state())
        widget._on_message(None, {"kind": "start"}, [])
    assert sent[0]["part"]["message"] == "there are 7 drawings: make 8 to 20 of one symbol"
    (what,) = ordered.all
    assert what["drawings"] == drawn.tobytes() and len(sent) == 1
