"""A class that somebody has drawn: a few drawings of one symbol, beside the ten digits of mnist-5k."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fl_gan_lib.arguments import check_seed
from fl_gan_lib.classes import check_class_names
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.drawn import SIDE, check_drawings
from fl_gan_lib.imports import torchvision_that_fits

NUM_TRAINING, NUM_TEST = 400, 100  # as many as mnist-5k has of a digit


def drawings(pictures: np.ndarray, name: str = "secret", *, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
    """The ten digits of mnist-5k, and a drawn symbol as an eleventh class.

    A few drawings become many: each is turned (up to 10 degrees), moved (up to 2 pixels) and scaled (up to a tenth) at
    random. A quarter of the drawings, two at least, are kept for the test images, so that what is measured there is not
    known by heart.

    Args:
        pictures: uint8 (n, 28, 28), 8 to 20 drawings of one symbol, white on black, centred and scaled as MNIST's
            digits are (`drawn.check_drawings`).
        name: of the class.
        seed: of which drawings are kept for the test, and of the distortions.

    Returns:
        The training set (400 images of each class) and the test set (100 of each).

    Raises:
        ValueError: the pictures are of another shape or type, too few or too many, empty or all alike; or the name is
            that of a digit, or cannot be one.
    """
    pictures = check_drawings(pictures)
    rng = np.random.default_rng(check_seed(seed))
    train, test = load_dataset("mnist-5k")
    classes = check_class_names((*train.classes, name))
    order = rng.permutation(len(pictures))
    num_held_out = max(2, round(len(pictures) / 4))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return tuple(
            _with_class(part, _vary(from_uint8(pictures[chosen]), number), classes)
            for part, chosen, number in (
                (train, order[num_held_out:], NUM_TRAINING),
                (test, order[:num_held_out], NUM_TEST),
            )
        )


def _vary(images: Tensor, number: int) -> Tensor:
    """So many images, made in turn from (n, 1, S, S) of them."""
    with torchvision_that_fits():
        from torchvision.transforms.v2 import InterpolationMode, RandomAffine

    affine = RandomAffine(
        10, translate=(2 / SIDE, 2 / SIDE), scale=(0.9, 1.1), fill=-1, interpolation=InterpolationMode.BILINEAR
    )
    return torch.stack([affine(images[place % len(images)]) for place in range(number)])


def _with_class(digits: ImageDataset, images: Tensor, classes: tuple[str, ...]) -> ImageDataset:
    labels = torch.full((len(images),), len(digits.classes))
    return ImageDataset(torch.cat([digits.images, images]), torch.cat([digits.labels, labels]), classes)
