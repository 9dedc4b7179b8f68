"""Accuracy, and every number about the leakage that the notebooks quote.

Two of them answer the two questions that matter, both on real images that nobody trained on: the probe (what do the
fakes tell?) and `tstr` (could they replace real images?). On MNIST, noise scores near 0 on both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.arguments import check_seed
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8
from fl_gan_lib.datasets import check_target, training_and_test
from fl_gan_lib.guards import check_images
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.judge import Judge, features_of, kept_features, load_judge, train_judge

# With fewer held-out images of the target, a Fréchet distance is all bias, and a share is a matter of single images.
MIN_HELD_OUT = 50
# With fewer fakes, the distance of as many real images is a matter of which ones.
MIN_SAMPLES = 100

# What `measure` returns.
NUMBERS = ("probe", "recognition", "frechet_distance", "frechet_real", "frechet_other", "diversity", "copy_ratio")

NUM_JUDGED = 500  # fakes, and real images of each other class beside them

# Two epochs of mnist-5k: after more of them the features are no better, and they take longer.
PROBE_STEPS = 125
RIDGE_ALPHA = 100.0  # any from 1 to 1,000 gives the same order

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


def explain_unmeasured(train: ImageDataset, test: ImageDataset, target: int, *, least: int = MIN_HELD_OUT) -> str:
    """Why some numbers about a class are not measured; empty if all are. They need `least` held-out images of it."""
    is_target = test.labels == target
    for count, whose in ((int(is_target.sum()), "the target"), (int((~is_target).sum()), "the other classes")):
        if count < least:
            return f"{count} held-out images of {whose} are too few: at least {least} are needed"
    if len(set(train.labels.tolist()) - {target}) < 2:
        return "there are training images of fewer than two other classes"
    return "" if (train.labels == target).any() else "there is no training image of the target"


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
class Probe:
    """What fakes tell about a class: a linear classifier learns the class from them alone, and is tried on real images.

    Its features are those of three judges that have never seen the class, so nothing but the fakes can teach it. Train
    on synthetic, test on real (Esteban et al. 2017, section 4), with a linear probe (Alain and Bengio 2016).

    Why three: with the features of one network, noise reaches an F1 of up to 0.26 on the digit 3, depending on the
    network's seed. It happens to lie where that network puts a class that it does not know. Three do not agree on such
    a place: with them, noise has 0 (notebooks/pages/results.md).

    Attributes:
        target: the number of the class.
        networks: judges of the training images of the other classes, of different seeds.
        others: up to 500 training images of each other class, as features of the networks, (n, 384).
        labels: of these, (n,).
        held_out: the test images of all classes, as features, (k, 384).
        is_target: which of these are of the class, (k,).
        anchors: by name of the anchor (`anchor_samples`), its `f1`.
    """

    target: int
    networks: tuple[Judge, ...]
    others: Tensor
    labels: Tensor
    held_out: Tensor
    is_target: Tensor
    anchors: dict[str, float] = field(default_factory=dict)

    def f1(self, images: Tensor) -> float:
        """The F1 score of the class on the test images, 0 to 1, for images (m, 1, S, S) in [-1, 1] that stand for it.

        The classifier gets about as many of them as there are images of another class. Precision, and with it F1,
        depends on how rare the class is among the test images: compare runs on one test set only.
        """
        # Not above: Flower's nodes, which never measure, start anew for each message.
        from sklearn.linear_model import RidgeClassifier
        from sklearn.metrics import f1_score

        images = _as_many_as(self.labels, images)
        features = torch.cat([self.others, features_of(self.networks, images)])
        labels = torch.cat([self.labels, torch.full((len(images),), self.target)])
        classifier = RidgeClassifier(alpha=RIDGE_ALPHA).fit(features.numpy(), labels.numpy())
        found = classifier.predict(self.held_out.numpy()) == self.target
        return float(f1_score(self.is_target, found, zero_division=0))


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
        probe: of the class; None where some numbers are not measured.
        unmeasured: why some numbers are not measured; empty if all are.
    """

    target: int
    judge: Judge
    features: Tensor
    members: Tensor
    held_out: Tensor
    pixel_distance: float
    halves: float
    other: float
    probe: Probe | None
    unmeasured: str

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
    train, test = (part.to(torch.device("cpu")) for part in training_and_test(dataset))
    judge = load_judge(train, on_disk=isinstance(dataset, str))
    reference = _reference_images(train, test, label)
    features = features_of([judge], reference)
    members, held_out = (part.images[part.labels == label].flatten(1) for part in (train, test))
    halves = other = math.nan
    unmeasured = explain_unmeasured(train, test, label)
    if not unmeasured:
        rng = torch.Generator().manual_seed(0)
        halvings = [features[torch.randperm(len(features), generator=rng)].chunk(2) for _ in range(10)]
        halves = float(np.mean([frechet_distance(a, b) for a, b in halvings]))
        of_another = _reference_images(train, test, _another_class(label, train))
        if len(of_another) > 1:
            other = frechet_distance(features_of([judge], of_another), features)
    return Yardsticks(
        target=label,
        judge=judge,
        features=features,
        members=members,
        held_out=held_out,
        pixel_distance=_pairwise_distance(reference.flatten(1)),
        halves=halves,
        other=other,
        probe=make_probe(train.classes[label], dataset),
        unmeasured=unmeasured,
    )


