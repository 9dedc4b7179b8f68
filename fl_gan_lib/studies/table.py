"""The README's table: the attack and what it is compared with, over digits and seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from fl_gan_lib.studies.jobs import attack, honest, oracle
from fl_gan_lib.studies.sweep import Result, sweep


def compare_digits(
    cases: Sequence[tuple[int, int]],
    *,
    kinds: Sequence[str] = ("attack", "honest", "oracle"),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """A row of csv for each (digit, seed) of `cases` and each of `kinds`, after the last round.

    The kinds are "attack", "passive" (the attack without injection), "oracle" and "honest". The records of seed 0 go
    beside the csv file. `path` and `num_workers` as for `sweep`.
    """
    jobs: dict[tuple, Callable[[], Result]] = {}
    for digit, seed in cases:
        folder = None if seed else Path(path).parent
        runs = {
            "attack": partial(attack, digit, seed, rounds=rounds, folder=folder),
            "passive": partial(attack, digit, seed, rounds=rounds, folder=folder, kind="passive", inject=False),
            "oracle": partial(oracle, digit, seed, rounds=rounds, folder=folder),
            "honest": partial(honest, digit, seed, rounds=rounds),
        }
        jobs |= {(kind, digit, seed): runs[kind] for kind in kinds}
    return sweep(jobs, ("kind", "digit", "seed"), path, num_workers=num_workers, last_round_only=True)
