"""The attack on people, and what it is compared with (notebook 08)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from fl_gan_lib.attack import GANAttacker, run_attack
from fl_gan_lib.data import ImageDataset, to_uint8
from fl_gan_lib.defences import PrivateClient, WithholdingClient, coordinate_median
from fl_gan_lib.federation import Client, federate
from fl_gan_lib.metrics import accuracy, anchor_samples
from fl_gan_lib.models import LATENT_DIM, Classifier
from fl_gan_lib.recording.recorder import snapshot_rounds
from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.baselines import invert, memorise, run_oracle, train_honest
from fl_gan_lib.studies.identification import identify, judge_likeness, people, vary
from fl_gan_lib.studies.sweep import Job, Result, sweep
from fl_gan_lib.studies.variants import PriorAttacker

ROUNDS = 300
NUM_KEPT = 12  # of the last fakes, in a record: pictures of people take more room than digits


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


class VaryingAttacker(VaryingClient, PriorAttacker):
    """An attacker for classes of few images, such as people. It does two things more than `GANAttacker`:

    - It varies all that the model sees, its fakes as well. With few images, a discriminator soon knows them by heart,
      and what it then says of a fake is of no use. Varied, real images and fakes alike, they last (Zhao et al. 2020,
      Differentiable Augmentation; Karras et al. 2020).
    - Its generator begins with what the attacker has, faces of other people. Otherwise it sometimes ends in plain white
      within the first rounds, and stays there.

    Arguments are those of `GANAttacker`, but its generator takes 5 steps in a round and not 12 (`generator_steps`):
    with 300 rounds that draws nearly as well, in two thirds of the time.
    """

    prior_steps = 200

    def __init__(self, *args: Any, generator_steps: int = 5, **options: Any) -> None:
        super().__init__(*args, generator_steps=generator_steps, **options)

    def make_discriminator(self, received: nn.Module) -> nn.Module:
        return nn.Sequential(_Vary(), super().make_discriminator(received))


# Options of `run_attack` for people: half of the usual local steps.
FEDERATION = {
    "make_honest": VaryingClient,
    "make_attacker": VaryingAttacker,
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
        folder, kind: where the record goes, if anywhere. Of the 500 fakes of the last round it has twelve;
            and it has a column `identified`.
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
        record = replace(record, metrics=metrics, final_samples=record.final_samples[:NUM_KEPT])
        record.save(record_path(folder, person, kind))
    return table, record.samples[-1, :10]


class VaryingWithholdingClient(VaryingClient, WithholdingClient):
    """A client that never trains on its images of one class, and varies the others. Arguments are those of both."""


def withheld_person(person: str, seed: int, **options: Any) -> Result:
    """The attack in a federation that nobody shows the person to."""
    return identified_attack(person, seed, make_honest=partial(VaryingWithholdingClient, target=person), **options)


def private_person(person: str, seed: int, *, epsilon: float, rounds: int = ROUNDS, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds.

    Its mini-batches are expected to have 32 images: by default they would have nearly all 123, at four times the cost.
    It does not vary its images. So compare with a client that does neither (`Client`), and with `epsilon=math.inf`,
    which clips and adds no noise.
    """
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds, batch_size=32)
    return identified_attack(person, seed, make_honest=victim, rounds=rounds, **options)


class EmptyHandedAttacker(VaryingAttacker):
    """An attacker without any photograph: all that it trains on are its fakes, in every round.

    Args:
        dataset: one image, as a client needs one; it is not used.
        args, options: as for `VaryingAttacker`.
        num_fakes: that it counts as examples.
    """

    prior_steps = 0  # there is nothing to begin with

    def __init__(self, dataset: ImageDataset, *args: Any, num_fakes: int, **options: Any) -> None:
        super().__init__(dataset, *args, **options)
        self.num_fakes = num_fakes

    def train_locally(self, dataset: ImageDataset) -> float:
        fakes = self.generator.draw(self.local_steps * self.batch_size)
        return super().train_locally(ImageDataset(fakes, self.label_fakes(len(fakes))))


