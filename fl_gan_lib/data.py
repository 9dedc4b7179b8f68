"""Labelled images: what they look like in memory, and as grey values."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

NUM_DIGITS = 10


@dataclass(frozen=True)
class ImageDataset:
    """Labelled grey-scale images.

    Attributes:
        images: float32 of shape (N, 1, 28, 28) with values in [-1, 1], the range of a tanh output.
        labels: int64 of shape (N,), digits 0 to 9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray | Tensor) -> ImageDataset:
        """A copy of the images at `indices`, so that a client never refers to anybody else's data."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        return ImageDataset(self.images[indices], self.labels[indices])

    def images_of(self, digit: int) -> Tensor:
        """All images with the label `digit`, of shape (n, 1, 28, 28)."""
        return self.images[self.labels == digit]

    def to(self, device: torch.device) -> ImageDataset:
        """The same data set on `device`."""
        return ImageDataset(self.images.to(device), self.labels.to(device))


def to_uint8(images: Tensor) -> np.ndarray:
    """Images of shape (N, 1, 28, 28) in [-1, 1] as grey values: uint8 of shape (N, 28, 28)."""
    return ((images.detach().squeeze(1) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def from_uint8(pixels: np.ndarray) -> Tensor:
    """The inverse of `to_uint8`: float32 of shape (N, 1, 28, 28) in [-1, 1]."""
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32)).unsqueeze(1) / 127.5 - 1


def check_digit(digit: int) -> int:
    """The digit; raises a ValueError unless it is a whole number from 0 to 9."""
    if isinstance(digit, bool) or not isinstance(digit, Integral) or digit not in range(NUM_DIGITS):
        raise ValueError(f"the target is {digit!r}: it must be a digit from 0 to 9")
    return int(digit)


def __getattr__(name: str) -> object:
    """`load_dataset` and the partitions can be imported from here, too: on first use, as their modules import this."""
    if name == "load_dataset":
        from fl_gan_lib import datasets as home
    elif name.startswith("partition_"):
        from fl_gan_lib import partitions as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
