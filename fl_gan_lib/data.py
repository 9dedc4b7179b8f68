"""Labelled images: what they look like in memory, and as grey values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fl_gan_lib.arguments import check_seed, real_number
from fl_gan_lib.classes import check_class_names, find_class
from fl_gan_lib.guards import check_images, check_labels, find_places


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Labelled grey-scale images, checked when the data set is made.

    Attributes:
        images: float32 of shape (N, 1, S, S) with values in [-1, 1], the range of a tanh output. The side S is a
            multiple of 4 from 16 to 64.
        labels: int64 of shape (N,), numbers of classes.
        classes: the name of each class; by default "0", "1" and so on, up to the largest label.

    Raises:
        ValueError: something is of another shape, type or range; the message says how to convert it.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        check_images(self.images)
        check_labels(self.labels, self.images)
        classes = self.classes
        if classes is None:
            classes = map(str, range(int(self.labels.max()) + 1 if len(self.labels) else 0))
        object.__setattr__(self, "classes", check_class_names(classes))
        if len(self.labels) and int(self.labels.max()) >= len(self.classes):
            raise ValueError(
                f"there is a label {int(self.labels.max())} and a name for {len(self.classes)} classes: labels are "
                "numbers of classes, from 0, and each class needs a name"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        names = ", ".join(self.classes[:12]) + ", ..." * (len(self.classes) > 12)
        return f"ImageDataset({len(self)} images, {self.side} x {self.side}, {len(self.classes)} classes: {names})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageDataset):
            return NotImplemented
        same = torch.equal(self.images, other.images) and torch.equal(self.labels, other.labels)
        return same and self.classes == other.classes

    @property
    def side(self) -> int:
        """The side of the images, in pixels."""
        return self.images.shape[-1]

    @classmethod
    def from_folder(cls, path: str | Path, *, side: int = 28) -> ImageDataset:
        """The PNG and JPEG files of a folder that has one sub-folder for each class.

        They are made grey, square and small by the rule of `datasets.folders.read_folder`.

        Args:
            path: the folder. The names of its sub-folders are the names of the classes, in natural order (s2 before
                s10).
            side: of the images in pixels, a multiple of 4 from 16 to 64.

        Raises:
            FileNotFoundError: there is no such folder.
            ValueError: there are fewer than two classes, or an empty one, or a file is no image; the message names it.
        """
        from fl_gan_lib.datasets.folders import read_folder

        pixels, labels, classes = read_folder(path, side=side)
        return cls(from_uint8(pixels), torch.from_numpy(labels), classes)

    def split(self, test_share: float = 0.2, *, seed: int = 0) -> tuple[ImageDataset, ImageDataset]:
        """A training and a test set: of each class, `test_share` of the images are held out at random, at least one.

        Raises:
            ValueError: the share is not between 0 and 1, or a class has a single image, or too few for this share.
        """
        share = real_number("test_share", test_share, above=0, most=1)
        rng = np.random.default_rng(check_seed(seed))
        parts: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
        for label in np.unique(self.labels.cpu()):
            members = rng.permutation(np.flatnonzero(self.labels.cpu() == label))
            held_out = max(1, round(share * len(members)))
            if held_out == len(members):
                raise ValueError(
                    f"the class {self.classes[label]!r} has {len(members)} images, and {held_out} would be held out: "
                    "give it more images, or a smaller test_share"
                )
            parts[0].append(members[held_out:])
            parts[1].append(members[:held_out])
        train, test = (self.subset(np.sort(np.concatenate(part or [np.array([], int)]))) for part in parts)
        return train, test

    def subset(self, indices: np.ndarray | Tensor | Sequence[int]) -> ImageDataset:
        """A copy of some of the images, so that a client never refers to anybody else's data.

        Args:
            indices: the places of the images, whole numbers from 0 to N - 1; or a mask, a truth value for each image.

        Raises:
            ValueError: they are neither.
        """
        indices = find_places(indices, self.labels)
        return self._with(self.images[indices], self.labels[indices])

    def label_of(self, target: str | int) -> int:
        """The number of a class: `target` is its name, or else its number; names win.

        Raises:
            ValueError: there is no such class.
        """
        return find_class(target, self.classes)

    def images_of(self, target: str | int) -> Tensor:
        """A copy of all images of a class (see `label_of`), of shape (n, 1, S, S)."""
        return self.images[self.labels == self.label_of(target)]

    def to(self, device: torch.device) -> ImageDataset:
        """The same data set on `device`."""
        return self._with(self.images.to(device), self.labels.to(device))

    def _with(self, images: Tensor, labels: Tensor) -> ImageDataset:
        """Of the same classes; not checked, as these images were checked before."""
        other = object.__new__(ImageDataset)
        for name, value in (("images", images), ("labels", labels), ("classes", self.classes)):
            object.__setattr__(other, name, value)
        return other


def to_uint8(images: Tensor) -> np.ndarray:
    """Images of shape (N, 1, S, S) in [-1, 1] as grey values: uint8 of shape (N, S, S)."""
    return ((images.detach().squeeze(1) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def from_uint8(pixels: np.ndarray | Tensor) -> Tensor:
    """The inverse of `to_uint8`: float32 of shape (N, 1, S, S) in [-1, 1].

    Raises:
        ValueError: the pixels are not uint8 of shape (N, S, S).
    """
    if not str(getattr(pixels, "dtype", "")).endswith("uint8") or pixels.ndim != 3:
        what = f"{pixels.dtype} of shape {tuple(pixels.shape)}" if hasattr(pixels, "dtype") else type(pixels).__name__
        raise ValueError(f"pixels are {what}: they must be grey values, uint8 of shape (N, S, S)")
    return torch.as_tensor(pixels).unsqueeze(1).float() / 127.5 - 1


def __getattr__(name: str) -> object:
    """`load_dataset` and the partitions can be imported from here, too: on first use, as their modules import this."""
    if name == "load_dataset":
        from fl_gan_lib import datasets as home
    elif name.startswith("partition_"):
        from fl_gan_lib import partitions as home
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(home, name)
