"""The jobs of a sweep (a whole attack, or what it is compared with, in one call), and `compare`, which runs them."""

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
from fl_gan_lib.records import AttackRecord, record_path, rounds_reached
from fl_gan_lib.studies.baselines import invert, run_oracle, train_honest
from fl_gan_lib.studies.sweep import Job, Result, sweep

# Options of an attack among ten participants: three of the nine honest ones lack the target, as the attacker does.
TEN_PARTICIPANTS = {"rounds": 60, "num_honest": 9, "num_without_target": 3}

NO_PICTURES = np.zeros((0, 28, 28), np.uint8)


def attack_job(
    target: int, seed: int, *, num_frames: int = 12, folder: Path | None = None, kind: str = "attack", **options: Any
) -> Result:
    """`run_attack`; the whole record goes to `folder`, if one is given, as one of that kind."""
    record = run_attack(target, seed=seed, device="cpu", progress=False, num_frames=num_frames, **options)
    return _keep(record, folder, kind)


def oracle_job(target: int, seed: int, *, num_frames: int = 12, folder: Path | None = None, **options: Any) -> Result:
    """`run_oracle`; the whole record goes to `folder`, if one is given."""
    record = run_oracle(target, seed=seed, device="cpu", progress=False, num_frames=num_frames, **options)
    return _keep(record, folder, "oracle")


def _keep(record: AttackRecord, folder: Path | None, kind: str) -> Result:
    if folder is not None:
        path = record_path(folder, record.target_name, kind)
        if rounds_reached(path) <= record.rounds[-1]:  # a quick look leaves the whole run's record as it is
            record.save(path)
    return record.metrics, record.samples[-1, :10]


def honest_job(target: int, seed: int, *, rounds: int | None = None) -> Result:
    """The accuracy of the honest federation beside `run_attack`, after its last round; no pictures."""
    model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    return pd.DataFrame([{"round": check_rounds(rounds), "accuracy": accuracy(model, load_dataset()[1])}]), NO_PICTURES


def inversion_job(target: int, seed: int, *, rounds: int | None = None, attacked: bool = True) -> Result:
    """Plain model inversion on the last global model, of the federation under attack or of the honest one."""
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


def compare(
    settings: Mapping[str, Job],
    column: str,
    names: Sequence[str] | None = None,
    *,
    digits: Sequence[int],
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
    recorded: Sequence[str] = (),
) -> pd.DataFrame:
    """Run each setting on each digit and seed, seed by seed; the rows go into a csv file.

    Args:
        settings: jobs by name: `anatomy.SETTINGS`, `defences.DEFENCES`, `detection.ATTACKERS`.
        column: of the csv file, for the names.
        names: of `settings`; by default all.
        digits: the classes that the attacker lacks.
        seeds: of the runs.
        rounds: of every run, for a quick look; by default what the setting says, or 100.
        path, num_workers: as for `sweep`. The pictures of the first digit and seed go into a file of the same name
            ending in `.npz`.
        recorded: names of settings whose whole records of seed 0 go beside the csv file.

    Returns:
        All rows of the file: what each job returns, with its setting, digit and seed.

    Raises:
        ValueError: a name is unknown.
    """
    names = list(settings) if names is None else names
    unknown = sorted({*names, *recorded} - set(settings))
    if unknown:
        raise ValueError(f"unknown names {unknown}: choose from {list(settings)}")
    jobs = {}
    for seed, digit, name in product(seeds, digits, names):
        wanted = getattr(settings[name], "keywords", {}).get("rounds", 100) if rounds is None else rounds
        kept = {"folder": Path(path).parent, "kind": record_kind(name)} if name in recorded and seed == 0 else {}
        jobs[name, digit, seed] = partial(settings[name], digit, seed, rounds=wanted, **kept)
    pictures = {name: (name, digits[0], seeds[0]) for name in names}
    return sweep(jobs, (column, "digit", "seed"), path, num_workers=num_workers, pictures=pictures)


def record_kind(name: str) -> str:
    """The kind under which a setting's record is saved: a file's name that still reads as the setting's."""
    return name.replace("%", "percent").replace(",", "").replace(" ", "_")
