"""Many jobs side by side, one thread each; their rows go into a csv file."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from fl_gan_lib.recording import files

# What a run leaves behind: a row of numbers for each recorded round, and fakes of the last one, uint8 (n, 28, 28).
Result = tuple[pd.DataFrame, np.ndarray]


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
                files.write_atomically(gallery, buffer.getvalue())
            files.write_atomically(partial_path, pd.concat(rows).to_csv(index=False).encode())
    table = pd.concat(rows).sort_values([*columns, "round"])
    table = table[columns + [column for column in table if column not in columns]]
    if path.exists():
        old = pd.read_csv(path)
        others = [key not in jobs for key in old[columns].itertuples(index=False, name=None)]
        table = pd.concat([old[others], table]).sort_values([*columns, "round"])
    files.write_atomically(path, table.to_csv(index=False).encode())
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