def make_probe(target: str | int, dataset: Dataset, *, least: int = MIN_HELD_OUT) -> Probe | None:
    """The `Probe` of a class, or None where there are too few images (`explain_unmeasured`).

    With fewer than 50 held-out images of the class its value is a matter of single ones. Whoever asks for it
    nevertheless (`least`) quotes it over many classes, with its spread.

    Its networks are trained on first use (some seconds). Those of a data set without a name stay in memory: nothing of
    somebody's own images is left on the disk.
    """
    label = check_target(target, dataset)
    train, test = (part.to(torch.device("cpu")) for part in training_and_test(dataset))
    if explain_unmeasured(train, test, label, least=least):
        return None
    others, on_disk = _other_classes(train, label), isinstance(dataset, str)
    networks = tuple(load_judge(others, seed=seed, steps=PROBE_STEPS, on_disk=on_disk) for seed in range(3))
    probe = Probe(
        target=label,
        networks=networks,
        others=kept_features(networks, others.images),
        labels=others.labels,
        held_out=kept_features(networks, test.images),
        is_target=test.labels == label,
    )
    anchors = {name: probe.f1(from_uint8(images)) for name, images in _anchor_samples(train, label).items()}
    return replace(probe, anchors=anchors)


def _other_classes(train: ImageDataset, label: int) -> ImageDataset:
    """Up to `NUM_JUDGED` images of each class but one."""
    others = [label_ for label_ in train.labels.unique().tolist() if label_ != label]
    return train.subset(torch.cat([(train.labels == other).nonzero()[:NUM_JUDGED, 0] for other in others]))


def _as_many_as(labels: Tensor, images: Tensor) -> Tensor:
    """The first images, about as many as there are labels of each class, so that no class outweighs the others."""
    return images[: round(len(labels) / len(labels.unique()))]


def anchor_samples(target: str | int, *, dataset: Dataset = "mnist-5k") -> dict[str, np.ndarray]:
    """What every number about fakes is to be read beside, to be measured in the same way as they are.

    Args:
        target: a class, its name or number.
        dataset: a name, or a training and a test set.

    Returns:
        By name, uint8 (n, S, S): `"noise"`, 500 images of uniform noise; `"another class"`, training images of the
        class half of the classes further on (the classifiers behind the probe and TSTR know them by their own name, as
        well); `"real images"`, those of the class itself.
    """
    return _anchor_samples(training_and_test(dataset)[0], check_target(target, dataset))


def _anchor_samples(train: ImageDataset, label: int) -> dict[str, np.ndarray]:
    another = _another_class(label, train)
    noise = np.random.default_rng(0).integers(0, 256, (NUM_JUDGED, train.side, train.side), dtype=np.uint8)
    real = {"another class": another, "real images": label}
    return {"noise": noise} | {
        name: to_uint8(train.images[train.labels == of_class][:NUM_JUDGED]) for name, of_class in real.items()
    }


