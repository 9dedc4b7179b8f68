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
from fl_gan_lib.recording.validation import ARRAYS, VERSION, check_record, check_text


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
        text = {"version": VERSION, "config": self.config, "metrics": self.metrics.to_dict("list")}
        return files.pack(text, {name: getattr(self, name) for name in ARRAYS}, compress=compress)

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
            check_text(text)
            if missing := ARRAYS.keys() - arrays.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            parts = {name: arrays[name] for name in ARRAYS}
            record = cls(**parts, metrics=pd.DataFrame(text["metrics"]), config=text["config"])
            check_record(record)
        except ValueError as error:
            raise ValueError(f"not a readable attack record ({error}): make it again") from error
        return record


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
