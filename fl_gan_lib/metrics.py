"""Accuracy, and every number about the leakage that the notebooks quote; most of them by the judge (`judge`)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.data import NUM_DIGITS, ImageDataset, check_digit, from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.judge import Judge, load_judge


@torch.no_grad()
def accuracy(model: nn.Module, dataset: ImageDataset) -> float:
    """The share of images in `dataset` whose largest logit is that of their label, from 0 to 1."""
    model.eval()
    dataset = dataset.to(next(model.parameters()).device)
    correct = sum(
        (model(images).argmax(1) == labels).sum().item()
        for images, labels in zip(dataset.images.split(500), dataset.labels.split(500), strict=True)
    )
    return correct / len(dataset)


def accuracies(model: nn.Module, test: ImageDataset, target: int) -> dict[str, float]:
    """The `accuracy` of `model` on all test images, and its `target_accuracy` on those of the target."""
    of_target = test.subset(torch.nonzero(test.labels == target).squeeze(1))
    return {"accuracy": accuracy(model, test), "target_accuracy": accuracy(model, of_target)}


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
    return distance.compute().item()


@cache
def _frechet_inception_distance() -> type:
    """With torchvision behind it, it takes longer to import than torch: not before it is needed."""
    with torchvision_that_fits():
        from torchmetrics.image.fid import FrechetInceptionDistance
    return FrechetInceptionDistance


@dataclass(frozen=True)
class Yardsticks:
    """Everything about the real images of one digit that a sample of fakes is compared with.

    Attributes:
        features: the judge's features of the reference images, (n, 128): on mnist-5k all 500 images of the digit, on
            mnist the test images.
        members: the training images of the digit, all in the hands of the honest clients, (m, 784).
        held_out: the test images of the digit, which nobody trained on, (k, 784).
        pixel_distance: mean pairwise pixel distance of the reference images.
        halves: Fréchet distance between two random halves of the reference images (mean over ten halvings).
        other: Fréchet distance from another digit's images (digit + 5 modulo 10) to the reference.
    """

    features: Tensor
    members: Tensor
    held_out: Tensor
    pixel_distance: float
    halves: float
    other: float

    def real_distance(self, num_samples: int) -> float:
        """The Fréchet distance that `num_samples` real images would have to the reference.

        For two sets of n and m images from one source the distance is all bias, and proportional to 1/n + 1/m (the
        1/n law of Chong and Forsyth 2020); `halves` measures the constant.
        """
        size = len(self.features)
        return self.halves * (1 / num_samples + 1 / size) / (4 / size)


@lru_cache(maxsize=32)
def yardsticks(digit: int, dataset: str) -> Yardsticks:
    """Measure the `Yardsticks` of a digit on first use, and keep them in memory."""
    train, test = load_dataset(dataset)
    judge = load_judge(dataset)
    reference = _reference_images(train, test, digit, dataset)
    features = _features(judge, reference)
    other = _features(judge, _reference_images(train, test, (digit + 5) % NUM_DIGITS, dataset))
    rng = torch.Generator().manual_seed(0)
    halvings = [features[torch.randperm(len(features), generator=rng)].chunk(2) for _ in range(10)]
    members, held_out = train.images_of(digit).flatten(1), test.images_of(digit).flatten(1)
    return Yardsticks(
        features=features,
        members=members,
        held_out=held_out,
        pixel_distance=_pairwise_distance(reference.flatten(1)),
        halves=float(np.mean([frechet_distance(a, b) for a, b in halvings])),
        other=frechet_distance(other, features),
    )


def evaluate_samples(
    samples: np.ndarray, target: int, *, dataset: str = "mnist-5k", members: Tensor | None = None
) -> dict[str, float]:
    """Measure how much of a digit a set of fakes gives away.

    Args:
        samples: uint8 of shape (n, 28, 28), at least 2; quote numbers from at least 500 only.
        target: the digit that the attacker was after, 0 to 9.
        dataset: the data set that the victim's images came from.
        members: the images of the digit that the honest clients trained on, (m, 1, 28, 28) in [-1, 1]; by default all
            training images of the digit.

    Returns:
        `recognition`: share of samples that the judge classifies as the target, 0 to 1. Never quote it alone.
        `frechet_distance`: between the judge's features of the samples and of real images of the digit, 0 and up.
        `frechet_real`, `frechet_other`: the same for as many real images of the digit, and for another digit's.
        `gap_closed`: where the distance lies between these two, 0 at another digit, 1 at the real thing.
        `diversity`: mean pairwise pixel distance over that of real images; near 0 is mode collapse.
        `membership_gap`: mean nearest-neighbour distance to the training images (the honest clients' own) over that to
        as many held-out images. Near 1 the class was learned; if every sample were a copy of a training image, it would
        be about 0.75 on mnist-5k and 0.83 on mnist (a copy is the nearest in one of the equal shares only).

    Raises:
        ValueError: the samples have another shape or type, are too few, or the target is no digit.
    """
    samples = np.asarray(samples)
    if samples.dtype != np.uint8 or samples.ndim != 3 or samples.shape[1:] != (28, 28) or len(samples) < 2:
        raise ValueError(
            f"samples must be uint8 of shape (n, 28, 28) with n >= 2, and are {samples.dtype} of shape {samples.shape}"
        )
    check_digit(target)
    real = yardsticks(target, dataset)
    judge = load_judge(dataset)
    images = from_uint8(samples)
    features = _features(judge, images)
    distance = frechet_distance(features, real.features)
    nearest = real.real_distance(len(samples))
    return {
        "recognition": (judge.head(features).argmax(1) == target).float().mean().item(),
        "frechet_distance": distance,
        "frechet_real": nearest,
        "frechet_other": real.other,
        "gap_closed": 1 - (distance - nearest) / (real.other - nearest),
        "diversity": _pairwise_distance(images.flatten(1)) / real.pixel_distance,
        "membership_gap": _membership_gap(
            images.flatten(1), real.members if members is None else members.flatten(1).cpu(), real.held_out
        ),
    }


def _reference_images(train: ImageDataset, test: ImageDataset, digit: int, dataset: str) -> Tensor:
    # The Fréchet distance is biased upwards when images are few: the 100 held-out ones of mnist-5k are not enough.
    if dataset == "mnist":
        return test.images_of(digit)
    return torch.cat([train.images_of(digit), test.images_of(digit)])


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
