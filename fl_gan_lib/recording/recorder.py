"""Goes through the rounds of a run and records what a generator draws, and how good it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from fl_gan_lib.data import from_uint8, to_uint8
from fl_gan_lib.federation import Round
from fl_gan_lib.metrics import NUM_JUDGED, NUMBERS, Dataset, Probe, Yardsticks, make_probe, measure, yardsticks
from fl_gan_lib.models import LATENT_DIM, AveragedGenerator
from fl_gan_lib.recording.validation import class_names
from fl_gan_lib.records import AttackRecord

NUM_SHOWN = 20
NOT_MEASURED = {"accuracy": math.nan, "target_accuracy": math.nan}


def record_rounds(
    rounds: Iterable[Round],
    recorder: Recorder,
    generator: AveragedGenerator,
    evaluate: Callable[[], Mapping[str, float]],
    *,
    progress: bool = True,
) -> Iterator[tuple[int, AttackRecord | None]]:
    """Go through `rounds`, and record what `generator` draws after some of them.

    Args:
        rounds: trains as it is iterated.
        recorder: keeps the snapshots; if it was resumed, the rounds after `rounds_done` are expected.
        generator: the one that the rounds train.
        evaluate: the `accuracy` of the global model as it stands, and its `target_accuracy`.
        progress: show a bar, and a line for each recorded round.

    Yields:
        After each round its number and, where the round was recorded, the record so far.
    """
    last = recorder.config["rounds"]
    title = f"{recorder.config['kind']} on {class_names(recorder.config)[recorder.config['target']]}"
    options = {"initial": recorder.rounds_done, "unit": "round", "leave": False, "disable": not progress}
    for round in tqdm(rounds, title, last, **options):
        recorder.rounds_done = round.number
        recorder.seconds += round.seconds
        for fault in round.faults:
            recorder.left_out[str(fault.client)] = recorder.left_out.get(str(fault.client), 0) + 1
        record = None
        if round.number in recorder.rounds:
            accuracies = evaluate() if recorder.measures_all(round.number) else NOT_MEASURED
            row = recorder.take(generator, {"round": round.number, "seconds": recorder.seconds} | accuracies)
            record = recorder.record()
            if progress:
                probe = "" if np.isnan(row["probe"]) else f"probe {row['probe']:.2f}  "
                tqdm.write(
                    f"round {row['round']:>3}/{last}  {row['seconds']:4.0f} s  accuracy {row['accuracy']:.3f}  "
                    f"{probe}recognition {row['recognition']:.2f}  diversity {row['diversity']:.2f}"
                )
        yield round.number, record


@contextmanager
def until_interrupted(recorder: Recorder) -> Iterator[None]:
    """An interrupt (Ctrl-C, or the stop button) ends the block, but no more, if there is a record by then."""
    try:
        yield
    except KeyboardInterrupt:
        record = recorder.record()
        if record is None:
            raise
        last = recorder.config["rounds"]
        tqdm.write(f"stopped: the record reaches as far as round {record.rounds[-1]} of {last}")


def snapshot_rounds(num_rounds: int, num_frames: int = 24) -> list[int]:
    """Which rounds a record keeps: dense at first, when the picture changes fast, and always the last one."""
    num_frames = min(num_frames, 100 * num_rounds)  # enough for all rounds
    return sorted({int(round) for round in np.geomspace(1, num_rounds, num_frames).round()} | {num_rounds})


def draw_snapshot(generator: AveragedGenerator, seed: int, place: int) -> tuple[np.ndarray, np.ndarray]:
    """What a record keeps of a generator in a recorded round.

    Args:
        generator: as it stands after the round.
        seed: of the run.
        place: of the round among the recorded ones, from 0.

    Returns:
        20 fakes from the same latent vectors in each round, and 500 from fresh ones, uint8 (n, S, S).
    """
    random = torch.Generator().manual_seed(seed)
    shown = torch.randn(NUM_SHOWN, LATENT_DIM, generator=random)
    for _ in range(place + 1):
        fresh = torch.randn(NUM_JUDGED, LATENT_DIM, generator=random)
    return generator.render(shown), generator.render(fresh)


class Recorder:
    """Keeps, of some rounds of a run, what a generator draws and how good it is.

    Args:
        config: goes into the record; needs `kind`, `target` (the number of a class), `dataset`, `rounds` and `seed`.
        private: all images of the target that the honest clients hold, (n, 1, S, S); the first ten are kept for
            the top row of the picture.
        dataset: that the run is on, by name or a training and a test set; by default the one that `config` names.
        num_frames: how many rounds to record at the most.
        quick: before the last round, measure the probe alone: for those who watch the rounds as they come.

    Attributes:
        rounds: which rounds to record.
        rounds_done: how many are done; 0 before the first.
        seconds: of training so far.
        left_out: in how many rounds so far a client was left out, by its number; without those that never were.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        private: Tensor,
        *,
        dataset: Dataset | None = None,
        num_frames: int = 24,
        quick: bool = False,
    ) -> None:
        self.config = dict(config)
        self.dataset = dataset or config["dataset"]
        self.rounds = snapshot_rounds(config["rounds"], num_frames)
        self.rounds_done = 0
        self.seconds = 0.0
        self.left_out: dict[str, int] = {}
        self._private = private
        self._quick = quick
        # One tuple a snapshot: an interrupt finds either all of it or nothing.
        self._snapshots: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []

    def resume(
        self,
        past: AttackRecord | None,
        *,
        rounds_done: int = 0,
        seconds: float = 0.0,
        left_out: Mapping[str, int] | None = None,
    ) -> None:
        """Go on from the record of the same run so far, as if this recorder had made it."""
        self.rounds_done, self.seconds, self.left_out = rounds_done, seconds, dict(left_out or {})
        if past is not None:
            for row, frame in zip(past.metrics.to_dict("records"), past.samples, strict=True):
                self._snapshots.append((row, frame, past.final_samples))  # of which only the last ones are used

    def measures_all(self, round: int) -> bool:
        """Whether all numbers are measured in this round, or the probe alone."""
        return not self._quick or round == self.config["rounds"]

    def take(self, generator: AveragedGenerator, measured: Mapping[str, float]) -> dict[str, Any]:
        """Record a round; `measured` is its `round`, the `seconds` so far, and the global model's accuracies."""
        shown, judged = draw_snapshot(generator, self.config["seed"], len(self._snapshots))
        if self.measures_all(measured["round"]):
            scores = measure(judged, self._yardsticks, self._private)
        else:
            probe = math.nan if self._probe is None else self._probe.f1(from_uint8(judged))
            scores = dict.fromkeys(NUMBERS, math.nan) | {"probe": probe}
        self._snapshots.append((dict(measured) | scores, shown, judged))
        return self._snapshots[-1][0]

    def record(self) -> AttackRecord | None:
        """The record so far; `None` before the first recorded round."""
        if not self._snapshots:
            return None
        import pandas as pd  # not above: Flower's nodes, which keep no record, start anew for each message

        rows, frames, judged = zip(*self._snapshots, strict=True)
        probe = self._probe
        notes = {"not_measured": self._yardsticks.unmeasured} if probe is None else {"probe_anchors": probe.anchors}
        if self.left_out:
            notes["left_out"] = dict(self.left_out)
        return AttackRecord(
            samples=np.stack(frames),
            final_samples=judged[-1],
            private_samples=to_uint8(self._private[:10]),
            rounds=np.array([row["round"] for row in rows]),
            metrics=pd.DataFrame(rows),
            config=self.config | notes | {"threads": torch.get_num_threads(), "torch": torch.__version__},
        )

    @property
    def _target(self) -> str:
        return class_names(self.config)[self.config["target"]]

    @cached_property
    def _probe(self) -> Probe | None:
        return make_probe(self._target, self.dataset) if self._quick else self._yardsticks.probe

    @cached_property
    def _yardsticks(self) -> Yardsticks:
        return yardsticks(self._target, self.dataset)
