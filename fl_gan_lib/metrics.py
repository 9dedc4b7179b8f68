"""Accuracy, the independent judge, and every number about the leakage that the notebooks quote."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import NUM_DIGITS, ImageDataset, check_digit, from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.recording import files

# How a judge is trained; after how many epochs depends on the number of images.
JUDGE_RECIPE = {"epochs": {"mnist-5k": 12, "mnist": 2}, "batch_size": 64, "max_learning_rate": 4e-3, "seed": 0}


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


class Judge(nn.Module):
    """A CNN that classifies digits, trained on real images alone and never shown to the attack.

    Takes images of shape (N, 1, 28, 28) in [-1, 1] and returns logits of shape (N, 10). It differs from the
    federation's `Classifier` (kernels, activation, dropout), so that fooling the one does not mean fooling the other.
    """

    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 32, 3, padding=1),  # (N, 32, 28, 28)
            nn.MaxPool2d(2),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),  # (N, 64, 14, 14)
            nn.MaxPool2d(2),  # (N, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (N, 3136)
            nn.Dropout(0.3),
            nn.Linear(64 * 7 * 7, self.num_features),  # (N, 128)
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(self.num_features, NUM_DIGITS))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer: float32 of shape (N, 128), not negative."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@lru_cache(maxsize=2)
def load_judge(dataset: str) -> Judge:
    """The judge for a data set, trained on its training images on first use (about 10 s).

    It is kept in memory, and for other processes in `~/.cache/fl_gan_lib`. Another computer, torch or number of threads
    gives other bits: each has a judge of its own.
    """
    with torch.random.fork_rng():
        judge = Judge()
    kept = _judge_file(dataset, judge)
    try:
        _, weights = files.unpack(kept.read_bytes())
        judge.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except (OSError, RuntimeError, ValueError):  # not there, or not whole
        judge = _train_judge(dataset)
        weights = {name: tensor.numpy() for name, tensor in judge.state_dict().items()}
        if kept.is_absolute():  # there is a home
            with contextlib.suppress(OSError):
                files.write_atomically(kept, files.pack({}, weights))
    return judge.eval().requires_grad_(False)


def _judge_file(dataset: str, judge: Judge) -> Path:
    """Named after all that the trained weights depend on."""
    here = torch.__version__, torch.get_num_threads(), platform.node(), platform.machine()
    digest = hashlib.sha256(repr((dataset, str(judge), JUDGE_RECIPE, here)).encode()).hexdigest()
    return Path(os.path.expanduser("~"), ".cache", "fl_gan_lib", f"judge_{digest[:16]}.npz")


def _train_judge(dataset: str) -> Judge:
    train, _ = load_dataset(dataset)
    epochs, batch_size = JUDGE_RECIPE["epochs"][dataset], JUDGE_RECIPE["batch_size"]
    steps = len(train) // batch_size  # an epoch
    with torch.random.fork_rng():
        torch.manual_seed(JUDGE_RECIPE["seed"])
        judge = Judge()
        optimizer = torch.optim.Adam(judge.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=JUDGE_RECIPE["max_learning_rate"], total_steps=epochs * steps
        )
        for _ in range(epochs):
            for batch in torch.randperm(len(train)).split(batch_size)[:steps]:
                loss = F.cross_entropy(judge(train.images[batch]), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return judge


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
