import numpy as np

from fl_gan_lib.data import from_uint8, to_uint8


def test_subset_is_a_copy(tiny_dataset):
    part = tiny_dataset.subset(np.array([3, 4]))
    part.images.zero_()
    assert tiny_dataset.images[3].abs().sum() > 0


def test_uint8_round_trip_is_exact():
    pixels = np.arange(784, dtype=np.uint8).reshape(1, 28, 28)
    assert np.array_equal(to_uint8(from_uint8(pixels)), pixels)
