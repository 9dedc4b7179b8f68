"""Is it the person? Photographs that a federation never saw, and networks that learn to name people from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from itertools import combinations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import shuffled_batches
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.metrics import make_probe, tstr

HELD_OUT = 0.4  # of the ten photographs of each person: four, which the federation never sees
NUM_IDENTIFIERS = 3
STEPS = 500  # of the identifier: with four photographs of forty people, a hundred epochs


@lru_cache(maxsize=2)
def people(side: int = 32) -> tuple[ImageDataset, ImageDataset]:
    """The faces of AT&T, six photographs of each person for the federation and four for the `Identifier`.

    The two are kept: do not change them.

    Args:
        side: 32 or 64.
    """
    parts = load_dataset("faces" if side == 32 else f"faces-{side}")
    images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    return ImageDataset(images, labels, parts[0].classes).split(HELD_OUT, seed=1)


def vary(images: Tensor) -> Tensor:
    """Images as another photograph might have been: flipped or not, turned, moved and scaled a little, at random.

    Up to 5 degrees, 6 % of the side and 10 %, eight neighbours in the same way; what comes in at the edges is the
    edge's own grey. Gradients go through it.

    Args:
        images: (N, 1, S, S).
    """
    change = _variation(images.shape[-1])
    return torch.cat([change(some) for some in images.split(8)])


@cache
def _variation(side: int) -> Callable[[Tensor], Tensor]:
    with torchvision_that_fits():
        from torchvision.transforms import v2

    bilinear = v2.InterpolationMode.BILINEAR
    return v2.Compose(
        [
            v2.Pad(side // 4, padding_mode="edge"),
            v2.RandomHorizontalFlip(),
            # Of the padded image, which has one and a half times the side. A fill would write into it: no gradient.
            v2.RandomAffine(5, (0.04, 0.04), (0.9, 1.1), interpolation=bilinear, fill=None),
            v2.CenterCrop(side),
        ]
    )


class Identifier(nn.Sequential):
    """Names the person on an image, or nobody: (N, 1, S, S) in [-1, 1] to logits (N, num_people + 1).

    The last output is "nobody". The network differs from the federation's `Classifier` in its layers (small kernels,
    batch norm, ReLU, dropout), so that fooling the one does not mean fooling the other.

    Args:
        num_people: that it can name.
        side: S, of the images, a multiple of 4 from 16 to 64.
    """

    def __init__(self, num_people: int = 40, side: int = 32) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * (side // 8) ** 2, num_people + 1))


def train_identifier(photographs: ImageDataset, *, seed: int = 0, steps: int = STEPS) -> Identifier:
    """An `Identifier` that has learned from these photographs alone.

    They are varied (`vary`), made brighter or darker, richer or poorer in contrast, and noisy: four of a person are
    few. To each mini-batch of 32 come eight images of nobody (`of_nobody`). Without them, plain white is taken for some
    person or other with confidence (outlier exposure: Hendrycks et al. 2019).

    Args:
        photographs: of at least one person.
        seed: of the first weights, the order and the changes.
        steps: mini-batches, at least 2.
    """
    steps = whole_number("steps", steps, 2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Identifier(len(photographs.classes), photographs.side)
        optimizer = torch.optim.Adam(network.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
        for photos, names in shuffled_batches(photographs, 32, steps):
            images = vary(photos)
            others = of_nobody(images[:8])
            images = torch.cat([images, others])
            labels = torch.cat([names, torch.full((len(others),), len(photographs.classes))])
            contrast, light = 0.15 * torch.randn(2, len(images), 1, 1, 1)
            images = images * (1 + contrast) + light + 0.05 * torch.randn_like(images)
            loss = F.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval().requires_grad_(False)


def of_nobody(photographs: Tensor) -> Tensor:
    """As many images that show nobody: one grey, noise, soft blobs, or a photograph whose 16 squares are shuffled.

    Args:
        photographs: (N, 1, S, S) in [-1, 1], S a multiple of 4 from 16 to 64.
    """
    number, _, side, _ = photographs.shape
    grey = (2 * torch.rand(number, 1, 1, 1) - 1).expand_as(photographs)
    noise = 2 * torch.rand_like(photographs) - 1
    blobs = F.interpolate(2 * torch.rand(number, 1, side // 8, side // 8) - 1, size=side, mode="bilinear")
    squares = F.unfold(photographs, side // 4, stride=side // 4)  # (N, pixels, 16)
    order = torch.rand(number, 1, 16).argsort(2).expand_as(squares)
    shuffled = F.fold(squares.gather(2, order), side, side // 4, stride=side // 4)
    kinds = torch.stack([grey, noise, blobs, shuffled])
    return kinds[torch.randint(4, (number,)), torch.arange(number)]


def ranks(identifiers: Sequence[nn.Module], images: Tensor, person: int) -> np.ndarray:
    """For each image (n, 1, S, S), the place of a person among all answers, "nobody" included: int64 (n,), from 1.

    The order is that of the identifiers' mean log-probabilities. On fakes, two of other seeds may differ a lot.
    """
    answers = torch.stack([identifier(images).log_softmax(1) for identifier in identifiers]).mean(0)
    return ((answers > answers[:, person : person + 1]).sum(1) + 1).numpy()


def copying(fakes: np.ndarray, own: Tensor, held_out: Tensor) -> tuple[float, float]:
    """Do fakes lie nearer to the photographs that the federation trained on than to others of the same person?

    The mean distance of a fake to the nearest of as many photographs of either kind is compared (`distances`). Then the
    photographs are dealt out anew in every possible way, as if others had been held out: if it makes no difference
    which ones were in the federation, the true deal is like any other (an exact permutation test).

    Args:
        fakes: uint8 (n, S, S).
        own: photographs of the person in the federation, (m, 1, S, S).
        held_out: others, fewer than m, (k, 1, S, S).

    Returns:
        The mean distance to the own photographs over that to those held out, below 1 where there are copies; and the
        share of deals in which it is as small as in the true one, or smaller: small where fakes depend on these
        photographs.
    """
    all_of_them, count = range(len(own) + len(held_out)), len(held_out)
    apart_by = distances(fakes, torch.cat([own, held_out]))
    nearest = {
        chosen: apart_by[:, list(chosen)].min(1).values.mean().item() for chosen in combinations(all_of_them, count)
    }

    def ratio(apart: tuple[int, ...]) -> float:
        others = sorted(set(all_of_them) - set(apart))
        return float(np.mean([nearest[chosen] for chosen in combinations(others, count)])) / nearest[apart]

    true = ratio(tuple(all_of_them)[len(own) :])
    return true, float(np.mean([ratio(apart) <= true for apart in nearest]))


def distances(fakes: np.ndarray, photographs: Tensor) -> Tensor:
    """Between each fake and each photograph, (n, m), from 0 (the same) to 2 (a negative).

    Brightness and contrast are taken out first, as fakes have more of both.

    Args:
        fakes: uint8 (n, S, S).
        photographs: (m, 1, S, S) in [-1, 1].
    """
    flat = [images.flatten(1) for images in (from_uint8(fakes), photographs)]
    return torch.cdist(*(F.normalize(images - images.mean(1, keepdim=True)) for images in flat))


@lru_cache(maxsize=2)
def load_identifiers(side: int = 32) -> tuple[Identifier, ...]:
    """Three that have learned from the photographs that are held out of `people`; trained once in each process."""
    return tuple(train_identifier(people(side)[1], seed=seed) for seed in range(NUM_IDENTIFIERS))


def identify(fakes: np.ndarray, person: str, *, side: int = 32) -> dict[str, float]:
    """What networks that have learned from other photographs say of fakes, uint8 (n, S, S).

    Returns:
        `identified`: for which share of them they name this person, of forty; `median_rank`: of the person.
    """
    train, _ = people(side)
    found = ranks(load_identifiers(side), from_uint8(fakes), train.label_of(person))
    return {"identified": float((found == 1).mean()), "median_rank": float(np.median(found))}


def judge_likeness(fakes: np.ndarray, person: str, seed: int, *, side: int = 32) -> dict[str, float]:
    """`probe` and `tstr` on four held-out photographs of the person (quote them over many people), and `copying`."""
    train, held_out = people(side)
    probe = make_probe(person, (train, held_out), least=1)
    ratio, share = copying(fakes, train.images_of(person), held_out.images_of(person))
    return {
        "probe": probe.f1(from_uint8(fakes)),
        "tstr": tstr(fakes, person, dataset=(train, held_out), seeds=[seed], least=1),
        "copy_ratio": ratio,
        "copy_share": share,
    }
