"""Many runs at once, on mnist-5k: the table over digits and seeds, and the settings that notebook 05 compares."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fl_gan_lib import archives
from fl_gan_lib.attack import GENERATOR_STEPS, GANAttacker, build_federation, check_rounds, run_attack
from fl_gan_lib.baselines import invert, run_oracle, train_honest
from fl_gan_lib.data import load_dataset, to_uint8
from fl_gan_lib.federation import accuracy, federate
from fl_gan_lib.metrics import evaluate_samples
from fl_gan_lib.models import Classifier
from fl_gan_lib.records import record_path
from fl_gan_lib.variants import LeakyClassifier, MLPGenerator, PriorAttacker

# What a run leaves behind: a row of numbers for each recorded round, and fakes of the last one, uint8 (n, 28, 28).
Result = tuple[pd.DataFrame, np.ndarray]
Run = Callable[..., Result]

NO_PICTURES = np.zeros((0, 28, 28), np.uint8)


def attack(target: int, seed: int, *, folder: Path | None = None, kind: str = "attack", **options: Any) -> Result:
    """`run_attack`; the whole record goes to `folder`, if one is given, as one of that kind."""
    record = run_attack(target, seed=seed, device="cpu", progress=False, **options)
    if folder is not None:
        record.save(record_path(folder, target, kind))
    return record.metrics, record.samples[-1, :10]


def oracle(target: int, seed: int, *, folder: Path | None = None, **options: Any) -> Result:
    """`run_oracle`; the whole record goes to `folder`, if one is given."""
    record = run_oracle(target, seed=seed, device="cpu", progress=False, **options)
    if folder is not None:
        record.save(record_path(folder, target, "oracle"))
    return record.metrics, record.samples[-1, :10]


def honest(target: int, seed: int, *, rounds: int | None = None, num_frames: int | None = None) -> Result:
    """The accuracy of the honest federation beside `run_attack`, after its last round; nothing is drawn."""
    model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    return pd.DataFrame([{"round": check_rounds(rounds), "accuracy": accuracy(model, load_dataset()[1])}]), NO_PICTURES


def inversion(
    target: int, seed: int, *, rounds: int | None = None, num_frames: int | None = None, honest: bool = False
) -> Result:
    """Plain model inversion on the last global model, of the honest federation or of the one under attack."""
    rounds = check_rounds(rounds)
    if honest:
        model = train_honest(target, rounds=rounds, seed=seed, device="cpu")
    else:
        model, clients = build_federation(load_dataset()[0], target, num_rounds=rounds, seed=seed, device="cpu")
        for _ in federate(model, clients, num_rounds=rounds, seed=seed):
            pass
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        pictures = to_uint8(invert(model, target))
    row = {"round": rounds, "accuracy": accuracy(model, load_dataset()[1])} | evaluate_samples(pictures, target)
    return pd.DataFrame([row]), pictures[:10]


def _sharing(upload: float, download: float) -> Run:
    return partial(attack, client_options={"upload_fraction": upload, "download_fraction": download})


def _turns(rounds: int, local_steps: int, generator_steps: int) -> Run:
    attacker = partial(GANAttacker, generator_steps=generator_steps)
    return partial(attack, rounds=rounds, make_attacker=attacker, client_options={"local_steps": local_steps})


# The settings of notebook 05, by name. Where they say nothing else: digit 3, 100 rounds, one honest client.
SETTINGS: dict[str, Run] = {
    "default": attack,
    "honest federation": honest,
    "no injection": partial(attack, inject=False),
    "1 honest": partial(attack, rounds=60),
    "4 honest, same total": partial(attack, rounds=60, num_honest=4),
    "9 honest, same total": partial(attack, rounds=60, num_honest=9),
    "40 honest, same total": partial(attack, rounds=60, num_honest=40),
    "1 honest, 97 images each": partial(attack, rounds=60, images_per_client=97),
    "4 honest, 97 images each": partial(attack, rounds=60, num_honest=4, images_per_client=97),
    "9 honest, 97 images each": partial(attack, rounds=60, num_honest=9, images_per_client=97),
    "up 0.5, down 0.5": _sharing(0.5, 0.5),
    "up 0.1, down 0.1": _sharing(0.1, 0.1),
    "up 0.1, down 1": _sharing(0.1, 1),
    "up 1, down 0.1": _sharing(1, 0.1),
    "400 rounds of 2 steps": _turns(400, 2, GENERATOR_STEPS // 4),
    "25 rounds of 32 steps": _turns(25, 32, 4 * GENERATOR_STEPS),
    "5 rounds of 160 steps": _turns(5, 160, 20 * GENERATOR_STEPS),
    "strided LeakyReLU": partial(attack, make_model=LeakyClassifier),
    "ten outputs": partial(
        attack, make_model=partial(Classifier, 10), make_attacker=partial(GANAttacker, fake_label=0)
    ),
    "MLP generator": partial(attack, make_attacker=partial(GANAttacker, make_generator=MLPGenerator)),
    "the paper's split": partial(attack, split="paper"),
    "10 images of the target": partial(attack, target_images=10),
    "50 images of the target": partial(attack, target_images=50),
    "200 images of the target": partial(attack, target_images=200),
    "inversion, honest model": partial(inversion, honest=True),
    "inversion, attacked model": inversion,
    "oracle": oracle,
    "own digits first": partial(attack, make_attacker=PriorAttacker),
}


def compare_settings(
    names: Sequence[str] = tuple(SETTINGS),
    *,
    target: int = 3,
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Run the settings of notebook 05, a row of csv for each recorded round.

    Args:
        names: of `SETTINGS`.
        target: the digit that the attacker lacks, 0 to 4 (with the paper's split the others have no victim).
        seeds: of the runs.
        rounds: of every run, for a quick look; by default what the setting says, or 100.
        path, num_workers: as for `sweep`. The first seed's pictures go into a file of the same name ending in `.npz`.

    Raises:
        ValueError: a name is unknown.
    """
    unknown = sorted(set(names) - set(SETTINGS))
    if unknown:
        raise ValueError(f"unknown settings {unknown}: choose from {list(SETTINGS)}")
    override = {} if rounds is None else {"rounds": rounds}
    jobs = {}
    for seed in seeds:
        for name in names:
            options = {"rounds": 100} | getattr(SETTINGS[name], "keywords", {}) | override
            jobs[name, seed] = partial(SETTINGS[name], target, seed, num_frames=12, **options)
    pictures = {name: (name, seeds[0]) for name in names}
    return sweep(jobs, ("setting", "seed"), path, num_workers=num_workers, pictures=pictures)


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


