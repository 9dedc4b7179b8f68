"""What the attacker publishes for the lesson, how it is judged, and the record that the server makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from torch import nn

from fl_gan_lib.data import to_uint8
from fl_gan_lib.federation import Update
from fl_gan_lib.flower.node import Images
from fl_gan_lib.flower.settings import RunConfig
from fl_gan_lib.metrics import NUM_JUDGED, NUMBERS, accuracies, measure, yardsticks
from fl_gan_lib.recording.recorder import NUM_SHOWN
from fl_gan_lib.recording.validation import ANCHORS
from fl_gan_lib.records import AttackRecord, rounds_reached

# Of a round: 20 to be shown and 500 to be judged, uint8 (n, S, S).
Fakes = tuple[np.ndarray, np.ndarray]

NOBODY = "nobody who holds real images has judged the fakes"
ACCURACIES = ("accuracy", "target_accuracy")
NUM_PRIVATE = 10  # images that a judge shows beside the fakes


@dataclass(frozen=True)
class Answer:
    """What a node has sent in a round, checked.

    Attributes:
        node: Flower's number of the node.
        turn: which client of the federation it is.
        update: its weights; None where secure aggregation hides them.
        measured: accuracies of the global model of the round before, if it was asked for them.
        fakes: what the attacker has published, if it was asked to.
    """

    node: int
    turn: int
    update: Update | None
    measured: dict[str, float] | None
    fakes: Fakes | None


def pack_fakes(shown: np.ndarray, judged: np.ndarray) -> ConfigRecord:
    """As bytes: Flower's rules and mods expect a single record of arrays in a reply, that of the weights."""
    return ConfigRecord({"shown": shown.tobytes(), "judged": judged.tobytes()})


def unpack_fakes(packed: ConfigRecord, side: int) -> Fakes:
    """What `pack_fakes` has packed; raises an error if it is anything else."""
    shown, judged = (np.frombuffer(packed[name], np.uint8).reshape(-1, side, side) for name in ("shown", "judged"))
    if (len(shown), len(judged)) != (NUM_SHOWN, NUM_JUDGED):
        raise ValueError(f"it publishes {len(shown)} and {len(judged)} fakes, not {NUM_SHOWN} and {NUM_JUDGED}")
    return shown, judged


@dataclass(frozen=True)
class Judgement:
    """What a node has said of the fakes: numbers for each recorded round, private images, notes for the record."""

    rows: list[dict[str, Any]]
    private: np.ndarray
    notes: dict[str, Any]


