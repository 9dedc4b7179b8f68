"""The runs that notebook 06 compares: the attack against each defence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from fl_gan_lib.attack import GENERATOR_STEPS, GANAttacker, build_federation
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.defences import (
    AugmentingClient,
    ClipAndNoise,
    DropoutClient,
    ErrorFeedbackClient,
    KeepLargest,
    KeyedClassifier,
    KeyedClient,
    Krum,
    PrivateClient,
    PrivateMean,
    Quantise,
    TrimmedMean,
    coordinate_median,
)
from fl_gan_lib.federation import Client, Update, federate
from fl_gan_lib.metrics import accuracies
from fl_gan_lib.models import LATENT_DIM
from fl_gan_lib.studies.adapted import (
    AveragingAttacker,
    BlendingAttacker,
    DistortingAttacker,
    ErrorFeedbackAttacker,
    KeyedAttacker,
    Scale,
    UnhurriedAttacker,
)
from fl_gan_lib.studies.jobs import TEN_PARTICIPANTS, attack_job, judge_pictures, withheld_attack
from fl_gan_lib.studies.sweep import Job, Result
from fl_gan_lib.studies.variants import HedgingAttacker


def leaving_attack(target: int, seed: int, *, after: int, rounds: int) -> Result:
    """The victim leaves a federation before its end, and keeps its own model: what the attacker has drawn by then."""
    model, clients = build_federation(load_dataset()[0], target, num_rounds=rounds, seed=seed, device="cpu")
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        if round.number == after:
            break
    latents = torch.randn(500, LATENT_DIM, generator=torch.Generator().manual_seed(seed))
    pictures = clients[-1].generator.render(latents)
    of_model = accuracies(clients[0].model.eval(), load_dataset()[1], target)
    return judge_pictures(target, seed, pictures, rounds=round.number, **of_model)


def private_attack(target: int, seed: int, *, epsilon: float, rounds: int, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds."""
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds)
    return attack_job(target, seed, rounds=rounds, make_honest=victim, **options)


class WithholdingPrivateClient(Client):
    """A client that trains with DP-SGD, and never on its images of the target.

    Args:
        dataset: the client's own images.
        target: the class that it withholds, its number.
        options: as for `PrivateClient`.
    """

    def __init__(self, dataset: ImageDataset, *, target: int, **options: Any) -> None:
        super().__init__(dataset)
        self.private = PrivateClient(dataset.subset(dataset.labels != target), **options)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        return replace(self.private.fit(global_model, round), num_examples=len(self.dataset))


def private_withheld_attack(target: int, seed: int, *, epsilon: float, rounds: int) -> Result:
    """As `private_attack`, on a victim that holds the class back as well: what the noise alone makes of the fakes."""
    victim = partial(WithholdingPrivateClient, target=target, epsilon=epsilon, num_rounds=rounds)
    return attack_job(target, seed, rounds=rounds, make_honest=victim)


_CROWDS = {1: {"rounds": 60}, 9: TEN_PARTICIPANTS, 40: {"rounds": 60, "num_honest": 40}}

_NOISE = {"max_norm": 0.5, "noise_multiplier": 1.0}


def _noisy_clients(options: dict[str, Any]) -> Job:
    return partial(attack_job, make_honest=partial(Client, protect=ClipAndNoise(**_NOISE)), **options)


_MEDIAN = {"aggregate": coordinate_median(10)} | TEN_PARTICIPANTS
_TRIMMED = {"aggregate": TrimmedMean(10, 2)} | TEN_PARTICIPANTS
_KRUM = {"aggregate": Krum(10, 1)} | TEN_PARTICIPANTS

_KEYED = {"make_model": KeyedClassifier, "make_honest": KeyedClient}

