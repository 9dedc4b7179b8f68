"""The README's table: the attack and what it is compared with, over digits and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from fl_gan_lib.studies.jobs import attack_job, follow_job, honest_job, oracle_job, withheld_attack
from fl_gan_lib.studies.sweep import Job, sweep

# By name, the job and for how many seeds it runs; for the digits of the README's pictures, two seeds more where there
# are several anyway.
KINDS: dict[str, tuple[Job, int]] = {
    "attack": (partial(attack_job, num_frames=24), 3),
    "honest": (honest_job, 3),
    "passive": (partial(attack_job, num_frames=24, kind="passive", inject=False), 1),
    "class held back": (partial(withheld_attack, num_frames=24, kind="class_held_back", every=None), 1),
    "oracle": (oracle_job, 3),
    "oracle, all classes": (partial(oracle_job, kind="oracle_all_classes", all_classes=True), 3),
}
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
        seeds: of the runs; by default as many as `KINDS` says, and for the attack and the honest federation on 3 and 9
            five.
        kinds: of `KINDS`: the attack, and what it is compared with.
        rounds: of each run; by default 200.
        path, num_workers: as for `sweep`. The records of seed 0 go beside the csv file.
    """
    jobs = {}
    for kind, digit in product(kinds, digits):
        job, number = KINDS[kind]
        number += 2 if digit in IN_PICTURES and kind in ("attack", "honest") else 0
        for seed in range(number) if seeds is None else seeds:
            kept = {"folder": Path(path).parent} if seed == 0 and kind != "honest" else {}
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
