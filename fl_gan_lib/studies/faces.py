"""The attack on people, and whether another network recognises them in what it draws (notebook 08)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, lru_cache, partial
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.attack import run_attack
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.defences import PrivateClient, WithholdingClient, coordinate_median
from fl_gan_lib.federation import Client, federate, shuffled_batches
from fl_gan_lib.imports import torchvision_that_fits
from fl_gan_lib.metrics import accuracy, anchor_samples, make_probe, tstr
from fl_gan_lib.models import LATENT_DIM, Classifier, Generator
from fl_gan_lib.recording.recorder import snapshot_rounds
from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.baselines import invert, memorise, run_oracle, train_honest
from fl_gan_lib.studies.sweep import Job, Result, sweep
from fl_gan_lib.studies.variants import PriorAttacker

HELD_OUT = 0.4  # of the ten photographs of each person: four, which the federation never sees
NUM_IDENTIFIERS = 3
STEPS = 500  # of the identifier: with four photographs of forty people, a hundred epochs
ROUNDS = 300


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
        side: S, of the images, a multiple of 8.
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
        for photos, people in shuffled_batches(photographs, 32, steps):
            images = vary(photos)
            others = of_nobody(images[:8])
            images = torch.cat([images, others])
            labels = torch.cat([people, torch.full((len(others),), len(photographs.classes))])
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
        photographs: (N, 1, S, S) in [-1, 1], S a multiple of 8.
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

    The mean distance of a fake to the nearest of as many photographs of either kind is compared. Brightness and
    contrast are taken out first, as fakes have more of it. Then the photographs are dealt out anew in every possible
    way, as if others had been held out: without copying, the true deal is like any other (an exact permutation test).

    Args:
        fakes: uint8 (n, S, S).
        own: photographs of the person in the federation, (m, 1, S, S).
        held_out: others, fewer than m, (k, 1, S, S).

    Returns:
        The mean distance to the own photographs over that to those held out, below 1 where there are copies; and the
        share of deals in which it is as small as in the true one, or smaller: small where there are copies.
    """
    all_of_them, count = range(len(own) + len(held_out)), len(held_out)
    distances = torch.cdist(_normalised(from_uint8(fakes)), _normalised(torch.cat([own, held_out])))
    nearest = {
        chosen: distances[:, list(chosen)].min(1).values.mean().item() for chosen in combinations(all_of_them, count)
    }

    def ratio(apart: tuple[int, ...]) -> float:
        others = sorted(set(all_of_them) - set(apart))
        return float(np.mean([nearest[chosen] for chosen in combinations(others, count)])) / nearest[apart]

    true = ratio(tuple(all_of_them)[len(own) :])
    return true, float(np.mean([ratio(apart) <= true for apart in nearest]))


def _normalised(images: Tensor) -> Tensor:
    flat = images.flatten(1)
    return F.normalize(flat - flat.mean(1, keepdim=True))


class SmoothGenerator(nn.Sequential):
    """`models.Generator` without two things that faces do not have: dots, and a frame.

    Transposed convolutions leave a pattern of dots, so each is followed by a blur (as in StyleGAN: Karras et al. 2019).
    At the edges the pattern is another one, so two pixels on each side are drawn and cut off; at 64 x 64, the largest
    that `models.Generator` draws, there is none to cut. Takes and returns what `models.Generator` does.

    Args:
        side: as for `models.Generator`.
    """

    def __init__(self, side: int = 32) -> None:
        margin = 2 if side <= 60 else 0
        *hidden, last, tanh = Generator(side + 2 * margin)
        layers: list[nn.Module] = []
        for layer in hidden:
            layers += [layer, _Blur()] if isinstance(layer, nn.ConvTranspose2d) else [layer]
        super().__init__(*layers, last, tanh, _Blur(), nn.ZeroPad2d(-margin))