# By name. Where they say nothing else: 100 rounds, one honest client.
DEFENCES: dict[str, Job] = {
    "none": attack_job,
    "DP-SGD, clipping alone": partial(private_attack, epsilon=math.inf),
    **{f"DP-SGD, epsilon {epsilon}": partial(private_attack, epsilon=epsilon) for epsilon in (50, 8, 3, 1)},
    "10 % of each update": partial(attack_job, client_options={"protect": KeepLargest(0.1)}),
    "1 % of each update": partial(attack_job, client_options={"protect": KeepLargest(0.01)}),
    "1 %, with error feedback": partial(
        attack_job,
        make_honest=partial(ErrorFeedbackClient, fraction=0.01),
        make_attacker=partial(ErrorFeedbackAttacker, fraction=0.01),
    ),
    "2 bits a number": partial(attack_job, client_options={"protect": Quantise(2)}),
    "20 rounds": partial(attack_job, rounds=20),
    "20 rounds, class held back": partial(withheld_attack, every=None, rounds=20),
    "leaves after 20 of 100 rounds": partial(leaving_attack, after=20),
    "class in every 10th round": partial(withheld_attack, every=10),
    "class held back": partial(withheld_attack, every=None),
    "augmentation": partial(attack_job, make_honest=AugmentingClient),
    "dropout": partial(attack_job, make_honest=DropoutClient),
    "keys": partial(attack_job, make_attacker=KeyedAttacker, **_KEYED),
    "1 honest": partial(attack_job, **_CROWDS[1]),
    "9 honest": partial(attack_job, **TEN_PARTICIPANTS),
    "9 honest, class held back": partial(withheld_attack, every=None, **TEN_PARTICIPANTS),
    "9 honest, median": partial(attack_job, **_MEDIAN),
    "9 honest, trimmed mean": partial(attack_job, **_TRIMMED),
    "9 honest, Krum": partial(attack_job, **_KRUM),
    **{
        f"{number} honest, noise at the server": partial(attack_job, aggregate=PrivateMean(**_NOISE), **options)
        for number, options in _CROWDS.items()
    },
    **{f"{number} honest, noise at the clients": _noisy_clients(_CROWDS[number]) for number in (1, 9)},
    "40 honest": partial(attack_job, **_CROWDS[40]),
}


def _knowing(make_attacker: Callable[..., GANAttacker], **options: Any) -> Job:
    return partial(attack_job, make_attacker=make_attacker, **options)


_SCALED = partial(GANAttacker, protect=Scale(10))
_TWICE_THE_STEPS = partial(GANAttacker, generator_steps=2 * GENERATOR_STEPS)
_MORE_STEPS = partial(GANAttacker, generator_steps=4 * GENERATOR_STEPS)


def _hurried(**options: Any) -> dict[str, Job]:
    return {
        "takes twice as many steps": _knowing(_TWICE_THE_STEPS, **options),
        "takes four times as many steps": _knowing(_MORE_STEPS, **options),
    }


