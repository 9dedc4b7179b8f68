"""What an attack leaves behind: a small file that can be looked at, compared and judged again without training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fl_gan_lib.recording import files

_VERSION = 1
_ARRAYS = {"samples": 4, "final_samples": 3, "private_samples": 3, "rounds": 1}
# What the pictures, the explorer and the summary quote.
_COLUMNS = {"round", "seconds", "accuracy", "recognition", "gap_closed", "diversity"}
_CONFIG = {"kind": str, "target": int, "dataset": str, "rounds": int, "seed": int}


@dataclass
class AttackRecord:
    """A recorded attack, round by round.

    Attributes:
        samples: uint8 (R, N, 28, 28), grey values: what the generator draws from the same N latent vectors after each
            recorded round.
        final_samples: uint8 (M, 28, 28), fresh fakes of the last round (500 by default), for anybody to judge again.
        private_samples: uint8 (P, 28, 28), some of the victim's images of the target. Not the attacker's: they are
            here for the picture.
        rounds: int64 (R,), the recorded rounds, increasing.
        metrics: one row per recorded round; the columns are those of `metrics.evaluate_samples`, and `round`,
            `seconds` (of training so far), `accuracy` (of the global model on the test set) and `target_accuracy` (on
            the test images of the target alone).
        config: how the record was made: target, data set, seed, number of rounds and so on; JSON values only.
    """

    samples: np.ndarray
    final_samples: np.ndarray
    private_samples: np.ndarray
    rounds: np.ndarray
    metrics: pd.DataFrame
    config: dict[str, Any]

    @property
    def target(self) -> int:
        """The digit that was attacked."""
        return int(self.config["target"])

    def save(self, path: str | Path) -> Path:
        """Write the record to `path` (conventionally `.npz`); an existing file is replaced only by a complete one."""
        return files.write_atomically(path, self.dumps())

    def dumps(self, *, compress: bool = True) -> bytes:
        """The content of the record's file."""
        text = {"version": _VERSION, "config": self.config, "metrics": self.metrics.to_dict("list")}
        return files.pack(text, {name: getattr(self, name) for name in _ARRAYS}, compress=compress)

    @classmethod
    def load(cls, path: str | Path) -> AttackRecord:
        """Read a record; no pickle, so that a record from a stranger cannot run code.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a record, a damaged one, or nothing that can be read (a folder, somebody else's file).
        """
        path = Path(path)
        try:
            return cls.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError) as error:
            message = f"no record at {path}: make one with run_attack(...).save(...) or `make records`"
            raise FileNotFoundError(message) from error
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror}): give a file that you may read") from error
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from error

    @classmethod
    def loads(cls, content: bytes) -> AttackRecord:
        """Read the content of a record's file; raises a ValueError if it is not a record, or a damaged one."""
        try:
            text, arrays = files.unpack(content)
            _check_text(text)
            if missing := _ARRAYS.keys() - arrays.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            parts = {name: arrays[name] for name in _ARRAYS}
            record = cls(**parts, metrics=pd.DataFrame(text["metrics"]), config=text["config"])
            record._check()
        except ValueError as error:
            raise ValueError(f"not a readable attack record ({error}): make it again") from error
        return record

    def _check(self) -> None:
        for name, ndim in _ARRAYS.items():
            array = getattr(self, name)
            if array.ndim != ndim or array.size == 0:
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
            if name != "rounds" and (array.dtype != np.uint8 or array.shape[-2:] != (28, 28)):
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        if not len(self.samples) == len(self.rounds) == len(self.metrics):
            raise ValueError("samples, rounds and metrics disagree on the number of recorded rounds")
        rounds = self.rounds
        if rounds.dtype.kind not in "iu" or rounds[0] < 1 or not (rounds[1:] > rounds[:-1]).all():
            raise ValueError(f"the rounds are not whole numbers that increase from 1: {rounds.tolist()!r:.80}")
        if not np.array_equal(rounds, self.metrics["round"]):
            raise ValueError("the column `round` of the metrics is not the recorded rounds")
        if not self.metrics["recognition"].between(0, 1).all():
            raise ValueError("the column `recognition` of the metrics is not from 0 to 1")


