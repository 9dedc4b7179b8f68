"""Goes through the rounds of a run and records what a generator draws, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fl_gan_lib.data import to_uint8
from fl_gan_lib.federation import Round
from fl_gan_lib.metrics import evaluate_samples
from fl_gan_lib.models import LATENT_DIM, AveragedGenerator
from fl_gan_lib.records import AttackRecord

NUM_SHOWN = 20
NUM_JUDGED = 500


def snapshot_rounds(num_rounds: int, num_frames: int = 24) -> list[int]:
    """Which rounds a record keeps: dense at first, when the picture changes fast, and always the last one."""
    return sorted({int(round) for round in np.geomspace(1, num_rounds, num_frames).round()} | {num_rounds})


def record_run(
    rounds: Iterator[Round],
    generator: AveragedGenerator,
    *,
    private: Tensor,
    config: dict[str, Any],
    evaluate: Callable[[], dict[str, float]],
    progress: bool,
    num_frames: int = 24,
    watch: Callable[[int, AttackRecord | None], None] | None = None,
) -> AttackRecord:
    """Go through `rounds` and record what `generator` draws after some of them.

    Args:
        rounds: trains as it is iterated.
        generator: the one that the rounds train.
        private: all images of the target that the honest clients hold, (n, 1, 28, 28); the first ten are kept for
            the top row of the picture.
        config: goes into the record; needs `kind`, `target`, `dataset`, `rounds` and `seed`.
        evaluate: the `accuracy` of the global model as it stands, and its `target_accuracy`.
        progress: show a bar, and a line for each recorded round.
        num_frames: how many rounds to record at the most.
        watch: called after each round with its number and, where the round was recorded, the record so far.
    """
    target, num_rounds = config["target"], config["rounds"]
    keep = snapshot_rounds(num_rounds, num_frames)
    random = torch.Generator().manual_seed(config["seed"])
    shown = torch.randn(NUM_SHOWN, LATENT_DIM, generator=random)
    seconds = 0.0
    # One tuple a snapshot: an interrupt finds either all of it or nothing.
    snapshots: list[tuple[dict[str, float], np.ndarray, np.ndarray]] = []

    def record() -> AttackRecord:
        rows, frames, judged_samples = zip(*snapshots, strict=True)
        return AttackRecord(
            samples=np.stack(frames),
            final_samples=judged_samples[-1],
            private_samples=to_uint8(private[:10]),
            rounds=np.array([row["round"] for row in rows]),
            metrics=pd.DataFrame(rows),
            config=config | {"threads": torch.get_num_threads(), "torch": torch.__version__},
        )

    try:
        for round in tqdm(
            rounds, f"{config['kind']} on {target}", num_rounds, unit="round", leave=False, disable=not progress
        ):
            seconds += round.seconds
            if round.number in keep:
                judged = generator.render(torch.randn(NUM_JUDGED, LATENT_DIM, generator=random))
                row = {"round": round.number, "seconds": seconds} | evaluate()
                row |= evaluate_samples(judged, target, dataset=config["dataset"], members=private)
                snapshots.append((row, generator.render(shown), judged))
                if progress:
                    tqdm.write(_line(row, num_rounds))
            if watch:
                watch(round.number, record() if round.number in keep else None)
    except KeyboardInterrupt:
        if not snapshots:
            raise
        tqdm.write(f"stopped: the record reaches as far as round {snapshots[-1][0]['round']} of {num_rounds}")
    return record()


def _line(row: dict[str, float], num_rounds: int) -> str:
    return (
        f"round {row['round']:>3}/{num_rounds}  {row['seconds']:4.0f} s  accuracy {row['accuracy']:.3f}  "
        f"recognition {row['recognition']:.2f}  gap closed {row['gap_closed']:5.2f}  diversity {row['diversity']:.2f}"
    )