# Attackers that know the defence. By the name of the defence, and what the attacker does about it.
ADAPTED: dict[str, dict[str, Job]] = {
    "DP-SGD, epsilon 8": {
        does: partial(private_attack, epsilon=8, make_attacker=make_attacker)
        for does, make_attacker in {
            "averages": partial(AveragingAttacker, weight=0.5),
            "takes half as many steps": partial(GANAttacker, generator_steps=GENERATOR_STEPS // 2),
            "takes four times as many steps": _MORE_STEPS,
            "calls half of them the target": HedgingAttacker,
        }.items()
    },
    "1 % of each update": {
        "sends all of its own": partial(attack_job, make_honest=partial(Client, protect=KeepLargest(0.01)))
    },
    "20 rounds": {
        "plans for a hundred": _knowing(UnhurriedAttacker, rounds=20),
        **_hurried(rounds=20),
    },
    "augmentation": {"distorts its fakes": _knowing(DistortingAttacker, make_honest=AugmentingClient)},
    "keys": {"learns a key": _knowing(partial(KeyedAttacker, learning=True), **_KEYED)},
    "9 honest": _hurried(**TEN_PARTICIPANTS),
    "9 honest, median": {"sends ten times as much": _knowing(_SCALED, **_MEDIAN), **_hurried(**_MEDIAN)},
    "9 honest, trimmed mean": {"sends ten times as much": _knowing(_SCALED, **_TRIMMED), **_hurried(**_TRIMMED)},
    "9 honest, Krum": {
        "keeps its update small": _knowing(partial(GANAttacker, protect=ClipAndNoise(0.3, 0)), **_KRUM),
        "blends in": _knowing(partial(BlendingAttacker, width=1), **_KRUM),
    },
}
DEFENCES |= {f"{name}, {does}": job for name, jobs in ADAPTED.items() for does, job in jobs.items()}

# The same noise on the mean as forty honest ones have above; for nine it is no promise worth having.
_SAME_NOISE = 0.25


def _bounded(max_norm: float, noise_multiplier: float = 0, **options: Any) -> Job:
    return partial(attack_job, aggregate=PrivateMean(max_norm, noise_multiplier), **TEN_PARTICIPANTS | options)


# Two of nine honest clients hold the target.
_MINORITY = {"num_without_target": 7}

_AGAINST_THE_CLIP: dict[str, Job] = {
    "injects nine times as many": _bounded(0.2, make_attacker=partial(GANAttacker, fakes_per_image=2.0)),
    "takes four times as many steps": _bounded(0.2, make_attacker=_MORE_STEPS),
}

# What in a defence it is that works. On the digit 3 alone.
CONTROLS: dict[str, Job] = {
    **{
        f"DP-SGD, epsilon {epsilon}, class held back": partial(private_withheld_attack, epsilon=epsilon)
        for epsilon in (8, 1)
    },
    **{
        f"DP-SGD, epsilon {epsilon}, nobody injects": partial(private_attack, epsilon=epsilon, inject=False)
        for epsilon in (8, 1)
    },
    "none, nobody injects": partial(attack_job, inject=False),
    "keys, known to the attacker": _knowing(partial(KeyedAttacker, knowing=True), **_KEYED),
    "none, averages": _knowing(partial(AveragingAttacker, weight=0.5)),
    "none, takes four times as many steps": _knowing(_MORE_STEPS),
    "9 honest, all count alike": _bounded(1e6),
    "9 honest, two hold the class": partial(attack_job, **TEN_PARTICIPANTS | _MINORITY),
    "9 honest, two hold the class, median": partial(attack_job, **_MEDIAN | _MINORITY),
    "9 honest, clipping at the server": _bounded(0.5),
    "9 honest, clipping at 0.2": _bounded(0.2),
    **{f"9 honest, clipping at 0.2, {does}": job for does, job in _AGAINST_THE_CLIP.items()},
    "9 honest, attacker alone clipped": _knowing(
        partial(GANAttacker, protect=ClipAndNoise(0.5, 0)), **TEN_PARTICIPANTS
    ),
    "9 honest, honest alone clipped": partial(
        attack_job, make_honest=partial(Client, protect=ClipAndNoise(0.5, 0)), **TEN_PARTICIPANTS
    ),
    "9 honest, a quarter of the noise": _bounded(0.5, _SAME_NOISE),
    "9 honest, a quarter of the noise at 0.2": _bounded(0.2, _SAME_NOISE),
    "40 honest, noise at the clients": _noisy_clients(_CROWDS[40]),
    "40 honest, clipping at the server": partial(attack_job, aggregate=PrivateMean(0.5, 0), **_CROWDS[40]),
}


def attackers_of(name: str) -> list[str]:
    """The setting of that name, and those in which the attacker knows its defence."""
    against_the_clip = {"9 honest, clipping at 0.2": _AGAINST_THE_CLIP}
    return [name, *(f"{name}, {does}" for does in (ADAPTED | against_the_clip).get(name, ()))]


# Where 60 rounds are too few to tell what stops the attack from what delays it. The first seed alone.
_LONG = {"rounds": 400}
LONG: dict[str, Job] = {
    "9 honest, 400 rounds": partial(attack_job, **TEN_PARTICIPANTS | _LONG),
    "9 honest, median, 400 rounds": partial(attack_job, **_MEDIAN | _LONG),
    "9 honest, clipping at 0.2, 400 rounds": _bounded(0.2, **_LONG),
}

# Those whose records are kept, for the explorer: the rows of the README's table.
RECORDED = (
    "DP-SGD, epsilon 8",
    "1 % of each update",
    "2 bits a number",
    "20 rounds",
    "class in every 10th round",
    "class held back",
    "augmentation",
    "dropout",
    "9 honest",
    "9 honest, median",
    "9 honest, trimmed mean",
    "9 honest, Krum",
    "40 honest",
    "40 honest, noise at the server",
)

SETTINGS = DEFENCES | CONTROLS | LONG

# Those that the README shows, and their most harmful attackers, on a digit that is unlike the 3 and the 9.
THIRD_DIGIT = 6
COMPARED = (
    "none",
    "DP-SGD, epsilon 8",
    "1 % of each update",
    "1 % of each update, sends all of its own",
    "20 rounds",
    "20 rounds, takes twice as many steps",
    "class held back",
    "augmentation",
    "9 honest",
    "9 honest, median",
    "9 honest, median, takes four times as many steps",
)

# Setting, digit and seed of the runs beside those of all `DEFENCES` on both digits.
FURTHER_RUNS = (
    *((name, 3, seed) for name in CONTROLS for seed in range(3)),
    *((name, 3, 0) for name in LONG),
    *((name, 9, 0) for name in ("9 honest, 400 rounds", "9 honest, median, 400 rounds")),
    *((name, THIRD_DIGIT, seed) for name in COMPARED for seed in range(3)),
)
