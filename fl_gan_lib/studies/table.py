"""The README's table: the attack and what it is compared with, over digits and seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from fl_gan_lib.studies.jobs import attack_job, honest_job, oracle_job
from fl_gan_lib.studies.sweep import Job, sweep

KINDS: dict[str, Job] = {
    "attack": partial(attack_job, num_frames=24),
    "passive": partial(attack_job, num_frames=24, kind="passive", inject=False),
    "oracle": partial(oracle_job, num_frames=24),
    "honest": honest_job,
}


def default_cases(digits: Iterable[int], seeds: Sequence[int] | None = None) -> list[tuple[int, int]]:
    """(digit, seed): by default three seeds, and five for the two digits of the README's pictures."""
    pairs = [(digit, seed) for digit in digits for seed in seeds or range(5 if digit in (3, 9) else 3)]
    return sorted(pairs, key=lambda pair: pair[1])


def compare_digits(
    cases: Sequence[tuple[int, int]],
    *,
    kinds: Sequence[str] = ("attack", "honest", "oracle"),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """A row of csv for each (digit, seed) of `cases` and each of `kinds`, after the last round.

    Args:
        cases: pairs of a digit and a seed.
        kinds: of `KINDS`: the attack, the attack without injection, the oracle, the honest federation.
        rounds: of each run; by default 200.
        path, num_workers: as for `sweep`. The records of seed 0 go beside the csv file.
    """
    jobs = {}
    for (digit, seed), kind in product(cases, kinds):
        kept = {"folder": Path(path).parent} if seed == 0 and kind != "honest" else {}
        jobs[kind, digit, seed] = partial(KINDS[kind], digit, seed, rounds=rounds, **kept)
    return sweep(jobs, ("kind", "digit", "seed"), path, num_workers=num_workers, last_round_only=True)
