"""The runs that notebook 06 compares: the attack against each defence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

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
    WithholdingClient,
    coordinate_median,
)
from fl_gan_lib.federation import Client
from fl_gan_lib.studies.jobs import TEN_PARTICIPANTS, attack_job, jobs_of
from fl_gan_lib.studies.sweep import Job, Result, sweep


def private_attack(target: int, seed: int, *, epsilon: float, rounds: int, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds."""
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds)
    return attack_job(target, seed, rounds=rounds, make_honest=victim, **options)


def withheld_attack(target: int, seed: int, *, every: int | None, **options: Any) -> Result:
    """The attack on a victim that withholds its images of the target."""
    return attack_job(target, seed, make_honest=partial(WithholdingClient, digit=target, every=every), **options)


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


def compare_defences(
    names: Sequence[str] = tuple(DEFENCES),
    *,
    digits: Sequence[int] = (3, 9),
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Run the attack against `DEFENCES`, a row of csv for each recorded round.

    Args:
        names: of `DEFENCES`.
        digits: that the attacker lacks.
        seeds: of the runs.
        rounds: of every run, for a quick look; by default what the defence says, or 100.
        path, num_workers: as for `sweep`. The pictures of the first digit and seed go into a file of the same name
            ending in `.npz`, and the records of `RECORDED` and seed 0 beside it.

    Raises:
        ValueError: a name is unknown.
    """
    jobs = {}
    for key, job in jobs_of(DEFENCES, names, digits, seeds, rounds).items():
        keep = key[0] in RECORDED and key[2] == 0
        recorded = {"folder": Path(path).parent, "kind": record_kind(key[0])} if keep else {}
        jobs[key] = partial(job, num_frames=12, **recorded)
    pictures = {name: (name, digits[0], seeds[0]) for name in names}
    return sweep(jobs, ("defence", "digit", "seed"), path, num_workers=num_workers, pictures=pictures)


def record_kind(name: str) -> str:
    """How the record of a defence is called: a file's name that still reads as the defence's."""
    return name.replace("%", "percent").replace(",", "").replace(" ", "_")