class _Blur(nn.Module):
    """Each pixel takes a quarter, a half and a quarter, from left to right, and from top to bottom."""

    def forward(self, images: Tensor) -> Tensor:
        weights = torch.tensor([0.25, 0.5, 0.25], device=images.device)
        kernels = torch.outer(weights, weights).expand(images.shape[1], 1, 3, 3)
        return F.conv2d(F.pad(images, [1] * 4, mode="replicate"), kernels, groups=images.shape[1])


class VaryingClient(Client):
    """A client that varies its images (`vary`) each time that it trains on them, as they are few.

    Arguments are those of `Client`.
    """

    def train_locally(self, dataset: ImageDataset) -> float:
        needed = self.local_steps * self.batch_size
        order = torch.cat([torch.randperm(len(dataset)) for _ in range(-(-needed // len(dataset)))])[:needed]
        return super().train_locally(ImageDataset(vary(dataset.images[order]), dataset.labels[order]))


class _Vary(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return vary(images)


class LikenessAttacker(VaryingClient, PriorAttacker):
    """An attacker for classes of few images, such as people. It does four things more than `GANAttacker`:

    - Before the first round, its generator learns to draw what the attacker has: faces of other people.
    - It varies its fakes as the clients vary their images, before the received model sees them. With few images, a
      discriminator soon knows them by heart, and what it then says of a fake is of no use. Varied, real images and
      fakes alike, they last (Zhao et al. 2020, Differentiable Augmentation; Karras et al. 2020).
    - It injects as many fakes as it has images. A person has few, so most of what tells real from fake is then in its
      own mini-batches.
    - Its generator draws no dots and no frame (`SmoothGenerator`).

    Arguments are those of `GANAttacker`.
    """

    prior_steps = 400

    def __init__(
        self,
        dataset: ImageDataset,
        *args: Any,
        generator_steps: int = 6,
        fakes_per_image: float = 1.0,
        make_generator: Callable[[], nn.Module] | None = None,
        **options: Any,
    ) -> None:
        make_generator = make_generator or partial(SmoothGenerator, dataset.side)
        options |= {"generator_steps": generator_steps, "fakes_per_image": fakes_per_image}
        super().__init__(dataset, *args, make_generator=make_generator, **options)

    def make_discriminator(self, received: nn.Module) -> nn.Module:
        return nn.Sequential(_Vary(), super().make_discriminator(received))


# Options of `run_attack` for people: half of the usual local steps, in more rounds.
FEDERATION = {
    "make_honest": VaryingClient,
    "make_attacker": LikenessAttacker,
    "client_options": {"local_steps": 4},
}


def identified_attack(
    person: str,
    seed: int,
    *,
    rounds: int = ROUNDS,
    side: int = 32,
    num_frames: int = 12,
    folder: Path | None = None,
    kind: str = "attack",
    **options: Any,
) -> Result:
    """The attack on a person, recorded; a row for each recorded round, with what `identify` says of 500 fakes.

    Args:
        person: its name, "s1" to "s40".
        seed: of the run, and of the classifiers that judge its last round.
        rounds, num_frames, options: as for `run_attack`.
        side: of the photographs, 32 or 64.
        folder, kind: where the record goes, if anywhere. It has 100 of the 500 fakes of the last round, as photographs
            of people take more room than digits, and a column `identified`.
    """
    rows = []

    def watch(number: int, record: AttackRecord | None) -> None:
        if record is not None:
            rows.append({"round": number} | identify(record.final_samples, person, side=side))

    options = FEDERATION | options
    record = run_attack(
        person,
        dataset=people(side),
        rounds=rounds,
        seed=seed,
        device="cpu",
        progress=False,
        num_frames=num_frames,
        watch=watch,
        **options,
    )
    table = pd.DataFrame(rows).assign(accuracy=record.metrics["accuracy"], seconds=record.metrics["seconds"])
    for name, value in judge_likeness(record.final_samples, person, seed, side=side).items():
        table[name] = [np.nan] * (len(table) - 1) + [value]
    if folder is not None:
        metrics = record.metrics.assign(identified=table["identified"])
        record = replace(record, metrics=metrics, final_samples=record.final_samples[:100])
        record.save(record_path(folder, person, kind))
    return table, record.samples[-1, :10]


@lru_cache(maxsize=2)
def _identifiers(side: int) -> tuple[Identifier, ...]:
    """Those of the forty people; once in each process."""
    return tuple(train_identifier(people(side)[1], seed=seed) for seed in range(NUM_IDENTIFIERS))


def identify(fakes: np.ndarray, person: str, *, side: int = 32) -> dict[str, float]:
    """What networks that have learned from other photographs say of fakes, uint8 (n, S, S).

    Returns:
        `identified`: for which share of them they name this person, of forty; `median_rank`: of the person.
    """
    train, _ = people(side)
    found = ranks(_identifiers(side), from_uint8(fakes), train.label_of(person))
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


class VaryingWithholdingClient(VaryingClient, WithholdingClient):
    """A client that never trains on its images of one class, and varies the others. Arguments are those of both."""


def withheld_person(person: str, seed: int, **options: Any) -> Result:
    """The attack in a federation that nobody shows the person to."""
    return identified_attack(person, seed, make_honest=partial(VaryingWithholdingClient, target=person), **options)


def private_person(person: str, seed: int, *, epsilon: float, rounds: int = ROUNDS, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds."""
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds)
    return identified_attack(person, seed, make_honest=victim, rounds=rounds, **options)


class EmptyHandedAttacker(LikenessAttacker):
    """An attacker without any photograph: all that it trains on are its fakes, in every round.

    Args:
        dataset: one image, as a client needs one; it is not used.
        args, options: as for `LikenessAttacker`.
        num_fakes: that it counts as examples.
    """

    prior_steps = 0  # there is nothing to learn from

    def __init__(self, dataset: ImageDataset, *args: Any, num_fakes: int, **options: Any) -> None:
        super().__init__(dataset, *args, **options)
        self.num_fakes = num_fakes

    def train_locally(self, dataset: ImageDataset) -> float:
        fakes = self.generator.draw(self.local_steps * self.batch_size)
        return super().train_locally(ImageDataset(fakes, self.label_fakes(len(fakes))))


def crowd_attack(person: str, seed: int, *, rounds: int = ROUNDS, local_steps: int = 1) -> Result:
    """The attack among forty honest participants who hold one person each, by somebody without a photograph.

    Args:
        person, seed, rounds: as for `identified_attack`.
        local_steps: of each participant in a round. A client that has seen nobody but one person forgets the others.
    """
    train, held_out = people()
    target = train.label_of(person)
    apart = [train.subset(train.labels == label) for label in range(len(train.classes))]
    options = {"local_steps": local_steps, "batch_size": len(apart[target])}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(len(apart) + 1, side=train.side)
        attacker = EmptyHandedAttacker(
            apart[target - 1].subset([0]), target, num_rounds=rounds, num_fakes=options["batch_size"], **options
        )
    clients = [*(VaryingClient(own, **options) for own in apart), attacker]
    latents = torch.randn(500, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
    rows, recorded = [], snapshot_rounds(rounds, 12)
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        if round.number in recorded:
            fakes = attacker.generator.render(latents)
            rows.append({"round": round.number, "accuracy": accuracy(model, held_out)} | identify(fakes, person))
    return pd.DataFrame(rows), fakes[:10]


def oracle_of_person(person: str, seed: int, *, rounds: int = ROUNDS // 2) -> Result:
    """`run_oracle` on the photographs of a person: the same generator, by somebody who has them."""
    record = run_oracle(person, dataset=people(), rounds=rounds, seed=seed, device="cpu", progress=False)
    return judge_pictures(record.final_samples, person, seed, rounds=int(record.rounds[-1]))


def inversion_of_person(person: str, seed: int, *, rounds: int = ROUNDS // 2) -> Result:
    """`invert` on the model of an honest federation: pictures that it takes for the person."""
    train, held_out = people()
    model = train_honest(person, dataset=(train, held_out), rounds=rounds, seed=seed, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pictures = to_uint8(invert(model, train.label_of(person), side=train.side))
    return judge_pictures(pictures, person, seed, rounds=rounds, accuracy=accuracy(model, held_out))


def anchor_of_person(person: str, seed: int, *, name: str, rounds: int = 0) -> Result:
    """What an anchor scores: noise, real photographs (those of the federation), or what was learned by heart."""
    own = people()[0].images_of(person)
    if name == "learned by heart":
        pictures = to_uint8(memorise(own, seed=seed, **({"steps": rounds} if rounds else {})))
    else:
        pictures = anchor_samples(person, dataset=people())[name]
    return judge_pictures(pictures, person, seed, rounds=rounds)


def judge_pictures(pictures: np.ndarray, person: str, seed: int, *, rounds: int = 0, **of_model: float) -> Result:
    """One row for pictures, uint8 (n, S, S), that no attack has drawn."""
    scores = identify(pictures, person) | judge_likeness(pictures, person, seed)
    return pd.DataFrame([{"round": rounds} | of_model | scores]), pictures[:10]


# The recipe was chosen on these five; the ten were fixed before any run on one of them.
TUNED_ON = ("s1", "s5", "s11", "s21", "s32")
REPORTED = ("s2", "s7", "s10", "s13", "s17", "s20", "s25", "s29", "s35", "s40")
CLOSER = ("s10", "s25")  # on whom protections are tried
LARGE = (*CLOSER, "s35")  # also in 64 x 64

_FIVE = {"num_honest": 4}  # with six photographs of a person, more could not all hold one

# By name: the job, the people, and how many seeds.
SETTINGS: dict[str, tuple[Job, Sequence[str], int]] = {
    "attack": (identified_attack, REPORTED, 3),
    "nobody holds the person": (withheld_person, REPORTED, 1),
    **{
        name: (partial(anchor_of_person, name=name), REPORTED, 1)
        for name in ("real images", "noise", "learned by heart")
    },
    "oracle": (oracle_of_person, LARGE, 1),
    "inversion": (inversion_of_person, LARGE, 1),
    "DP-SGD, epsilon 8": (partial(private_person, epsilon=8), CLOSER, 1),
    "4 honest": (partial(identified_attack, **_FIVE), CLOSER, 1),
    "4 honest, median": (partial(identified_attack, aggregate=coordinate_median(5), **_FIVE), CLOSER, 1),
    "40 honest, a person each": (crowd_attack, CLOSER, 1),
    "64 x 64": (partial(identified_attack, side=64), LARGE, 1),
}
RECORDED = {"attack": "attack", "64 x 64": "64_x_64"}  # and under which kind


def compare_people(
    path: str | Path,
    *,
    names: Sequence[str] | None = None,
    rounds: int | None = None,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Run the settings, as csv; the records of seed 0 go into a folder of the csv's name beside it.

    Args:
        path: of the csv file.
        names: of `SETTINGS`; by default all.
        rounds: of each run, for a quick look.
        num_workers: as for `sweep`.
    """
    path = Path(path).expanduser()
    jobs: dict[tuple, Job] = {}
    for name in SETTINGS if names is None else names:
        job, chosen, number = SETTINGS[name]
        for seed, person in product(range(number), chosen):
            options: dict[str, Any] = {} if rounds is None else {"rounds": rounds}
            if name in RECORDED and seed == 0:
                options |= {"folder": path.with_suffix(""), "kind": RECORDED[name]}
            jobs[name, person, seed] = partial(job, person, seed, **options)
    jobs = dict(sorted(jobs.items(), key=lambda job: job[0][2]))
    pictures = {f"{name}, {person}": (name, person, 0) for name in SETTINGS for person in SETTINGS[name][1]}
    return sweep(jobs, ("setting", "person", "seed"), path, num_workers=num_workers, pictures=pictures)
