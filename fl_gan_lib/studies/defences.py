"""The runs that notebook 06 compares: the attack against each defence."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from fl_gan_lib.defences import (
    AugmentingClient,
    ClipAndNoise,
    DropoutClient,
    KeepLargest,
    Krum,
    PrivateClient,
    PrivateMean,
    Quantise,
    TrimmedMean,
    coordinate_median,
)
from fl_gan_lib.federation import Client
from fl_gan_lib.studies.jobs import TEN_PARTICIPANTS, attack_job, withheld_attack
from fl_gan_lib.studies.sweep import Job, Result


def private_attack(target: int, seed: int, *, epsilon: float, rounds: int, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds."""
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds)
    return attack_job(target, seed, rounds=rounds, make_honest=victim, **options)


_CROWDS = {1: {"rounds": 60}, 9: TEN_PARTICIPANTS, 40: {"rounds": 60, "num_honest": 40}}

_NOISE = {"max_norm": 0.5, "noise_multiplier": 1.0}

# By name. Where they say nothing else: 100 rounds, one honest client.
DEFENCES: dict[str, Job] = {
    "none": attack_job,
    "DP-SGD, clipping alone": partial(private_attack, epsilon=math.inf),
    **{f"DP-SGD, epsilon {epsilon}": partial(private_attack, epsilon=epsilon) for epsilon in (50, 8, 3, 1)},
    "10 % of each update": partial(attack_job, client_options={"protect": KeepLargest(0.1)}),
    "1 % of each update": partial(attack_job, client_options={"protect": KeepLargest(0.01)}),
    "2 bits a number": partial(attack_job, client_options={"protect": Quantise(2)}),
    "20 rounds": partial(attack_job, rounds=20),
    "class in every 10th round": partial(withheld_attack, every=10),
    "class held back": partial(withheld_attack, every=None),
    "augmentation": partial(attack_job, make_honest=AugmentingClient),
    "dropout": partial(attack_job, make_honest=DropoutClient),
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