def crowd_attack(person: str, seed: int, *, rounds: int = ROUNDS, present: bool = True) -> Result:
    """The attack among forty honest participants who hold one person each, by somebody without a photograph.

    Each takes one local step a round, as a client that has seen nobody but one person forgets the others.

    Args:
        person, seed, rounds: as for `identified_attack`.
        present: whether the person's own client takes part; without it there are 39.
    """
    train, held_out = people()
    target = train.label_of(person)
    apart = [train.subset(train.labels == label) for label in range(len(train.classes))]
    options = {"local_steps": 1, "batch_size": len(apart[target])}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier(len(apart) + 1, side=train.side)
        attacker = EmptyHandedAttacker(
            apart[target - 1].subset([0]), target, num_rounds=rounds, num_fakes=options["batch_size"], **options
        )
    honest = [VaryingClient(own, **options) for label, own in enumerate(apart) if present or label != target]
    clients = [*honest, attacker]
    latents = torch.randn(500, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
    rows, recorded = [], snapshot_rounds(rounds, 12)
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        if round.number in recorded:
            fakes = attacker.generator.render(latents)
            rows.append({"round": round.number, "accuracy": accuracy(model, held_out)} | identify(fakes, person))
    return pd.DataFrame(rows), fakes[:10]


def oracle_of_person(person: str, seed: int, *, rounds: int = ROUNDS) -> Result:
    """`run_oracle` by somebody who has the photographs: an ordinary GAN that varies nothing.

    Its discriminator tells all people apart, as the federation's does. (One that judges the four photographs alone, as
    for digits, gave nothing for two of three people.)
    """
    options = {"rounds": rounds, "seed": seed, "device": "cpu", "progress": False}
    record = run_oracle(person, dataset=people(), all_classes=True, **options)
    return judge_pictures(record.final_samples, person, seed, rounds=int(record.rounds[-1]))


def inversion_of_person(person: str, seed: int, *, rounds: int = ROUNDS) -> Result:
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


# The recipe was chosen on these five. An earlier one, which injected more fakes and blurred them, was run on s2, s7,
# s10, s13, s17, s20, s25, s29, s35 and s40. So the ten are the first of the others.
TUNED_ON = ("s1", "s5", "s11", "s21", "s32")
REPORTED = ("s3", "s4", "s6", "s8", "s9", "s12", "s14", "s15", "s16", "s18")
CLOSER = ("s3", "s4")  # on whom protections are tried
LARGE = (*CLOSER, "s6")  # also in 64 x 64; and of them fakes are kept as pictures

_FIVE = {"num_honest": 4}  # each of whom holds one or two of the six photographs

# By name: the job, the people, and how many seeds.
SETTINGS: dict[str, tuple[Job, Sequence[str], int]] = {
    "attack": (identified_attack, REPORTED, 3),
    "class held back": (withheld_person, REPORTED, 1),
    "attacker of notebook 03": (partial(identified_attack, make_attacker=GANAttacker), LARGE, 1),
    **{
        name: (partial(anchor_of_person, name=name), REPORTED, 1)
        for name in ("real images", "noise", "learned by heart")
    },
    "oracle, all classes": (oracle_of_person, LARGE, 1),
    "inversion": (inversion_of_person, LARGE, 1),
    "not varied": (partial(identified_attack, make_honest=Client), CLOSER, 1),  # as under DP-SGD
    "DP-SGD, clipping alone": (partial(private_person, epsilon=math.inf), CLOSER, 1),
    "DP-SGD, epsilon 8": (partial(private_person, epsilon=8), CLOSER, 1),
    "4 honest": (partial(identified_attack, **_FIVE), CLOSER, 1),
    "4 honest, median": (partial(identified_attack, aggregate=coordinate_median(5), **_FIVE), CLOSER, 1),
    "40 honest, a person each": (crowd_attack, CLOSER, 1),
    "39 honest, without the person": (partial(crowd_attack, present=False), CLOSER, 1),
    "64 x 64": (partial(identified_attack, side=64, num_frames=6), LARGE, 1),
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
    drawn = [name for name in SETTINGS if name not in ("real images", "noise", "learned by heart", "64 x 64")]
    pictures = {f"{name}, {person}": (name, person, 0) for name in drawn for person in LARGE}
    return sweep(jobs, ("setting", "person", "seed"), path, num_workers=num_workers, pictures=pictures)