def sweep(
    jobs: Mapping[tuple, Callable[[], Result]],
    columns: Sequence[str],
    path: str | Path,
    *,
    num_workers: int | None = None,
    last_round_only: bool = False,
    pictures: Mapping[str, tuple] | None = None,
) -> pd.DataFrame:
    """Run jobs side by side, one thread each, and write their rows to a csv file.

    The rows of finished jobs are kept in a second file, ending in `.partial`, until all are there: an interrupted sweep
    that is started again goes on where it was. Rows of other jobs that the csv file holds already stay in it.

    Args:
        jobs: by key, a tuple of one value for each of `columns`.
        columns: the names of the key's values.
        path: the csv file.
        num_workers: processes; by default as many as torch has threads here, which is one a CPU core unless
            `OMP_NUM_THREADS` says less. 0: none, the jobs run in this process, which spares a few of them the start of
            another (torch to load, a judge to train).
        last_round_only: keep one row a job.
        pictures: name -> key of the jobs whose pictures are kept, in a `.npz` file beside the csv.

    Returns:
        All rows of the file.
    """
    path, columns = Path(path), list(columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_path, gallery = path.with_suffix(".partial"), path.with_suffix(".npz")
    rows = [pd.read_csv(partial_path)] if partial_path.exists() else []
    done = _keys(rows[0], columns) if rows else set()
    if done & jobs.keys():
        tqdm.write(f"{len(done & jobs.keys())} of {len(jobs)} runs are in {partial_path} (delete it to begin afresh)")
    shown = dict(np.load(gallery)) if gallery.exists() else {}
    names = {key: name for name, key in (pictures or {}).items()}
    wanted = {key: job for key, job in jobs.items() if key not in done}
    with closing(_results(wanted, num_workers)) as results:
        for key, (metrics, images) in tqdm(results, "runs", len(wanted), unit="run"):
            kept = (metrics.tail(1) if last_round_only else metrics).round(4)
            rows.append(kept.assign(**dict(zip(columns, key, strict=True))))
            if key in names and len(images):
                shown[names[key]] = images
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **shown)
                archives.replace(gallery, buffer.getvalue())
            archives.replace(partial_path, pd.concat(rows).to_csv(index=False).encode())
    table = pd.concat(rows).sort_values([*columns, "round"])
    table = table[columns + [column for column in table if column not in columns]]
    if path.exists():
        old = pd.read_csv(path)
        others = [key not in jobs for key in old[columns].itertuples(index=False, name=None)]
        table = pd.concat([old[others], table]).sort_values([*columns, "round"])
    archives.replace(path, table.to_csv(index=False).encode())
    partial_path.unlink()
    return table


def _results(
    jobs: Mapping[tuple, Callable[[], Result]], num_workers: int | None
) -> Generator[tuple[tuple, Result], None, None]:
    """Key and result of each job, as they end."""
    if num_workers == 0:
        for key, job in jobs.items():
            yield key, job()
        return
    context = multiprocessing.get_context("spawn")  # a forked torch can deadlock in its thread pools
    with ProcessPoolExecutor(num_workers or torch.get_num_threads(), context, torch.set_num_threads, (1,)) as pool:
        running = {pool.submit(job): key for key, job in jobs.items()}
        try:
            for future in as_completed(running):
                yield running[future], future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _keys(rows: pd.DataFrame, columns: list[str]) -> set[tuple]:
    return set(rows[columns].itertuples(index=False, name=None))
