"""What an attack leaves behind: a small file that can be looked at, compared and judged again without training."""

from __future__ import annotations

import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

_VERSION = 1


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
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            unfinished.write_bytes(self.dumps())
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    def dumps(self) -> bytes:
        """The content of the record's file."""
        text = json.dumps({"version": _VERSION, "config": self.config, "metrics": self.metrics.to_dict("list")})
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            samples=self.samples,
            final_samples=self.final_samples,
            private_samples=self.private_samples,
            rounds=self.rounds,
            text=np.frombuffer(text.encode(), dtype=np.uint8),
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: str | Path) -> AttackRecord:
        """Read a record; no pickle, so that a record from a stranger cannot run code.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a record, or a damaged one.
        """
        path = Path(path)
        if not path.exists():
            raise FileNotFoundError(f"no record at {path}: make one with run_attack(...).save(...) or `make records`")
        try:
            return cls.loads(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is {error}") from error

    @classmethod
    def loads(cls, content: bytes) -> AttackRecord:
        """Read the content of a record's file; raises a ValueError if it is not a record, or a damaged one."""
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                parts = {name: arrays[name] for name in ("samples", "final_samples", "private_samples", "rounds")}
                text = json.loads(arrays["text"].tobytes())
            if text["version"] != _VERSION:
                raise ValueError(f"it is of version {text['version']}, and this library reads version {_VERSION}")
            record = cls(**parts, metrics=pd.DataFrame(text["metrics"]), config=text["config"])
            record._check()
        except Exception as error:  # on damaged bytes the parsers of zip, npy and JSON raise some ten different types
            raise ValueError(f"not a readable attack record ({error}): make it again") from error
        return record

    def _check(self) -> None:
        for name, ndim in {"samples": 4, "final_samples": 3, "private_samples": 3}.items():
            array = getattr(self, name)
            if array.dtype != np.uint8 or array.ndim != ndim or array.shape[-2:] != (28, 28):
                raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        if not len(self.samples) == len(self.rounds) == len(self.metrics) > 0:
            raise ValueError("samples, rounds and metrics disagree on the number of recorded rounds")
        if self.config["target"] not in range(10):
            raise ValueError(f"the target is {self.config['target']!r}")


def record_path(folder: str | Path, target: int, kind: str = "attack") -> Path:
    """Where the record of a run on `target` lies in a folder of records; `kind` is the run's name there."""
    return Path(folder) / f"{kind}_{target}.npz"


def load_records(folder: str | Path, kind: str = "attack") -> dict[int, AttackRecord]:
    """All records of one kind of run in a folder, by digit. What is missing or damaged is left out, with a warning."""
    records = {}
    for path in (record_path(folder, digit, kind) for digit in range(10)):
        try:
            record = AttackRecord.load(path)
        except FileNotFoundError:
            continue
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
        else:
            records[record.target] = record
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