def _another_class(label: int, train: ImageDataset) -> int:
    """Half of the classes further on, or the next one of which there are training images."""
    count = len(train.classes)
    further = [(label + count // 2 + step) % count for step in range(count)]
    return next((other for other in further if other != label and (train.labels == other).any()), label)


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
        `probe`: what the samples tell, see `Probe.f1`, 0 to 1. Noise is near 0; for the rest see `anchor_samples`.
        `recognition`: share of samples that the judge classifies as the target, 0 to 1. Never quote it alone: noise
        that was made for it reaches 1.
        `frechet_distance`: between the judge's features of the samples and of real images of the class, 0 and up.
        `frechet_real`, `frechet_other`: the same for as many real images of the class, and for another class's.
        `diversity`: mean pairwise pixel distance over that of real images; near 0 is mode collapse.
        `copy_ratio`: mean nearest-neighbour distance to the training images (the honest clients' own) over that to as
        many held-out images. Near 1 no copying shows, and that is all it says: noise has 1 too. If every sample were a
        copy of a training image, it would be about 0.75 on mnist-5k and 0.83 on mnist (a copy is the nearest in one of
        the equal shares only).
        NaN stands for "not measured": all but recognition and diversity, where there are too few images
        (`explain_unmeasured`); `frechet_real`, where there are fewer than 100 samples.

    Raises:
        ValueError: the samples have another shape or type, or are too few; there is no such class or data set.
    """
    if members is not None:
        check_images(members)
    return measure(samples, yardsticks(target, dataset), members)


def measure(samples: np.ndarray, real: Yardsticks, members: Tensor | None = None) -> dict[str, float]:
    """Like `evaluate_samples`, with yardsticks that were measured before."""
    side = round(real.held_out.shape[1] ** 0.5)
    images = _check_samples(samples, side)
    if members is not None and (not len(members) or members.shape[-1] != side):
        raise ValueError(f"members are of shape {tuple(members.shape)}: they must be (m, 1, {side}, {side}), m >= 1")
    features = features_of([real.judge], images)
    probe = distance = nearest = ratio = math.nan
    if real.probe is not None:
        probe = real.probe.f1(images)
        distance = frechet_distance(features, real.features)
        nearest = real.real_distance(len(images)) if len(images) >= MIN_SAMPLES else math.nan
        ratio = copy_ratio(
            images.flatten(1), real.members if members is None else members.flatten(1).cpu(), real.held_out
        )
    return {
        "probe": probe,
        "recognition": (real.judge.head(features).argmax(1) == real.target).float().mean().item(),
        "frechet_distance": distance,
        "frechet_real": nearest,
        "frechet_other": real.other,
        "diversity": _pairwise_distance(images.flatten(1)) / (real.pixel_distance or math.nan),
        "copy_ratio": ratio,
    }


def copy_ratio(images: Tensor, members: Tensor, held_out: Tensor) -> float:
    """Mean distance to the nearest member over that to the nearest of as many images that nobody trained on.

    The nearest of few is farther than the nearest of many. So the larger of the two sets is dealt out into shares of
    the smaller one's size, and the distances are the means over the shares.

    Args:
        images: (n, d), a picture a row.
        members: images that somebody trained on, (m, d), m >= 1.
        held_out: images of the same kind that nobody trained on, (k, d), k >= 1.

    Returns:
        Below 1 if copies are among the images. Near 1 there is no sign of them, and noise has 1 too.
    """
    size = min(len(members), len(held_out))
    to_members, to_held_out = (
        torch.stack(
            [torch.cdist(images, share).min(1).values.mean() for share in real.split(size) if len(share) == size]
        ).mean()
        for real in (members, held_out)
    )
    return (to_members / to_held_out).item()


def tstr(
    samples: np.ndarray,
    target: str | int,
    *,
    dataset: Dataset = "mnist-5k",
    seeds: Sequence[int] = (0, 1, 2),
    least: int = MIN_HELD_OUT,
) -> float:
    """Train on synthetic, test on real: could these fakes take the place of real images of a class?

    A judge learns the class from the samples alone, and the other classes from their training images (as many of each,
    500 at most). Its F1 score of the class on the test images is the answer (Esteban et al. 2017, section 4; as a
    classification accuracy score, Ravuri and Vinyals 2019). It takes some seconds a seed.

    Args:
        samples: uint8 of shape (n, S, S), at least 2; quote numbers from at least 500 only.
        target: the class that they stand for, its name or number.
        dataset: a name, or a training and a test set.
        seeds: of the classifiers, at least one. The recorded runs have one classifier each, with the seed of the run.
        least: held-out images of the class without which it is not measured, see `make_probe`.

    Returns:
        The median over the seeds, 0 to 1; NaN (not measured) where there are too few images (`explain_unmeasured`).

    Raises:
        ValueError: as for `evaluate_samples`, or there is no seed.
    """
    from sklearn.metrics import f1_score

    if not len(seeds):
        raise ValueError("seeds is empty: give at least one, for instance (0, 1, 2)")
    label = check_target(target, dataset)
    train, test = (part.to(torch.device("cpu")) for part in training_and_test(dataset))
    images = _check_samples(samples, train.side)
    if explain_unmeasured(train, test, label, least=least):
        return math.nan
    others = _other_classes(train, label)
    images = _as_many_as(others.labels, images)
    labels = torch.cat([others.labels, torch.full((len(images),), label)])
    mixed = ImageDataset(torch.cat([others.images, images]), labels, train.classes)
    scores = []
    for seed in seeds:
        classifier = train_judge(mixed, seed=check_seed(seed))
        found = torch.cat([classifier(batch).argmax(1) for batch in test.images.split(500)]) == label
        scores.append(f1_score(test.labels == label, found, zero_division=0))
    return float(np.median(scores))


def _check_samples(samples: np.ndarray, side: int) -> Tensor:
    """The samples as images (n, 1, S, S) in [-1, 1]; raises a ValueError if they are of another shape or type."""
    samples = np.asarray(samples)
    if samples.dtype != np.uint8 or samples.ndim != 3 or samples.shape[1:] != (side, side) or len(samples) < 2:
        raise ValueError(
            f"samples must be uint8 of shape (n, {side}, {side}) with n >= 2, and are {samples.dtype} of shape "
            f"{samples.shape}: to_uint8 makes them of images in [-1, 1]"
        )
    return from_uint8(samples)


def _reference_images(train: ImageDataset, test: ImageDataset, label: int) -> Tensor:
    # The Fréchet distance is biased upwards when images are few: the 100 held-out ones of mnist-5k are not enough.
    members, held_out = (part.images[part.labels == label] for part in (train, test))
    return held_out if len(held_out) >= 500 else torch.cat([members, held_out])


def _pairwise_distance(flat: Tensor) -> float:
    return torch.pdist(flat[:1000]).mean().item()
