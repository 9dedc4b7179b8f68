"""The jobs of a sweep (a whole attack, or what it is compared with, in one call), and `compare`, which runs them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from fl_gan_lib.attack import GENERATOR_STEPS, build_federation, check_rounds, count_active_rounds, run_attack
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.defences import WithholdingClient
from fl_gan_lib.federation import Client, federate
from fl_gan_lib.metrics import accuracies, accuracy, anchor_samples, evaluate_samples, tstr
from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.baselines import invert, invert_with_generator, memorise, run_oracle, train_honest
from fl_gan_lib.studies.sweep import Job, Result, sweep

# Options of an attack among ten participants: three of the nine honest ones lack the target, as the attacker does.
TEN_PARTICIPANTS = {"rounds": 60, "num_honest": 9, "num_without_target": 3}

QUICK_LOOK = 5  # runs of fewer rounds are not worth the ten seconds of a classifier

NO_PICTURES = np.zeros((0, 28, 28), np.uint8)


def attack_job(
    target: int, seed: int, *, num_frames: int = 12, folder: Path | None = None, kind: str = "attack", **options: Any
) -> Result:
    """`run_attack`, and `tstr` of its last round; the whole record goes to `folder`, if one is given, as of that kind.

    One classifier judges a run, and the seeds of the runs are its seeds too.
    """
    record = run_attack(target, seed=seed, device="cpu", progress=False, num_frames=num_frames, **options)
    return _keep(record, folder, kind)


def withheld_attack(target: int, seed: int, *, every: int | None, **options: Any) -> Result:
    """The attack on a victim that withholds its images of the target."""
    return attack_job(target, seed, make_honest=partial(WithholdingClient, target=target, every=every), **options)


def oracle_job(target: int, seed: int, *, folder: Path | None = None, kind: str = "oracle", **options: Any) -> Result:
    """`run_oracle`, and `tstr` of what it keeps; `folder` and `kind` as for `attack_job`."""
    return _keep(run_oracle(target, seed=seed, device="cpu", progress=False, **options), folder, kind)


def _keep(record: AttackRecord, folder: Path | None, kind: str) -> Result:
    rows = record.metrics
    rows["tstr"] = np.nan
    seed, planned = record.config["seed"], record.config["rounds"]
    rows.loc[rows.index[-1], "tstr"] = _tstr(record.final_samples, record.target, seed, planned)
    if folder is not None:
        path = record_path(folder, record.target_name, kind)
        finished = record.config["kind"] == "oracle" or record.rounds[-1] == planned
        if finished and _rounds_planned(path) <= planned:  # a quick look leaves the whole run's record as it is
            record.save(path)
    return rows, record.samples[-1, :10]


def _rounds_planned(path: Path) -> int:
    """Of the run whose record is there; 0 if none is, or a damaged one."""
    try:
        return AttackRecord.load(path).config["rounds"]
    except (OSError, ValueError):
        return 0


def _tstr(samples: np.ndarray, target: int, seed: int, rounds: int) -> float:
    """By one classifier; NaN for runs of fewer than five rounds, which are a quick look."""
    return tstr(samples, target, seeds=[seed]) if rounds >= QUICK_LOOK else math.nan


def anchor_job(target: int, seed: int, *, name: str, rounds: int | None = None) -> Result:
    """What an anchor scores (`anchor_samples`): noise, another class, real images."""
    return judge_pictures(target, seed, anchor_samples(target)[name], rounds=check_rounds(rounds))


def judge_pictures(target: int, seed: int, samples: np.ndarray, *, rounds: int, **of_model: float) -> Result:
    """One row for pictures, uint8 (n, 28, 28), that no run of rounds has drawn, and what is known of a model."""
    scores = evaluate_samples(samples, target) | {"tstr": _tstr(samples, target, seed, rounds)}
    return pd.DataFrame([{"round": rounds} | of_model | scores]), samples[:10]


def honest_job(target: int, seed: int, *, rounds: int | None = None) -> Result:
    """The accuracy of the honest federation beside `run_attack`, after its last round; no pictures."""
    model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    return pd.DataFrame([{"round": check_rounds(rounds), "accuracy": accuracy(model, load_dataset()[1])}]), NO_PICTURES


def follow_job(target: int, seed: int, *, rounds: int | None = None, attacked: bool = True) -> Result:
    """What a server could see of the global model after every round of an attack, or of the honest federation.

    The accuracies, and `spare_bias`: how far the bias of the spare output lies above the mean of the others. No
    pictures.
    """
    rounds = check_rounds(rounds)
    train, test = load_dataset()
    model, clients = build_federation(train, target, num_rounds=rounds, seed=seed, device="cpu")
    if not attacked:
        clients[-1] = Client(clients[-1].dataset)
    rows = []
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        *others, spare = model[-1].bias.tolist()
        rows.append({"round": round.number} | accuracies(model, test, target))
        rows[-1]["spare_bias"] = spare - sum(others) / len(others)
    return pd.DataFrame(rows), NO_PICTURES


def inversion_job(
    target: int,
    seed: int,
    *,
    rounds: int | None = None,
    attacked: bool = True,
    finished: bool = True,
    with_generator: bool = False,
) -> Result:
    """Model inversion of one global model, after the federation.

    Args:
        target, seed, rounds: as for `run_attack`.
        attacked: of the federation under attack, or else of the honest one.
        finished: the last model; or else the last one before the attacker goes quiet.
        with_generator: by `invert_with_generator`, with as many steps as the attack has; or else by `invert`.
    """
    rounds = check_rounds(rounds)
    active = count_active_rounds(rounds)
    model, clients = build_federation(load_dataset()[0], target, num_rounds=rounds, seed=seed, device="cpu")
    if not attacked:
        clients[-1] = Client(clients[-1].dataset)
    for round in federate(model, clients, num_rounds=rounds, seed=seed):
        if not finished and round.number == active:
            break
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if with_generator:
            pictures = invert_with_generator(model, target, steps=active * GENERATOR_STEPS)
        else:
            pictures = to_uint8(invert(model, target))
    of_model = accuracies(model, load_dataset()[1], target)
    return judge_pictures(target, seed, pictures, rounds=round.number, **of_model)


def memory_job(target: int, seed: int, *, rounds: int | None = None) -> Result:
    """A generator that has learned all training images of the target by heart (`memorise`)."""
    rounds = check_rounds(rounds)
    pictures = memorise(load_dataset()[0].images_of(str(target)), steps=15 * rounds, seed=seed)
    return judge_pictures(target, seed, to_uint8(pictures), rounds=rounds)


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
    more: Sequence[tuple[str, int, int]] = (),
) -> pd.DataFrame:
    """Run each setting on each digit and seed, seed by seed; the rows go into a csv file.

    Args:
        settings: jobs by name: `anatomy.SETTINGS`, `defences.DEFENCES`, `detection.ATTACKERS`.
        column: of the csv file, for the names.
        names: of `settings`; by default all.
        digits: the classes that the attacker lacks.
        seeds: of the runs.
        rounds: of every run, for a quick look; by default what the setting says, or 100.
        path, num_workers: as for `sweep`. The pictures of digit 3 and seed 0 go into a file of the same name ending in
            `.npz`, whichever other runs there are: a row of pictures must not depend on what was run last.
        recorded: names of settings whose whole records of seed 0 go beside the csv file.
        more: runs beside these: setting, digit and seed of each.

    Returns:
        All rows of the file: what each job returns, with its setting, digit and seed.

    Raises:
        ValueError: a name is unknown.
    """
    names = list(settings) if names is None else names
    unknown = sorted({*names, *recorded, *(name for name, *_ in more)} - set(settings))
    if unknown:
        raise ValueError(f"unknown names {unknown}: choose from {list(settings)}")
    jobs = {}
    for name, digit, seed in [*((name, digit, seed) for seed, digit, name in product(seeds, digits, names)), *more]:
        wanted = getattr(settings[name], "keywords", {}).get("rounds", 100) if rounds is None else rounds
        keep = name in recorded and digit in digits and seed == 0
        kept = {"folder": Path(path).parent, "kind": record_kind(name)} if keep else {}
        jobs[name, digit, seed] = partial(settings[name], digit, seed, rounds=wanted, **kept)
    pictures = {name: (name, 3, 0) for name in settings}
    return sweep(jobs, (column, "digit", "seed"), path, num_workers=num_workers, pictures=pictures)


def record_kind(name: str) -> str:
    """The kind under which a setting's record is saved: a file's name that still reads as the setting's."""
    return name.replace("%", "percent").replace(",", "").replace(" ", "_")
