"""The README's table: the attack and what it is compared with, over digits and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.metrics import anchor_samples, measure, tstr, yardsticks
from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.jobs import (
    NO_PICTURES,
    anchor_job,
    attack_job,
    follow_job,
    honest_job,
    oracle_job,
    withheld_attack,
)
from fl_gan_lib.studies.sweep import Job, Result, sweep

# By name, the job and for how many seeds it runs; for the digits of the README's pictures, two seeds more where there
# are several anyway.
KINDS: dict[str, tuple[Job, int]] = {
    "attack": (partial(attack_job, num_frames=24), 3),
    "honest": (honest_job, 3),
    "passive": (partial(attack_job, num_frames=24, kind="passive", inject=False), 1),
    "class held back": (partial(withheld_attack, num_frames=24, kind="class_held_back_200_rounds", every=None), 1),
    "oracle": (oracle_job, 3),
    "oracle, all classes": (partial(oracle_job, all_classes=True), 3),
    "real images": (partial(anchor_job, name="real images"), 3),
    "another class": (partial(anchor_job, name="another class"), 1),
    "noise": (partial(anchor_job, name="noise"), 1),
}
RECORDED = ("attack", "passive", "class held back", "oracle")
CONFIRMED = ("attack", "oracle", "passive", "class_held_back_200_rounds")  # names of files
IN_PICTURES = (3, 9)


def compare_digits(
    digits: Sequence[int] = range(10),
    *,
    seeds: Sequence[int] | None = None,
    kinds: Sequence[str] = tuple(KINDS),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """A row of csv for each digit, seed and kind of run, after the last round.

    Args:
        digits: that the attacker lacks.
        seeds: of the runs; by default as many as `KINDS` says, and on 3 and 9 two more of the attack, of the honest
            federation and of the classifiers that judge real images.
        kinds: of `KINDS`: the attack, and what it is compared with.
        rounds: of each run; by default 200.
        path, num_workers: as for `sweep`. The records of seed 0 go beside the csv file.
    """
    jobs = {}
    for kind, digit in product(kinds, digits):
        job, number = KINDS[kind]
        number += 2 if digit in IN_PICTURES and kind in ("attack", "honest", "real images") else 0
        for seed in range(number) if seeds is None else seeds:
            kept = {"folder": Path(path).parent} if seed == 0 and kind in RECORDED else {}
            jobs[kind, digit, seed] = partial(job, digit, seed, rounds=rounds, **kept)
    jobs = dict(sorted(jobs.items(), key=lambda item: item[0][2]))
    return sweep(jobs, ("kind", "digit", "seed"), path, num_workers=num_workers, last_round_only=True)


def follow_rounds(
    target: int = 3,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """A row of csv for every round of the attack on a digit, and of the honest federation: see `follow_job`.

    Args:
        target: the digit.
        seeds: of the runs.
        rounds: of each run; by default 200.
        path, num_workers: as for `sweep`.
    """
    kinds = {"attack": follow_job, "honest": partial(follow_job, attacked=False)}
    jobs = {
        (kind, target, seed): partial(job, target, seed, rounds=rounds) for seed in seeds for kind, job in kinds.items()
    }
    return sweep(jobs, ("kind", "digit", "seed"), path, num_workers=num_workers)


def confirm_on_mnist(
    folder: str | Path, *, digits: Sequence[int] = range(10), path: str | Path, num_workers: int | None = None
) -> pd.DataFrame:
    """The recorded runs of seed 0, judged once more on the 10,000 test images of MNIST, none of which is in mnist-5k.

    Args:
        folder: of records.
        digits: whose records are judged.
        path, num_workers: as for `sweep`.

    Returns:
        A row for each digit and kind of run, with `probe` and `tstr` (one seed); real images are among the kinds.

    Raises:
        FileNotFoundError: a record is missing.
    """
    jobs = {(digit, 0): partial(confirm_job, digit, 0, folder=Path(folder)) for digit in digits}
    return sweep(jobs, ("digit", "seed"), path, num_workers=num_workers)


def confirm_job(target: int, seed: int, *, folder: Path) -> Result:
    """A row for real images of a digit, and one for each of `CONFIRMED`; the number of a row stands for its round."""
    dataset = load_dataset("mnist-5k")[0], load_dataset("mnist")[1]
    samples = {"real images": anchor_samples(target, dataset=dataset)["real images"]}
    samples |= {kind: AttackRecord.load(record_path(folder, target, kind)).final_samples for kind in CONFIRMED}
    real = yardsticks(target, dataset)
    rows = [
        {
            "kind": kind,
            "probe": measure(images, real)["probe"],
            "tstr": tstr(images, target, dataset=dataset, seeds=[0]),
        }
        for kind, images in samples.items()
    ]
    return pd.DataFrame(rows).assign(round=range(len(rows))), NO_PICTURES
