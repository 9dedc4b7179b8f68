"""Goes through the rounds of a run and records what a generator draws, and how good it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        round: the last one that is done; 0 before the first.
        seconds: of training so far.
        record: what is recorded so far.
    """

    round: int = 0
    seconds: float = 0.0
    record: AttackRecord | None = None


class Recorder:
    """Keeps, of some rounds of a run, what a generator draws and how good it is.

    Args:
        config: goes into the record; needs `kind`, `target`, `dataset`, `rounds` and `seed`.
        private: all images of the target that the honest clients hold, (n, 1, 28, 28); the first ten are kept for
            the top row of the picture.
        num_frames: how many rounds to record at the most.
        past: the record of the same run so far, to go on from.

    Attributes:
        rounds: which rounds to record.
    """

    def __init__(
        self, config: Mapping[str, Any], private: Tensor, *, num_frames: int = 24, past: AttackRecord | None = None
    ) -> None:
        self.rounds = snapshot_rounds(config["rounds"], num_frames)
        self._config = dict(config)
        self._private = private
        self._random = torch.Generator().manual_seed(config["seed"])
        self._shown = torch.randn(NUM_SHOWN, LATENT_DIM, generator=self._random)
        # One tuple a snapshot: an interrupt finds either all of it or nothing.
        self._snapshots: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
        if past is not None:
            for row, frame in zip(past.metrics.to_dict("records"), past.samples, strict=True):
                self._latents()
                self._snapshots.append((row, frame, past.final_samples))

    def take(self, generator: AveragedGenerator, measured: Mapping[str, float]) -> dict[str, Any]:
        """Record a round; `measured` is its `round`, the `seconds` so far, and the global model's accuracies."""
        judged = generator.render(self._latents())
        scores = evaluate_samples(
            judged, self._config["target"], dataset=self._config["dataset"], members=self._private
        )
        self._snapshots.append((dict(measured) | scores, generator.render(self._shown), judged))
        return self._snapshots[-1][0]

    def record(self) -> AttackRecord | None:
        """The record so far; `None` before the first recorded round."""
        if not self._snapshots:
            return None
        rows, frames, judged = zip(*self._snapshots, strict=True)
        return AttackRecord(
            samples=np.stack(frames),
            final_samples=judged[-1],
            private_samples=to_uint8(self._private[:10]),
            rounds=np.array([row["round"] for row in rows]),
            metrics=pd.DataFrame(rows),
            config=self._config | {"threads": torch.get_num_threads(), "torch": torch.__version__},
        )

    def _latents(self) -> Tensor:
        return torch.randn(NUM_JUDGED, LATENT_DIM, generator=self._random)


def record_run(
    rounds: Iterator[Round],
    generator: AveragedGenerator,
    *,
    private: Tensor,
    config: dict[str, Any],
    evaluate: Callable[[], dict[str, float]],
    progress: bool,
    num_frames: int = 24,
    start: Progress | None = None,
    after_round: Callable[[Progress], None] | None = None,
) -> AttackRecord:
    """Go through `rounds` and record what `generator` draws after some of them.

    Args:
        rounds: trains as it is iterated.
        generator: the one that the rounds train.
        private, config, num_frames: as for `Recorder`.
        evaluate: the `accuracy` of the global model as it stands, and its `target_accuracy`.
        progress: show a bar, and a line for each recorded round.
        start: how far the run has come already; by default nowhere.
        after_round: called after each round with how far the run has come; with a record only where it has grown.
    """
    start = start or Progress()
    recorder = Recorder(config, private, num_frames=num_frames, past=start.record)
    num_rounds, seconds = config["rounds"], start.seconds
    try:
        title = f"{config['kind']} on {config['target']}"
        bar = {"initial": start.round, "unit": "round", "leave": False, "disable": not progress}
        for round in tqdm(rounds, title, num_rounds, **bar):
            seconds += round.seconds
            recorded = round.number in recorder.rounds
            if recorded:
                row = recorder.take(generator, {"round": round.number, "seconds": seconds} | evaluate())
                if progress:
                    tqdm.write(_line(row, num_rounds))
            if after_round:
                after_round(Progress(round.number, seconds, recorder.record() if recorded else None))
    except KeyboardInterrupt:
        record = recorder.record()
        if record is None:
            raise
        tqdm.write(f"stopped: the record reaches as far as round {record.rounds[-1]} of {num_rounds}")
    return recorder.record()


def _line(row: dict[str, float], num_rounds: int) -> str:
    return (
        f"round {row['round']:>3}/{num_rounds}  {row['seconds']:4.0f} s  accuracy {row['accuracy']:.3f}  "
        f"recognition {row['recognition']:.2f}  gap closed {row['gap_closed']:5.2f}  diversity {row['diversity']:.2f}"
    )
