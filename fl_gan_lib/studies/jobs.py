"""The jobs that sweeps are made of: a whole attack, or what it is compared with, in one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fl_gan_lib.attack import build_federation, check_rounds, run_attack
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import federate
from fl_gan_lib.metrics import accuracy, evaluate_samples
from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.baselines import invert, run_oracle, train_honest
from fl_gan_lib.studies.sweep import Job, Result

# Options of an attack among ten participants: three of the nine honest ones lack the target, as the attacker does.
TEN_PARTICIPANTS = {"rounds": 60, "num_honest": 9, "num_without_target": 3}

NO_PICTURES = np.zeros((0, 28, 28), np.uint8)


def attack_job(target: int, seed: int, *, folder: Path | None = None, kind: str = "attack", **options: Any) -> Result:
    """`run_attack`; the whole record goes to `folder`, if one is given, as one of that kind."""
    return _keep(run_attack(target, seed=seed, device="cpu", progress=False, **options), folder, kind)


def oracle_job(target: int, seed: int, *, folder: Path | None = None, **options: Any) -> Result:
    """`run_oracle`; the whole record goes to `folder`, if one is given."""
    return _keep(run_oracle(target, seed=seed, device="cpu", progress=False, **options), folder, "oracle")


def _keep(record: AttackRecord, folder: Path | None, kind: str) -> Result:
    if folder is not None:
        record.save(record_path(folder, record.target, kind))
    return record.metrics, record.samples[-1, :10]


def honest_job(
    target: int, seed: int, *, rounds: int | None = None, folder: Path | None = None, num_frames: int = 1
) -> Result:
    """The accuracy of the honest federation beside `run_attack`, after its last round.

    Nothing is drawn or recorded: `folder` and `num_frames` are there so that it can be called like the other jobs.
    """
    model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    return pd.DataFrame([{"round": check_rounds(rounds), "accuracy": accuracy(model, load_dataset()[1])}]), NO_PICTURES


def inversion_job(
    target: int, seed: int, *, rounds: int | None = None, attacked: bool = True, num_frames: int = 1
) -> Result:
    """Plain model inversion on the last global model, of the federation under attack or of the honest one.

    Nothing is recorded on the way: `num_frames` is there so that it can be called like the other jobs.
    """
    rounds = check_rounds(rounds)
    if attacked:
        model, clients = build_federation(load_dataset()[0], target, num_rounds=rounds, seed=seed, device="cpu")
        for _ in federate(model, clients, num_rounds=rounds, seed=seed):
            pass
    else:
        model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pictures = to_uint8(invert(model, target))
    row = {"round": rounds, "accuracy": accuracy(model, load_dataset()[1])} | evaluate_samples(pictures, target)
    return pd.DataFrame([row]), pictures[:10]


def jobs_of(
    settings: Mapping[str, Job], names: Sequence[str], digits: Sequence[int], seeds: Sequence[int], rounds: int | None
) -> dict[tuple[str, int, int], Job]:
    """The job for each name, digit and seed, seed by seed.

    `rounds` applies to all; by default it is what the setting says, or 100.

    Raises:
        ValueError: a name is unknown.
    """
    unknown = sorted(set(names) - set(settings))
    if unknown:
        raise ValueError(f"unknown names {unknown}: choose from {list(settings)}")
    jobs = {}
    for seed, digit, name in product(seeds, digits, names):
        wanted = getattr(settings[name], "keywords", {}).get("rounds", 100) if rounds is None else rounds
        jobs[name, digit, seed] = partial(settings[name], digit, seed, rounds=wanted)
    return jobs