class Published:
    """What the server knows of an attack: fakes and accuracies, round by round, and in the end a judgement.

    The record is written after each round that it keeps, if the run has an output. What an earlier run has left stays
    until this one has as much: it may be interrupted.
    """

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self._recorded: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
        self._judgement: Judgement | None = None

    def wishes(self, number: int) -> dict[str, Any]:
        """What the nodes are asked for in a round, besides an update.

        Where not all take part, the attacker may miss the rounds to be recorded, and publishes when it is next drawn.
        """
        due = max((recorded for recorded in self.run.recorded if recorded <= number), default=0)
        last = self._recorded[-1][0]["round"] if self._recorded else 0
        return {"round": number, "measure": last == number - 1 > 0, "publish": last < due, "place": len(self._recorded)}

    def add(self, answers: Sequence[Answer], number: int, *, seconds: float, num_bytes: float) -> None:
        """What has come in a round: fakes after it, and accuracies of the model before it."""
        for answer in answers:
            if answer.measured is not None:
                self._recorded[-1][0].update(answer.measured)
        for answer in answers:
            if answer.fakes is not None:
                row = {"round": number, "seconds": seconds, "bytes": num_bytes}
                row |= dict.fromkeys((*ACCURACIES, *NUMBERS), math.nan)
                self._recorded.append((row, *answer.fakes))
                self._save()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been published: then there is nothing to judge."""
        return not self._recorded

    def add_to(self, content: RecordDict) -> RecordDict:
        """The message that asks for a judgement; something must have been published."""
        content["fakes"] = ArrayRecord({"judged": Array(np.stack([judged for *_, judged in self._recorded]))})
        return content

    def read_judgement(self, reply: RecordDict) -> Judgement | None:
        """What a node has judged, or None if it has not agreed to; raises an error if it cannot be used."""
        if not reply["judgement"]["agrees"]:
            return None
        numbers = reply["numbers"]
        rows = [dict(row) for row, *_ in self._recorded]
        for name in NUMBERS:
            for row, value in zip(rows, numbers[name], strict=True):
                row[name] = float(value)
        if rows[-1]["round"] == self.run.rounds:
            rows[-1] |= {name: as_share(numbers[name]) for name in ACCURACIES}
        notes: dict[str, Any] = {"not_measured": str(reply["judgement"]["unmeasured"])[:1000]}
        if not notes["not_measured"]:
            notes = {"probe_anchors": {name: as_share(reply["anchors"][name]) for name in ANCHORS}}
        judgement = Judgement(rows, reply["private"]["images"].numpy()[:NUM_PRIVATE], notes)
        AttackRecord.loads(self._record(judgement).dumps())  # a record that nobody can open is worse than none
        return judgement

    def take_over(self, judgement: Judgement) -> None:
        self._judgement = judgement
        self._save()

    def summary(self) -> str:
        """One line for the log."""
        if not self._recorded:
            return "no node has published fakes: was the attacker there?"
        of_rounds = f"fakes of {len(self._recorded)} rounds"
        if self._judgement is None:
            return f"{of_rounds}, not judged: {NOBODY}"
        last = self._judgement.rows[-1]
        return f"{of_rounds}, judged: probe {last['probe']:.3f}, accuracy {last['accuracy']:.3f}"

    def _record(self, judgement: Judgement | None) -> AttackRecord:
        import pandas as pd  # not above: nodes import this module, too, and start anew for each message

        rows, shown, judged = zip(*self._recorded, strict=True)
        if judgement is None:
            blank = np.full((1, self.run.side, self.run.side), 255, np.uint8)
            judgement = Judgement(list(rows), blank, {"not_measured": NOBODY})
        return AttackRecord(
            samples=np.stack(shown),
            final_samples=judged[-1],
            private_samples=judgement.private,
            rounds=np.array([row["round"] for row in rows]),
            metrics=pd.DataFrame(judgement.rows),
            config={"kind": "attack", "engine": "flower"}
            | self.run.describe()
            | judgement.notes
            | {"threads": torch.get_num_threads(), "torch": torch.__version__},
        )

    def _save(self) -> None:
        path = self.run.path
        if path is not None and self._recorded[-1][0]["round"] >= rounds_reached(path):
            self._record(self._judgement).save(path)


def judge(run: RunConfig, images: Images, model: nn.Module, content: RecordDict) -> RecordDict:
    """All numbers about published fakes, and ten of the real images, by somebody who holds them.

    Args:
        run: the run configuration.
        images: of the node that judges.
        model: the global model after the last round.
        content: the message of `Published.add_to`.
    """
    own = images.train.images_of(run.target)
    real = yardsticks(run.target, images.dataset or (images.train, images.test))
    rows = [measure(judged, real, own) for judged in content["fakes"]["judged"].numpy()]
    numbers = {name: [row[name] for row in rows] for name in NUMBERS} | accuracies(model, images.test, run.target)
    reply = RecordDict(
        {
            "judgement": ConfigRecord({"agrees": True, "unmeasured": real.unmeasured}),
            "numbers": MetricRecord(numbers),
            "private": ArrayRecord({"images": Array(to_uint8(own[:NUM_PRIVATE]))}),
        }
    )
    if real.probe is not None:
        reply["anchors"] = MetricRecord({name: real.probe.anchors[name] for name in ANCHORS})
    return reply


def as_share(value: Any) -> float:
    """A share from 0 to 1, or NaN for "not measured"."""
    value = float(value)
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError(f"it claims a share of {value}")
    return value
