"""Many jobs side by side, one thread each; their rows go into a csv file.

A sweep that is interrupted goes on where it was, on another machine too: what is finished is in a csv file that can be
committed, and each row carries a hash of the parameters that it was made with. Pictures and records of finished jobs
are in `.npz` files beside it: commit them as well.
"""

from __future__ import annotations

import hashlib
import inspect
import io
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed, parallel_config
from tqdm.auto import tqdm

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.recording import files

# What a job leaves behind: a row of numbers for each recorded round, and fakes of the last one, uint8 (n, S, S).
Result = tuple[pd.DataFrame, np.ndarray]
Job = Callable[..., Result]


def sweep(
    jobs: Mapping[tuple, Job],
    columns: Sequence[str],
    path: str | Path,
    *,
    num_workers: int | None = None,
    last_round_only: bool = False,
    pictures: Mapping[str, tuple] | None = None,
) -> pd.DataFrame:
    """Run jobs side by side, one thread each, and write their rows to a csv file.

    Until all are there, the rows of finished jobs are kept in a second file, `<name>.unfinished.csv`. A sweep that is
    started again takes over those that were made with the same parameters, and runs the other jobs. Rows of other jobs
    stay in both files.

    Args:
        jobs: by key, a tuple of one value for each of `columns`; called without arguments.
        columns: the names of the key's values.
        path: the csv file. A column `parameters` has the `fingerprint` of each row's job.
        num_workers: processes; by default as many as torch has threads here, which is one a CPU core unless
            `OMP_NUM_THREADS` says less. 1: the jobs run in this process, which spares a few of them the start of
            another (torch to load, a judge to train).
        last_round_only: keep one row a job.
        pictures: name -> key of the jobs whose pictures are kept, in a `.npz` file beside the csv.

    Returns:
        All rows of the file.

    Raises:
        ValueError: a job has no name by which it could be known again, or there is to be no worker.
    """
    num_workers = torch.get_num_threads() if num_workers is None else num_workers
    num_workers = whole_number("num_workers", num_workers, 1, why="(1 is this process alone)")
    path, columns = Path(path).expanduser(), list(columns)
    unfinished, gallery = path.with_suffix(".unfinished.csv"), path.with_suffix(".npz")
    fingerprints = {key: fingerprint(job) for key, job in jobs.items()}
    rows, others = _take_over(unfinished, columns, fingerprints)
    done = {key for table in rows for key in _keys(table, columns)}
    if done:
        tqdm.write(f"{len(done)} of {len(jobs)} runs are in {unfinished} (delete it to begin afresh)")
    shown = dict(np.load(gallery)) if gallery.exists() else {}
    names = {key: name for name, key in (pictures or {}).items()}
    to_do = {key: job for key, job in jobs.items() if key not in done}
    with closing(_finished(to_do, num_workers)) as results:
        for key, (metrics, images) in tqdm(results, "runs", len(to_do), unit="run"):
            kept = (metrics.tail(1) if last_round_only else metrics).round(4)
            rows.append(kept.assign(**dict(zip(columns, key, strict=True)), parameters=fingerprints[key]))
            if key in names and len(images):
                shown[names[key]] = images
                buffer = io.BytesIO()
                np.savez_compressed(buffer, **shown)
                files.write_atomically(gallery, buffer.getvalue())
            _write(unfinished, [*others, *rows])
    table = pd.concat(rows)
    if path.exists():
        old = pd.read_csv(path, dtype={"parameters": str})
        table = pd.concat([old[[key not in jobs for key in _keys(old, columns)]], table])
    table = table.sort_values([*columns, "round"])
    table = table[columns + [column for column in table if column not in [*columns, "parameters"]] + ["parameters"]]
    _write(path, [table])
    if others:
        _write(unfinished, others)
    else:
        unfinished.unlink()
    return table


def fingerprint(job: Job) -> str:
    """A short hash of a job, of all that it is called with, and of its own defaults.

    Paths do not count, as they say where results go, and modules do not, as code may move. None counts as not given.
    The code itself does not count either, nor do the defaults of what the job calls in turn: when they change, delete
    the unfinished rows.

    Raises:
        ValueError: something in it, a lambda for instance, has no name or value by which it could be known again.
    """
    return hashlib.sha256(_describe(job).encode()).hexdigest()[:12]


def _describe(value: Any) -> str:
    if isinstance(value, partial):
        return f"{_describe(value.func)}{_describe([*value.args, _options(value)])}"
    if isinstance(value, Mapping):
        return _describe([pair for pair in sorted(value.items()) if not isinstance(pair[1], Path | None)])
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_describe, value))})"
    name = getattr(value, "__qualname__", None) or repr(value)
    if "<" in name:
        raise ValueError(
            f"{name} could not be known again in another process: give it a name, at the top of a module "
            "(or, if it is an object, a `repr` that tells its settings, as that of a dataclass)"
        )
    return name


def _options(job: partial) -> dict[str, Any]:
    """The keywords of a job, and the defaults of the others."""
    parameters = inspect.signature(job).parameters.values()
    defaults = {parameter.name: parameter.default for parameter in parameters}
    return {name: value for name, value in defaults.items() if value is not inspect.Parameter.empty} | job.keywords


def _take_over(
    unfinished: Path, columns: list[str], fingerprints: Mapping[tuple, str]
) -> tuple[list[pd.DataFrame], list[pd.DataFrame]]:
    """The rows that jobs of the same parameters have made, and those of other jobs; what is stale is left out."""
    if not unfinished.exists():
        return [], []
    found = pd.read_csv(unfinished, dtype={"parameters": str})
    keys = _keys(found, columns)
    same = [fingerprints.get(key) == made_with for key, made_with in zip(keys, found["parameters"], strict=True)]
    other = [key not in fingerprints for key in keys]
    return [[table] if len(table) else [] for table in (found[same], found[other])]


def _finished(jobs: Mapping[tuple, Job], num_workers: int) -> Generator[tuple[tuple, Result], None, None]:
    """Key and result of each job, as they end."""
    calls = [delayed(_call)(key, job) for key, job in jobs.items()]
    with parallel_config(backend="loky", inner_max_num_threads=1, idle_worker_timeout=10):
        yield from Parallel(num_workers, return_as="generator_unordered")(calls)


def _call(key: tuple, job: Job) -> tuple[tuple, Result]:
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where the job runs in the caller's own process, too
    try:
        return key, job()
    finally:
        torch.set_num_threads(num_threads)


def _keys(rows: pd.DataFrame, columns: list[str]) -> list[tuple]:
    return list(rows[columns].itertuples(index=False, name=None))


def _write(path: Path, tables: Sequence[pd.DataFrame]) -> None:
    files.write_atomically(path, pd.concat(tables).to_csv(index=False).encode())
