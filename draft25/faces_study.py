"""The attack on people: how often another network names the person, and how that depends on the recipe.

Draft for `fl_gan_lib/studies/faces.py`. `python draft25/faces_study.py tune out.csv` runs the sweep on the five people
that the recipe may be tuned on, one thread a process; it goes on where it was.
"""

from __future__ import annotations

import sys
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.attack import build_federation
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import federate
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.models import LATENT_DIM
from fl_gan_lib.studies.sweep import Job, Result, sweep

TUNED_ON = ("s1", "s5", "s11", "s21", "s32")
REPORTED = ("s2", "s7", "s10", "s13", "s17", "s20", "s25", "s29", "s35", "s40")  # fixed before any run on them
HELD_OUT = 0.4  # four photographs of each person, which the federation never sees
NUM_IDENTIFIED = 200  # fakes
EPOCHS = 150


@lru_cache(maxsize=4)
def people(side: int = 32) -> tuple[ImageDataset, ImageDataset]:
    """Six photographs of each person for the federation, and four for the network that identifies."""
    parts = load_dataset("faces" if side == 32 else f"faces-{side}")
    images, labels = (torch.cat([getattr(part, name) for part in parts]) for name in ("images", "labels"))
    return ImageDataset(images, labels, parts[0].classes).split(HELD_OUT, seed=1)


class Identifier(nn.Sequential):
    """Names the person on a photograph: (N, 1, S, S) in [-1, 1] to (N, 40) logits. It is of another kind than the
    federation's model, and learns from photographs that the federation never sees."""

    def __init__(self, num_people: int = 40, side: int = 32) -> None:
        layers: list[nn.Module] = []
        channels = 1
        for width in (32, 64, 128):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(128 * (side // 8) ** 2, num_people))


def train_identifier(photographs: ImageDataset, *, seed: int = 0, epochs: int = EPOCHS) -> Identifier:
    """An `Identifier` of these photographs, which are flipped, turned, scaled, lit and blurred at random each time."""
    with torchvision_that_fits():
        from torchvision.transforms import v2

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vary = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomAffine(5, translate=(0.06, 0.06), scale=(0.9, 1.1))])
        network = Identifier(len(photographs.classes), photographs.side)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        for _ in range(epochs):
            for batch in torch.randperm(len(photographs)).split(32):
                images = torch.stack([vary(image) for image in photographs.images[batch]])
                light = torch.randn(2, len(batch), 1, 1, 1) * 0.15
                images = images * (1 + light[0]) + light[1] + 0.05 * torch.randn_like(images)
                loss = F.cross_entropy(network(images), photographs.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def ranks(network: nn.Module, images: Tensor, target: int) -> np.ndarray:
    """For each image, the place of the person among all that the network could name; 1 is the first: int (n,)."""
    logits = network(images)
    return ((logits > logits[:, target : target + 1]).sum(1) + 1).numpy()


@lru_cache(maxsize=4)
def _identifier(side: int) -> Identifier:
    return train_identifier(people(side)[1])


def identified_attack(person: str, seed: int, *, rounds: int, marks: tuple[int, ...], **options: Any) -> Result:
    """The attack on a person; a row for each round of `marks`."""
    train, _ = people()
    target, network = train.label_of(person), _identifier(train.side)
    latents = torch.randn(NUM_IDENTIFIED, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
    steps, fakes = options.pop("generator_steps", 12), options.pop("fakes_per_image", 0.25)
    from fl_gan_lib.attack import GANAttacker

    attacker = partial(GANAttacker, generator_steps=steps, fakes_per_image=fakes)
    model, clients = build_federation(
        train, person, num_rounds=rounds, seed=seed, device="cpu", make_attacker=attacker, **options
    )
    rows, last = [], None
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        if round.number in marks or round.number == rounds:
            last = clients[-1].generator.render(latents)
            found = ranks(network, from_uint8(last), target)
            rows.append({"round": round.number, "rank_1": (found == 1).mean(), "median_rank": float(np.median(found))})
    return pd.DataFrame(rows), last[:10]


def settings() -> dict[str, Job]:
    """The recipe of the digits, and what may suit faces better; the rounds matter, as the rate falls with them."""
    marks = (30, 50, 75, 100, 150)
    return {
        f"{rounds} rounds, {steps} steps, {fakes} fakes": partial(
            identified_attack, rounds=rounds, marks=marks, generator_steps=steps, fakes_per_image=fakes
        )
        for rounds in (75, 150)
        for steps in (6, 12, 24)
        for fakes in (0.25, 1.0)
    }


if __name__ == "__main__" and sys.argv[1] == "tune":
    chosen = settings()
    jobs = {(name, person, 0): partial(job, person, 0) for name, job in chosen.items() for person in TUNED_ON}
    pictures = {f"{name}, {person}": (name, person, 0) for name in chosen for person in TUNED_ON}
    sweep(jobs, ("setting", "person", "seed"), sys.argv[2], num_workers=2, pictures=pictures)
