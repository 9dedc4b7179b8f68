"""Accuracy, and every number about the leakage that the notebooks quote; most of them by the judge (`judge`)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets import check_target, training_and_test
from fl_gan_lib.guards import check_images
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.judge import Judge, load_judge

# With fewer held-out images of the target, a Fréchet distance is all bias, and a share is a matter of single images.
MIN_HELD_OUT = 50
# With fewer fakes, the distance of as many real images is a matter of which ones.
MIN_SAMPLES = 100

Dataset = str | tuple[ImageDataset, ImageDataset]  # a name, or a training and a test set


@torch.no_grad()
def accuracy(model: nn.Module, dataset: ImageDataset) -> float:
    """The share of images in `dataset` whose largest logit is that of their label, from 0 to 1; at least one image."""
    if not len(dataset):
        raise ValueError("dataset is empty: an accuracy needs at least one image")
    model.eval()
    dataset = dataset.to(next(model.parameters()).device)
    correct = sum(
        (model(images).argmax(1) == labels).sum().item()
        for images, labels in zip(dataset.images.split(500), dataset.labels.split(500), strict=True)
    )
    return correct / len(dataset)


def accuracies(model: nn.Module, test: ImageDataset, target: int) -> dict[str, float]:
    """The `accuracy` of `model` on all test images, and its `target_accuracy` on those of the target.

    The latter is NaN (not measured) where there are fewer than 50 of them.
    """
    of_target = test.subset(test.labels == target)
    share = accuracy(model, of_target) if len(of_target) >= MIN_HELD_OUT else math.nan
    return {"accuracy": accuracy(model, test), "target_accuracy": share}


def explain_unmeasured(num_held_out: int) -> str:
    """Why some numbers are not measured; empty if all are.

    Args:
        num_held_out: how many images of the target nobody trained on.
    """
    if num_held_out >= MIN_HELD_OUT:
        return ""
    return f"{num_held_out} held-out images of the target are too few: at least {MIN_HELD_OUT} are needed"


def frechet_distance(features: Tensor, other: Tensor) -> float:
    """The Fréchet distance between two sets of features, each fitted by a Gaussian (Heusel et al. 2017, eq. 6).

    Args:
        features: of shape (n, d), at least two rows.
        other: of shape (m, d), at least two rows.

    Raises:
        ImportError: torch and torchvision do not fit each other.
    """
    extractor = nn.Identity()
    extractor.num_features = features.shape[1]
    distance = _frechet_inception_distance()(feature=extractor)
    distance.update(other.double(), real=True)
    distance.update(features.double(), real=False)
    return max(0.0, distance.compute().item())  # rounding takes that of a set to itself below 0


@cache
def _frechet_inception_distance() -> type:
    """With torchvision behind it, it takes longer to import than torch: not before it is needed."""
    with torchvision_that_fits():
        from torchmetrics.image.fid import FrechetInceptionDistance
    return FrechetInceptionDistance


@dataclass(frozen=True, eq=False)
class Yardsticks:
    """Everything about the real images of one class that a sample of fakes is compared with.

    Attributes:
        target: the number of the class.
        judge: of the data set.
        features: the judge's features of the reference images, (n, 128): the test images of the class, and the training
            images too where those are fewer than 500.
        members: the training images of the class, all in the hands of the honest clients, (m, S * S).
        held_out: the test images of the class, which nobody trained on, (k, S * S).
        pixel_distance: mean pairwise pixel distance of the reference images.
        halves: Fréchet distance between two random halves of the reference images (mean over ten halvings); NaN (not
            measured) where there are fewer than 50 held-out images of the class.
        other: Fréchet distance from another class's images (half of the classes further on) to the reference; NaN
            likewise.
    """

    target: int
    judge: Judge
    features: Tensor
    members: Tensor
    held_out: Tensor
    pixel_distance: float
    halves: float
    other: float

    @property
    def unmeasured(self) -> str:
        """Why some numbers are not measured; empty if all are."""
        return explain_unmeasured(len(self.held_out))

    def real_distance(self, num_samples: int) -> float:
        """The Fréchet distance that `num_samples` real images would have to the reference.

        For two sets of n and m images from one source the distance is all bias, and proportional to 1/n + 1/m (the
        1/n law of Chong and Forsyth 2020); `halves` measures the constant.
        """
        size = len(self.features)
        return self.halves * (1 / num_samples + 1 / size) / (4 / size)


def yardsticks(target: str | int, dataset: Dataset) -> Yardsticks:
    """The `Yardsticks` of a class. For a data set that has a name they are measured once and kept in memory."""
    label = check_target(target, dataset)
    return _named_yardsticks(label, dataset) if isinstance(dataset, str) else _measure_yardsticks(label, dataset)


@lru_cache(maxsize=64)
def _named_yardsticks(label: int, dataset: str) -> Yardsticks:
    return _measure_yardsticks(label, dataset)


def _measure_yardsticks(label: int, dataset: Dataset) -> Yardsticks:
    train, test = training_and_test(dataset)
    train, test = train.to(torch.device("cpu")), test.to(torch.device("cpu"))
    judge = load_judge(train)
    reference = _reference_images(train, test, label)
    features = _features(judge, reference)
    members, held_out = (part.images[part.labels == label].flatten(1) for part in (train, test))
    halves = other = math.nan
    if not explain_unmeasured(len(held_out)):
        rng = torch.Generator().manual_seed(0)
        halvings = [features[torch.randperm(len(features), generator=rng)].chunk(2) for _ in range(10)]
        halves = float(np.mean([frechet_distance(a, b) for a, b in halvings]))
        another = (label + len(train.classes) // 2) % len(train.classes)
        of_another = _reference_images(train, test, another)
        if len(of_another) > 1:
            other = frechet_distance(_features(judge, of_another), features)
    return Yardsticks(
        target=label,
        judge=judge,
        features=features,
        members=members,
        held_out=held_out,
        pixel_distance=_pairwise_distance(reference.flatten(1)),
        halves=halves,
        other=other,
    )


def evaluate_samples(
    samples: np.ndarray, target: str | int, *, dataset: Dataset = "mnist-5k", members: Tensor | None = None
) -> dict[str, float]:
    """Measure how much of a class a set of fakes gives away.

    Args:
        samples: uint8 of shape (n, S, S), at least 2; quote numbers from at least 500 only.
        target: the class that the attacker was after, its name or number.
        dataset: the data set that the victim's images came from: a name, or a training and a test set.
        members: the images of the class that the honest clients trained on, (m, 1, S, S) in [-1, 1]; by default all
            training images of the class.

    Returns:
        `recognition`: share of samples that the judge classifies as the target, 0 to 1. Never quote it alone.
        `frechet_distance`: between the judge's features of the samples and of real images of the class, 0 and up.
        `frechet_real`, `frechet_other`: the same for as many real images of the class, and for another class's.
        `gap_closed`: where the distance lies between these two, 0 at another class, 1 at the real thing.
        `diversity`: mean pairwise pixel distance over that of real images; near 0 is mode collapse.
        `membership_gap`: mean nearest-neighbour distance to the training images (the honest clients' own) over that to
        as many held-out images. Near 1 the class was learned; if every sample were a copy of a training image, it would
        be about 0.75 on mnist-5k and 0.83 on mnist (a copy is the nearest in one of the equal shares only).
        NaN stands for "not measured": all but recognition and diversity, where there are fewer than 50 held-out images
        of the class; gap closed and `frechet_real`, where there are fewer than 100 samples; gap closed, where the other
        class's images are no farther than real ones.

    Raises:
        ValueError: the samples have another shape or type, or are too few; there is no such class or data set.
    """
    if members is not None:
        check_images(members)
    return measure(samples, yardsticks(target, dataset), members)


def measure(samples: np.ndarray, real: Yardsticks, members: Tensor | None = None) -> dict[str, float]:
    """Like `evaluate_samples`, with yardsticks that were measured before."""
    samples = np.asarray(samples)
    side = round(real.held_out.shape[1] ** 0.5)
    if samples.dtype != np.uint8 or samples.ndim != 3 or samples.shape[1:] != (side, side) or len(samples) < 2:
        raise ValueError(
            f"samples must be uint8 of shape (n, {side}, {side}) with n >= 2, and are {samples.dtype} of shape "
            f"{samples.shape}: to_uint8 makes them of images in [-1, 1]"
        )
    if members is not None and (not len(members) or members.shape[-1] != side):
        raise ValueError(f"members are of shape {tuple(members.shape)}: they must be (m, 1, {side}, {side}), m >= 1")
    images = from_uint8(samples)
    features = _features(real.judge, images)
    distance = nearest = gap = math.nan
    if not real.unmeasured:
        distance = frechet_distance(features, real.features)
        nearest = real.real_distance(len(samples)) if len(samples) >= MIN_SAMPLES else math.nan
        gap = _membership_gap(
            images.flatten(1), real.members if members is None else members.flatten(1).cpu(), real.held_out
        )
    return {
        "recognition": (real.judge.head(features).argmax(1) == real.target).float().mean().item(),
        "frechet_distance": distance,
        "frechet_real": nearest,
        "frechet_other": real.other,
        # Where another class's images are no farther than real ones, there is no gap to close.
        "gap_closed": 1 - (distance - nearest) / (real.other - nearest) if real.other > nearest else math.nan,
        "diversity": _pairwise_distance(images.flatten(1)) / (real.pixel_distance or math.nan),
        "membership_gap": gap,
    }


def _reference_images(train: ImageDataset, test: ImageDataset, label: int) -> Tensor:
    # The Fréchet distance is biased upwards when images are few: the 100 held-out ones of mnist-5k are not enough.
    members, held_out = (part.images[part.labels == label] for part in (train, test))
    return held_out if len(held_out) >= 500 else torch.cat([members, held_out])


def _features(judge: Judge, images: Tensor) -> Tensor:
    return torch.cat([judge.features(batch) for batch in images.split(500)])


def _pairwise_distance(flat: Tensor) -> float:
    return torch.pdist(flat[:1000]).mean().item()


def _membership_gap(flat: Tensor, members: Tensor, held_out: Tensor) -> float:
    # The nearest of few is farther than the nearest of many: compare with shares of one size, all in turn.
    size = min(len(members), len(held_out))
    to_members, to_held_out = (
        torch.stack(
            [torch.cdist(flat, share).min(1).values.mean() for share in real.split(size) if len(share) == size]
        ).mean()
        for real in (members, held_out)
    )
    return (to_members / to_held_out).item()