def _check_text(text: dict[str, Any]) -> None:
    """That the JSON of a record is of the right types, all the way down, before anything is made of it."""
    if text.get("version") != _VERSION:
        raise ValueError(f"it is of version {text.get('version')!r:.80}, and this library reads version {_VERSION}")
    config, metrics = text.get("config"), text.get("metrics")
    if not isinstance(config, dict) or not isinstance(metrics, dict):
        raise ValueError("its config or its metrics are missing, or not by name")
    for key, kind in _CONFIG.items():
        if type(config.get(key)) is not kind:
            raise ValueError(f"the config's {key} is {config.get(key)!r:.80}, and not of type {kind.__name__}")
    if config["target"] not in range(10):
        raise ValueError(f"the target is {config['target']!r:.80}, and not a digit")
    if missing := _COLUMNS - metrics.keys():
        raise ValueError(f"the metrics lack {', '.join(sorted(missing))}")
    for name, column in metrics.items():
        if not isinstance(column, list) or not all(map(_is_number, column)):
            raise ValueError(f"the column {name!r:.80} of the metrics is not a number for each recorded round")
    if len(set(map(len, metrics.values()))) > 1:
        raise ValueError("the columns of the metrics are not of one length")


def _is_number(value: object) -> bool:
    # NaN is one (the oracle has no accuracy); infinity, and integers that no float tells apart, are not.
    return type(value) in (int, float) and not abs(value) > 2**53


def summarise(record: AttackRecord) -> str:
    """Three plain lines: what was recovered, if anything, how well, and how long it took."""
    last = record.metrics.iloc[-1]
    digit, rounds = record.target, record.rounds[-1]
    readable = last["recognition"] >= 0.9 and last["gap_closed"] >= 0.6
    return (
        f"{'Recovered' if readable else 'Not recovered'}: what a {digit} looks like, by a participant without a single "
        f"{digit} ({record.config['dataset']}, {rounds} rounds, seed {record.config['seed']}).\n"
        f"How well: recognition {last['recognition']:.3f}, gap closed {last['gap_closed']:.3f}, "
        f"diversity {last['diversity']:.2f}; global accuracy {last['accuracy']:.3f}.\n"
        f"How long: {last['seconds']:.0f} s of training."
    )


def record_path(folder: str | Path, target: int, kind: str = "attack") -> Path:
    """Where the record of a run on `target` lies in a folder of records; `kind` is the run's name there."""
    return Path(folder) / f"{kind}_{target}.npz"


def load_records(folder: str | Path, kind: str = "attack") -> dict[int, AttackRecord]:
    """All records of one kind of run in a folder, by digit. What is missing or damaged is left out, with a warning."""
    records = {}
    for digit in range(10):
        path = record_path(folder, digit, kind)
        try:
            record = AttackRecord.load(path)
            if record.target != digit:
                raise ValueError(f"{path} is a record of the digit {record.target}: name it after its digit")
            records[digit] = record
        except FileNotFoundError:
            continue
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    if not records:
        warnings.warn(f"no records of the kind {kind} in {folder}: make them with `make records`", stacklevel=2)
    return records


def load_all_records(folder: str | Path) -> dict[str, Mapping[int, AttackRecord]]:
    """All kinds of runs in a folder of records, by name and digit: "attack" first, then the others by name.

    A kind is read when it is first looked into, as by `load_records`: thirty viewers on a laptop open one or two of
    them.
    """
    kinds = sorted({path.stem[:-2] for path in Path(folder).glob("*_[0-9].npz")} - {"attack"})
    return {kind.replace("_", " "): _Unread(folder, kind) for kind in ["attack", *kinds]}


class _Unread(Mapping[int, AttackRecord]):
    def __init__(self, folder: str | Path, kind: str) -> None:
        self._read = cache(lambda: load_records(folder, kind))

    def __getitem__(self, digit: int) -> AttackRecord:
        return self._read()[digit]

    def __iter__(self) -> Iterator[int]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
