"""What notebook 07 measures: what a round costs on Flower, its own defences, sampled and many participants."""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from fl_gan_lib.attack import GANAttacker, run_attack
from fl_gan_lib.classes import DIGITS
from fl_gan_lib.datasets.drawings import drawings
from fl_gan_lib.flower.engine import check_config, deployed, deployment, run, simulate, simulation
from fl_gan_lib.flower.settings import RULES
from fl_gan_lib.metrics import tstr
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord, is_recognisable
from fl_gan_lib.studies.jobs import NO_PICTURES, attack_job
from fl_gan_lib.studies.secrets import draw_symbol
from fl_gan_lib.studies.sweep import Result, sweep

# (participants drawn for a round, rounds), of ten: in the first three each is drawn about sixty times.
DRAWS = ((10, 60), (5, 120), (2, 300), (5, 60), (2, 60))


# (nodes, local steps of each in a round); the last one has the longer rounds that a deployment is made for.
WORKLOADS = ((2, 8), (10, 8), (50, 8), (2, 32))


def compare_engines(
    workloads: Sequence[tuple[int, int]] = WORKLOADS,
    *,
    rounds: int = 8,
    repeats: int = 3,
    most_deployed: int = 2,
    path: str | Path,
) -> pd.DataFrame:
    """Seconds and bytes a round in `federate`, on Flower's simulation and in its deployment, the same work, as csv.

    Args:
        workloads: pairs of how many participants there are, the attacker among them, and how many mini-batches each
            takes in a round; the generator takes half as many again. They share the training images of mnist-5k.
        rounds: of each run, at least 2.
        repeats: of each run.
        most_deployed: with more nodes there is no deployment, which starts a process for each message.
        path: the csv file.

    Returns:
        A row a run: `first_round` and `round`, the median of the later ones, in seconds; on Flower also `bytes`, those
        of the weights that go down and up in a round, for all nodes.
    """
    rows = []
    runs = [(*workload, repeat) for repeat in range(repeats) for workload in workloads]
    for count, local_steps, repeat in tqdm(runs, "sets of runs", unit="set"):
        steps = {"local_steps": local_steps, "generator_steps": 3 * local_steps // 2}
        options = {"rounds": rounds, "frames": 0} | steps  # nothing is measured on the way
        costs = {}
        for engine, start in (("simulation", simulation), ("deployment", deployed)):
            if engine == "simulation" or count <= most_deployed:
                with tempfile.TemporaryDirectory() as folder:
                    costs[engine] = _cost(start(check_config(3, folder, count, options)))
        attacker = partial(GANAttacker, generator_steps=steps["generator_steps"])
        options = {"num_honest": count - 1, "client_options": {"local_steps": local_steps}, "make_attacker": attacker}
        options |= {"rounds": rounds, "num_frames": 10 * rounds}
        seconds = run_attack(3, device="cpu", progress=False, **options).metrics["seconds"]
        costs["federate"] = {"first_round": seconds[0], "round": seconds.diff().median()}
        key = {"nodes": count, "local_steps": local_steps}
        rows += [key | {"engine": engine, "repeat": repeat} | cost for engine, cost in costs.items()]
    table = pd.DataFrame(rows).round(4)
    files.write_atomically(path, table.to_csv(index=False).encode())
    return table


def _cost(log: Iterable[str]) -> dict[str, float]:
    """Of a run on Flower, by what the server writes into its log."""
    lines = [re.search(r"round \d+/\d+: ([\d.]+) s, ([\d.]+) MB", line) for line in log]
    seconds, megabytes = (pd.Series([float(line[group]) for line in lines if line]) for group in (1, 2))
    return {"first_round": seconds[0], "round": seconds.diff().median(), "bytes": 1e6 * megabytes[0]}


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


# By name, settings of a run on Flower: its own rules for the server, its secure aggregation and its local DP.
DEFENCES: dict[str, dict[str, object]] = {
    **{rule: {"rule": rule} for rule in RULES},
    "SecAgg+": {"secure": True},
    "local DP, epsilon 8": {"local_epsilon": 8.0},
}


def flower_job(target: int, seed: int, *, rounds: int = 60, num_nodes: int = 10, **config: object) -> Result:
    """The attack on Flower's simulation, and `tstr` of its last round."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"seed": seed, "frames": 12, "wait": 600.0}
        record = simulate(target, output=folder, num_nodes=num_nodes, rounds=rounds, progress=False, **options | config)
    rows = record.metrics.assign(tstr=np.nan)
    rows.loc[rows.index[-1], "tstr"] = tstr(record.final_samples, target, seeds=[seed])
    return rows, record.samples[-1, :10]


def compare_parts(
    digits: Sequence[int] = (3,), *, seeds: Sequence[int] = (0,), rounds: int = 60, path: str | Path
) -> pd.DataFrame:
    """The attack among ten against Flower's own defences, as they run on Flower, a row of csv a recorded round.

    Args:
        digits: to attack.
        seeds: of the runs.
        rounds: of each.
        path: the csv file, as for `sweep`.
    """
    jobs = {
        (name, digit, seed): partial(flower_job, digit, seed, rounds=rounds, **config)
        for seed in seeds
        for digit in digits
        for name, config in DEFENCES.items()
    }
    pictures = {name: (name, digits[0], seeds[0]) for name in DEFENCES}
    return sweep(jobs, ("defence", "digit", "seed"), path, num_workers=1, pictures=pictures)


def secret_job(symbol: str, seed: int, *, rounds: int = 24, local_steps: int = 32) -> Result:
    """The attack on a drawn symbol, which only one of two nodes holds, in Flower's deployment; few and long rounds.

    In the rows, `since_start` is the time from `flwr run` until the log tells of the round, in seconds.
    """
    drawn = draw_symbol(symbol, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        file = files.write_atomically(Path(folder) / "secret.npz", files.pack({}, {"drawings": drawn}))
        options = {"classes": f"{','.join(DIGITS)},secret", "rounds": rounds, "local_steps": local_steps, "seed": seed}
        wanted = check_config("secret", folder, 2, options | {"generator_steps": 3 * local_steps})
        home = Path(folder) / "flower"
        with deployment(home, [{"data": file, "judge": True}, {}]):
            start, since_start = time.monotonic(), {}
            for line in run(home, wanted.as_config()):
                if match := re.search(r"round (\d+)/\d+: [\d.]+ s", line):
                    since_start[int(match[1])] = time.monotonic() - start
        record = AttackRecord.load(wanted.path)
    dataset = drawings(drawn, "secret", seed=seed)
    rows = record.metrics.assign(
        **{f"probe, {name}": value for name, value in record.anchors.items()},
        since_start=record.metrics["round"].map(since_start),
        recognisable=is_recognisable(record),
        tstr=np.nan,
    )
    rows.loc[rows.index[-1], "tstr"] = tstr(record.final_samples, "secret", dataset=dataset, seeds=[seed])
    return rows, np.concatenate([drawn[:10], *record.samples[[0, len(rows) // 4, len(rows) // 2, -1], :10]])


def compare_deployed_secrets(
    symbols: Sequence[str] = ("house", "star", "smiley"), *, seeds: Sequence[int] = (0,), path: str | Path
) -> pd.DataFrame:
    """Drawn symbols, stolen from one node by another, as csv; beside it pictures of ten drawings and of four rounds.

    Args:
        symbols: of `secrets.SYMBOLS`.
        seeds: of the runs.
        path: the csv file, as for `sweep`.
    """
    jobs = {(symbol, seed): partial(secret_job, symbol, seed) for seed in seeds for symbol in symbols}
    pictures = {symbol: (symbol, seeds[0]) for symbol in symbols}
    return sweep(jobs, ("secret", "seed"), path, num_workers=1, pictures=pictures)


# Participants, and rounds; on all of MNIST, where ten thousand have six images each.
DATASET = "mnist"
CROWDS = ((1_000, 300), (10_000, 20))


def compare_crowds(
    crowds: Sequence[tuple[int, int]] = CROWDS, *, per_round: int = 10, path: str | Path
) -> pd.DataFrame:
    """Thousands of virtual participants on all of MNIST, of whom a few take part in each round, as csv.

    Args:
        crowds: participants, the attacker among them, and rounds.
        per_round: how many the server draws.
        path: the csv file, as for `sweep`.

    Returns:
        A row a run, see `crowd_job`.
    """
    jobs = {(count,): partial(crowd_job, count, rounds, per_round) for count, rounds in crowds}
    return sweep(jobs, ("participants",), path, num_workers=1)


def crowd_job(participants: int, rounds: int, per_round: int) -> Result:
    """A run, as one row.

    `first_round` and `later_round` (the median) are in seconds; `memory`, the most that all of Flower's processes had
    at a time, in MB; `turns` are those of the attacker. The other numbers are of the last fakes that it has published,
    in the round `last_turn`.
    """
    with tempfile.TemporaryDirectory() as folder, _most_memory() as memory:
        options = {"dataset": DATASET, "rounds": rounds, "per_round": per_round, "frames": 10 * rounds}
        wanted = check_config(3, folder, participants, options | {"wait": 1200.0})
        cost = _cost(simulation(wanted))
        metrics = AttackRecord.load(wanted.path).metrics if wanted.path.exists() else pd.DataFrame()
    cost["later_round"] = cost.pop("round")
    row = {"round": rounds} | cost | {"memory": memory[0], "turns": len(metrics)}
    if len(metrics):
        row |= metrics.rename(columns={"round": "last_turn"}).drop(columns=["seconds", "bytes"]).iloc[-1].to_dict()
    return pd.DataFrame([row]), NO_PICTURES


@contextmanager
def _most_memory() -> Iterator[list[float]]:
    """The most memory, in MB, that this process and all that it has started have had at a time, once a second."""
    import psutil  # not above: only this needs it

    most, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(1):
            family = [psutil.Process(), *psutil.Process().children(recursive=True)]
            sizes = []
            for process in family:
                with suppress(psutil.Error):
                    sizes.append(process.memory_info().rss)
            most[0] = max(most[0], sum(sizes) / 1e6)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield most
    finally:
        done.set()
        thread.join()
