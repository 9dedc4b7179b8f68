"""What an attack leaves behind: a small file that can be looked at, compared and judged again without training."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.recording import files
from fl_gan_lib.recording.validation import ARRAYS, VERSION, check_record, check_text, class_names

if TYPE_CHECKING:
    import pandas as pd


@dataclass(eq=False)
class AttackRecord:
    """A recorded attack, round by round.

    Attributes:
        samples: uint8 (R, N, S, S), grey values: what the generator draws from the same N latent vectors after each
            recorded round.
        final_samples: uint8 (M, S, S), fresh fakes of the last round (500 by default), for anybody to judge again.
        private_samples: uint8 (P, S, S), some of the victim's images of the target. Not the attacker's: they are
            here for the picture.
        rounds: int64 (R,), the recorded rounds, increasing.
        metrics: one row per recorded round; the columns are those of `metrics.evaluate_samples`, and `round`,
            `seconds` (of training so far), `accuracy` (of the global model on the test set) and `target_accuracy` (on
            the test images of the target alone). Records of a sweep also have `tstr`, in the last row alone.
        config: how the record was made: target, data set, seed, number of rounds and so on; JSON values only. Under
            `probe_anchors`, by name, the probe's value for noise, for another class and for real images.
    """

    samples: np.ndarray
    final_samples: np.ndarray
    private_samples: np.ndarray
    rounds: np.ndarray
    metrics: pd.DataFrame
    config: dict[str, Any]

    def __repr__(self) -> str:
        last, planned = self.rounds[-1], self.config["rounds"]
        return f"AttackRecord({self.config['kind']} on {self.target_name}, round {last} of {planned})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AttackRecord):
            return NotImplemented
        same = all(np.array_equal(getattr(self, name), getattr(other, name)) for name in ARRAYS)
        return same and self.metrics.equals(other.metrics) and self.config == other.config

    @property
    def target(self) -> int:
        """The number of the class that was attacked."""
        return int(self.config["target"])

    @property
    def anchors(self) -> dict[str, float]:
        """By name, the probe's value for noise, for another class and for real images; empty if not measured."""
        return self.config.get("probe_anchors", {})

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of all classes."""
        return tuple(class_names(self.config))

    @property
    def target_name(self) -> str:
        """The name of the class that was attacked."""
        return self.classes[self.target]

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
        path = Path(path).expanduser()
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
        import pandas as pd  # not above: Flower's nodes, which read no record, start anew for each message

        try:
            text, arrays = files.unpack(content)
            check_text(text)
            if missing := ARRAYS.keys() - arrays.keys():
                raise ValueError(f"it lacks {', '.join(sorted(missing))}")
            parts = {name: arrays[name] for name in ARRAYS}
            metrics = pd.DataFrame(text["metrics"])
            if "probe" not in metrics:
                metrics["probe"] = np.nan  # of a time before there was one
            record = cls(**parts, metrics=metrics, config=text["config"])
            check_record(record)
        except ValueError as error:
            raise ValueError(f"not a readable attack record ({error}): make it again") from error
        return record


RECOGNISABLE = 0.8  # of the probe's value for real images
CLEARLY_ABOVE = 1.5  # times what noise and another class have: a probe whose real images have less tells nothing apart


def is_recognisable(record: AttackRecord) -> np.ndarray:
    """In which recorded rounds the probe has 0.8 of its value for real images: bool (R,).

    Nowhere, where it is not measured, or where it does not tell real images from noise and from another class.
    """
    anchors = dict(record.anchors)
    real = anchors.pop("real images", np.nan)
    floor = max(anchors.values(), default=np.nan)
    probe = record.metrics["probe"].to_numpy()
    return (probe >= RECOGNISABLE * real) & (probe > floor) & (real > CLEARLY_ABOVE * floor)


def summarise(record: AttackRecord) -> str:
    """Three plain lines: what was recovered, if anything, how well, and how long it took.

    A fourth one says which clients were left out, if any: without them, a run says nothing of what they do.
    """
    last = record.metrics.iloc[-1]
    verdict, look = "Recovered" if is_recognisable(record)[-1] else "Not recovered", ""
    probe = ", ".join([f"{last['probe']:.3f}", *(f"{name} {value:.3f}" for name, value in record.anchors.items())])
    if np.isnan(last["probe"]) or not record.anchors:
        reason = record.config.get("not_measured", "it is a record of an earlier version")
        verdict, probe, look = "Not judged", f"not measured ({reason})", " Look at the picture."
    who = "somebody who has its images" if record.config["kind"] == "oracle" else "a participant who has no image of it"
    left_out = record.config.get("left_out", {})
    accuracy = "" if np.isnan(last["accuracy"]) else f"; global accuracy {last['accuracy']:.3f}"
    return (
        f"{verdict}: what the class {record.target_name} looks like, by {who} "
        f"({record.config['dataset']}, {record.rounds[-1]} rounds, seed {record.config['seed']}).{look}\n"
        f"How well: probe {probe}; diversity {last['diversity']:.2f}{accuracy}.\n"
        f"How long: {last['seconds']:.0f} s of training."
        + "".join(
            f"\nClient {client} was left out in {rounds} rounds: its updates could not be used."
            for client, rounds in left_out.items()
        )
    )


def record_path(folder: str | Path, target: str | int, kind: str = "attack") -> Path:
    """Where the record of a run lies in a folder of records; `target` is the name of a class, `kind` the run's name."""
    return Path(folder).expanduser() / f"{kind}_{target}.npz"


