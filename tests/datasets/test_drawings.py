import numpy as np
import pytest

from fl_gan_lib.datasets.drawings import drawings


@pytest.fixture
def drawn() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)


def test_a_drawn_class_is_an_eleventh_beside_the_digits(drawn):
    train, test = drawings(drawn, "house")
    assert train.classes == (*map(str, range(10)), "house") and test.classes == train.classes
    assert (train.labels == 10).sum() == 400 and (test.labels == 10).sum() == 100
    again, _ = drawings(drawn, "house")
    other, _ = drawings(drawn, "house", seed=1)
    assert train == again and train != other


def test_drawings_for_the_test_are_not_in_the_training():
    """Each of these drawings is a square in a corner or an edge of its own, which no distortion takes to another."""
    drawn = np.zeros((8, 28, 28), np.uint8)
    places = [(0, 0), (0, 11), (0, 22), (11, 0), (11, 22), (22, 0), (22, 11), (22, 22)]
    for picture, (row, column) in zip(drawn, places, strict=True):
        picture[row : row + 6, column : column + 6] = 255

    def corners(part):
        images = part.images[part.labels == 10]
        return {
            place
            for place, (row, column) in enumerate(places)
            if (images[:, 0, row : row + 6, column : column + 6].mean((1, 2)) > -0.2).any()
        }

    train, test = map(corners, drawings(drawn))
    assert len(test) == 2 and len(train) == 6 and not train & test


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda drawn: drawn.astype(float), "drawings are float64 of shape"),
        (lambda drawn: drawn[:, :27], r"\(12, 27, 28\): they must be grey values, uint8 of shape \(n, 28, 28\)"),
        (lambda drawn: drawn[:7], "there are 7 drawings: make 8 to 20"),
        (lambda drawn: np.concatenate([drawn, drawn]), "there are 24 drawings"),
        (lambda drawn: drawn * (np.arange(12) != 2)[:, None, None].astype(np.uint8), "drawing 3 is empty"),
        (lambda drawn: drawn[:1].repeat(8, 0), "all drawings are the same picture"),
    ],
)
def test_what_is_wrong_with_drawings_is_said(drawn, wrong, words):
    with pytest.raises(ValueError, match=words):
        drawings(wrong(drawn))


def test_a_drawn_class_cannot_be_called_like_a_digit(drawn):
    with pytest.raises(ValueError, match="two classes are called '3'"):
        drawings(drawn, "3")
