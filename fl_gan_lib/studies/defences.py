"""The runs that notebook 06 compares: the attack against each defence."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch

from fl_gan_lib.attack import GANAttacker, build_federation
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
from fl_gan_lib.federation import Client, federate
from fl_gan_lib.metrics import accuracies
from fl_gan_lib.models import LATENT_DIM
from fl_gan_lib.studies.adapted import (
    AveragingAttacker,
    DistortingAttacker,
    ErrorFeedbackAttacker,
    KeyedAttacker,
    Scale,
)
from fl_gan_lib.studies.jobs import TEN_PARTICIPANTS, attack_job, judge_pictures, withheld_attack
from fl_gan_lib.studies.sweep import Job, Result


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


_CROWDS = {1: {"rounds": 60}, 9: TEN_PARTICIPANTS, 40: {"rounds": 60, "num_honest": 40}}

_NOISE = {"max_norm": 0.5, "noise_multiplier": 1.0}

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
    "leaves after 20 of 100 rounds": partial(leaving_attack, after=20),
    "class in every 10th round": partial(withheld_attack, every=10),
    "class held back": partial(withheld_attack, every=None),
    "augmentation": partial(attack_job, make_honest=AugmentingClient),
    "dropout": partial(attack_job, make_honest=DropoutClient),
    "keys": partial(attack_job, make_attacker=KeyedAttacker, **_KEYED),
    # Controls: what the secret of a key is worth, and what averaging costs an attacker where there is no noise.
    "keys, known to the attacker": partial(attack_job, make_attacker=partial(KeyedAttacker, knowing=True), **_KEYED),
    "none, attacker averages": partial(attack_job, make_attacker=partial(AveragingAttacker, weight=0.5)),
    "1 honest": partial(attack_job, **_CROWDS[1]),
    "9 honest": partial(attack_job, **TEN_PARTICIPANTS),
    "9 honest, median": partial(attack_job, aggregate=coordinate_median(10), **TEN_PARTICIPANTS),
    "9 honest, trimmed mean": partial(attack_job, aggregate=TrimmedMean(10, 2), **TEN_PARTICIPANTS),
    "9 honest, Krum": partial(attack_job, aggregate=Krum(10, 1), **TEN_PARTICIPANTS),
    **{
        f"{number} honest, noise at the server": partial(attack_job, aggregate=PrivateMean(**_NOISE), **options)
        for number, options in _CROWDS.items()
    },
    **{
        f"{number} honest, noise at the clients": partial(
            attack_job, make_honest=partial(Client, protect=ClipAndNoise(**_NOISE)), **options
        )
        for number, options in _CROWDS.items()
    },
    "40 honest": partial(attack_job, **_CROWDS[40]),
    # What of it is the clipping, whose clipping, and at which norm.
    "40 honest, clipping at the server": partial(attack_job, aggregate=PrivateMean(0.5, 0), **_CROWDS[40]),
    "40 honest, attacker alone clipped": partial(
        attack_job, make_attacker=partial(GANAttacker, protect=ClipAndNoise(0.5, 0)), **_CROWDS[40]
    ),
    "40 honest, honest alone clipped": partial(
        attack_job, make_honest=partial(Client, protect=ClipAndNoise(0.5, 0)), **_CROWDS[40]
    ),
    "40 honest, clipping at 0.2": partial(attack_job, aggregate=PrivateMean(0.2, 0), **_CROWDS[40]),
    "40 honest, noise at the server, norm 0.2": partial(attack_job, aggregate=PrivateMean(0.2, 1.0), **_CROWDS[40]),
}

_SCALED = {"make_attacker": partial(GANAttacker, protect=Scale(10)), **TEN_PARTICIPANTS}

# The defences worth recommending, against attackers that know them.
ADAPTED: dict[str, Job] = {
    "DP-SGD, epsilon 8": partial(private_attack, epsilon=8, make_attacker=partial(AveragingAttacker, weight=0.5)),
    "augmentation": partial(attack_job, make_honest=AugmentingClient, make_attacker=DistortingAttacker),
    "20 rounds": partial(attack_job, rounds=20, make_attacker=partial(GANAttacker, generator_steps=48)),
    "9 honest, median": partial(attack_job, aggregate=coordinate_median(10), **_SCALED),
    "9 honest, trimmed mean": partial(attack_job, aggregate=TrimmedMean(10, 2), **_SCALED),
    "9 honest, Krum": partial(
        attack_job,
        aggregate=Krum(10, 1),
        make_attacker=partial(GANAttacker, protect=ClipAndNoise(0.3, 0)),
        **TEN_PARTICIPANTS,
    ),
    "keys": partial(attack_job, make_attacker=partial(KeyedAttacker, learning=True), **_KEYED),
}
DEFENCES |= {f"{name}, adapted": job for name, job in ADAPTED.items()}

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
