"""What notebook 07 measures: what a round costs on Flower, and the attack where not everybody takes part."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from fl_gan_lib.attack import run_attack
from fl_gan_lib.flower.engine import simulate
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.studies.jobs import attack_job
from fl_gan_lib.studies.sweep import sweep

# (participants drawn for a round, rounds), of ten: in the first three each is drawn about sixty times.
DRAWS = ((10, 60), (5, 120), (2, 300), (5, 60), (2, 60))


def compare_engines(
    nodes: Sequence[int] = (2, 10, 50),
    *,
    rounds: int = 8,
    repeats: int = 3,
    local_steps: int = 8,
    path: str | Path,
) -> pd.DataFrame:
    """Seconds and bytes a round on Flower's simulation and in `federate`, the same work turn by turn, as csv.

    Args:
        nodes: participants, the attacker among them; they share the 4,000 training images of mnist-5k.
        rounds: of each run, at least 2.
        repeats: of each run.
        local_steps: mini-batches of a participant in a round.
        path: the csv file.

    Returns:
        A row a run: `first_round` and `round`, the median of the later ones, in seconds; on Flower also `bytes`, those
        of the weights that go down and up in a round, for all nodes.
    """
    rows = []
    runs = [(count, repeat) for repeat in range(repeats) for count in nodes]
    for count, repeat in tqdm(runs, "pairs of runs", unit="pair"):
        with tempfile.TemporaryDirectory() as folder:
            options = {"num_nodes": count, "local_steps": local_steps, "frames": 10 * rounds}
            flower = simulate(3, output=folder, rounds=rounds, progress=False, **options)
        options = {"num_honest": count - 1, "client_options": {"local_steps": local_steps}, "num_frames": 10 * rounds}
        plain = run_attack(3, rounds=rounds, device="cpu", progress=False, **options)
        for engine, record in (("Flower", flower), ("federate", plain)):
            rows.append({"nodes": count, "engine": engine, "repeat": repeat} | _cost(record))
    table = pd.DataFrame(rows).round(4)
    files.write_atomically(path, table.to_csv(index=False).encode())
    return table


def _cost(record: AttackRecord) -> dict[str, float]:
    seconds = record.metrics["seconds"]
    cost = {"first_round": seconds.iloc[0], "round": seconds.diff().median()}
    return cost | ({"bytes": record.metrics["bytes"].iloc[0]} if "bytes" in record.metrics else {})


def compare_draws(
    draws: Sequence[tuple[int, int]] = DRAWS,
    *,
    target: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """The attack among ten participants of whom the server draws some for each round, a row of csv a recorded round.

    Args:
        draws: pairs of how many are drawn, 1 to 10, and how many rounds there are.
        target: the class that the attacker lacks.
        seeds: of the runs.
        path, num_workers: as for `sweep`.
    """
    jobs = {
        (drawn, rounds, seed): partial(attack_job, target, seed, num_honest=9, clients_per_round=drawn, rounds=rounds)
        for seed in seeds
        for drawn, rounds in draws
    }
    return sweep(jobs, ("drawn", "rounds", "seed"), path, num_workers=num_workers)