def rounds_reached(path: Path) -> int:
    """The last round of the record that is there; 0 if none is, or a damaged one."""
    try:
        return int(AttackRecord.load(path).rounds[-1])
    except (OSError, ValueError):
        return 0


def load_records(folder: str | Path, kind: str = "attack") -> dict[int, AttackRecord]:
    """All records of one kind of run in a folder, by number of the class.

    What is damaged, or of other classes than the first record, is left out, with a warning.
    """
    records: dict[int, AttackRecord] = {}
    for path in sorted(Path(folder).expanduser().glob(f"{escape(kind)}_*.npz")):
        try:
            record = AttackRecord.load(path)
            if path == record_path(path.parent, record.target_name, kind):
                others = next(iter(records.values()), record)
                if record.classes != others.classes:
                    raise ValueError(f"{path} is of other classes than {others.target_name}: keep it in another folder")
                records[record.target] = record
            elif not path.stem.endswith(f"_{record.target_name}"):  # or it is of a kind with a longer name
                raise ValueError(f"{path} is a record of the class {record.target_name}: name it after its class")
        except ValueError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    if not records:
        warnings.warn(f"no records of the kind {kind} in {folder}: make them with `make records`", stacklevel=2)
    return {target: records[target] for target in sorted(records)}


def check_keys(records: Mapping[int, AttackRecord]) -> None:
    """Raise a ValueError unless each record is under the number of the class that it is of."""
    for key, record in records.items():
        if key != record.target:
            raise ValueError(
                f"under {key!r} there is a record of the class {record.target_name}: put it under its number, "
                f"{record.target}"
            )


def load_all_records(folder: str | Path) -> dict[str, Mapping[int, AttackRecord]]:
    """All kinds of runs in a folder of records, by name and number of the class: "attack" first.

    A kind is read when it is first looked into, as by `load_records`.
    """
    stems = sorted(path.stem for path in Path(folder).expanduser().glob("*_*.npz"))
    names = {*DIGITS, *(stem.removeprefix("attack_") for stem in stems if stem.startswith("attack_"))}
    kinds = set()
    for stem in stems:
        endings = [f"_{name}" for name in names if stem.endswith(f"_{name}")]
        kinds |= {stem.removesuffix(ending) for ending in sorted(endings, key=len)[-1:]}
    return {kind.replace("_", " "): _Unread(folder, kind) for kind in ["attack", *sorted(kinds - {"attack"})]}


class _Unread(Mapping[int, AttackRecord]):
    def __init__(self, folder: str | Path, kind: str) -> None:
        self._read = cache(lambda: load_records(folder, kind))

    def __getitem__(self, target: int) -> AttackRecord:
        return self._read()[target]

    def __iter__(self) -> Iterator[int]:
        return iter(self._read())

    def __len__(self) -> int:
        return len(self._read())
