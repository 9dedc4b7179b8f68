import io

import ipywidgets as widgets
import numpy as np
import pytest
from PIL import Image

from fl_gan_lib.figures import tile
from fl_gan_lib.widgets import attack_explorer, describe


def find(widget, kind):
    found = [widget] if isinstance(widget, kind) else []
    return found + [match for child in getattr(widget, "children", ()) for match in find(child, kind)]


def shown(picture: widgets.Image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture.value)))[::2, ::2]


def test_slider_and_buttons_change_what_is_shown(record):
    other = type(record)(**{**vars(record), "samples": 255 - record.samples, "config": {**record.config, "target": 5}})
    explorer = attack_explorer({3: record, 5: other})
    slider = find(explorer, widgets.SelectionSlider)[0]
    private, fakes, _numbers = find(explorer, widgets.Image)
    assert slider.value == 5
    assert np.array_equal(shown(private), tile(record.private_samples, 10))
    assert np.array_equal(shown(fakes), tile(record.samples[1], 10))

    slider.index = 0
    assert np.array_equal(shown(fakes), tile(record.samples[0], 10))
    assert any("Round 1, digit 3: the judge reads 25%" in html.value for html in find(explorer, widgets.HTML))

    buttons = find(explorer, widgets.Button)
    assert [button.disabled for button in buttons] == [digit not in (3, 5) for digit in range(10)]
    buttons[5].click()
    assert np.array_equal(shown(fakes), tile(other.samples[1], 10))
    assert [button.button_style for button in buttons].index("primary") == 5


def test_nothing_to_explore_says_what_to_do():
    with pytest.raises(ValueError, match="run_attack"):
        attack_explorer({})


def test_the_sentence_says_what_is_seen(record):
    assert describe(record, 1).startswith("Round 5, digit 3: the judge reads 75% of 7 fakes as a 3;")
