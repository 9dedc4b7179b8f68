"""The state of a run between two rounds, in a file: however a run ends, it can go on, to the same bits.

Nothing else need be kept: the random numbers of a turn come from the seed, the round and the client alone (`federate`).
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout
from torch import nn
from tqdm.auto import tqdm

from fl_gan_lib.federation import Client
from fl_gan_lib.recording import files, states
from fl_gan_lib.records import AttackRecord, rounds_reached

if TYPE_CHECKING:
    from fl_gan_lib.recording.recorder import Recorder

_VERSION = 3


class Checkpoint:
    """An unfinished run, in a file beside its record that ends in `.partial`; a context manager.

    On entering, an unfinished run is continued if there is one: `model`, `clients` and `recorder` are put into its
    state. On leaving, the record is written, and once it reaches the last round, the unfinished run is deleted. A
    record that reaches further is not replaced by a shorter one.

    Args:
        path: of the record, *.npz.
        config: what tells this run from others; JSON values only, `rounds` among them.
        model: the global model, before the first round.
        clients: all of them, before the first round.
        recorder: of the run.

    Raises:
        ValueError: `path` does not end in .npz; or, on entering, there is a record of another run, or one that reaches
            further than this run will, or a file that is no record, or an unfinished run with another config, or a
            damaged one, or another process is writing there.
        OSError: on entering, nothing can be written there.
    """

    def __init__(
        self,
        path: str | Path,
        config: Mapping[str, Any],
        model: nn.Module,
        clients: Sequence[Client],
        recorder: Recorder,
    ) -> None:
        if not isinstance(path, str | PathLike):
            raise ValueError(f"path is {path!r:.80}: it must be the name of a file that ends in .npz")
        self.path = Path(path).expanduser()
        if self.path.suffix != ".npz":
            raise ValueError(f"path is {path}: the name of a record must end in .npz")
        self.unfinished = self.path.with_suffix(".partial")
        self.config = dict(config)
        self.model = model
        self.clients = clients
        self.recorder = recorder
        self._lock = FileLock(self.path.with_name(f".{self.path.stem}.lock"))

    def __enter__(self) -> Checkpoint:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            message = f"another process is writing {self.path}: wait until it has ended, or give another path"
            raise ValueError(message) from None
        try:
            self._check_record()
            for client in self.clients:  # what cannot be saved is refused before the first round
                states.dump(client.lasting_parts())
            for name in (self.path.name, self.unfinished.name):  # what a killed process has left half-written
                for half_written in self.path.parent.glob(f".{escape(name)}.*.tmp"):
                    half_written.unlink(missing_ok=True)
            if self.unfinished.exists():
                self.load()
                done = self.recorder.rounds_done
                tqdm.write(f"going on after round {done}, from {self.unfinished} (delete it to begin afresh)")
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if error is None and (record := self.recorder.record()):
                self._finish(record)
        finally:
            self._lock.release()

    def _check_record(self) -> None:
        """Raise a ValueError if this run would replace anything but a record of the same run, and no longer one."""
        if not self.path.exists():
            return
        try:
            config = AttackRecord.load(self.path).config
        except ValueError as error:
            raise ValueError(f"{error}; or give another path") from error
        theirs = {name: value for name, value in config.items() if name in self.config and name != "rounds"}
        if differences := _differences(theirs, {name: self.config[name] for name in theirs}):
            raise ValueError(
                f"{self.path} is a record of another run ({differences}): give another path, or delete the record"
            )
        reached, last = rounds_reached(self.path), self.config["rounds"]
        if reached > last:
            raise ValueError(
                f"{self.path} is a record of {reached} rounds, and this run would end after {last}: give another "
                "path, or delete the record"
            )

    def save(self) -> None:
        """Write the state of the run, some 2 MB of file a client; an older one is replaced only by a complete one.

        Where it cannot be written (a full disk) there is a warning, and the run goes on.
        """
        recorder = self.recorder
        record = recorder.record()
        text = {"version": _VERSION, "config": self.config, "round": recorder.rounds_done, "seconds": recorder.seconds}
        text |= {"left_out": recorder.left_out}
        contents = {"model": states.dump({"model": self.model})}
        contents |= {
            f"client_{place}": states.dump(client.lasting_parts()) for place, client in enumerate(self.clients)
        }
        contents |= {"record": record.dumps(compress=False)} if record else {}
        arrays = {name: np.frombuffer(content, np.uint8) for name, content in contents.items()}
        try:
            files.write_atomically(self.unfinished, files.pack(text, arrays, compress=False))
        except OSError as error:
            warnings.warn(
                f"round {recorder.rounds_done} is not in {self.unfinished} ({error}): make room. The run goes on; if "
                "it is interrupted, it can be continued from an earlier round only",
                RuntimeWarning,
                stacklevel=2,
            )

    def load(self) -> None:
        """Put model, clients and recorder into the state that `save` has written; no pickle.

        Raises:
            ValueError: it is of another run, or of another version, or damaged; the message says what to do.
        """
        with _reported_as_damage(self.unfinished):
            text, arrays = files.unpack(self.unfinished.read_bytes())
            if text.get("version") != _VERSION:
                raise ValueError(f"it is of version {text.get('version')!r:.80}, and this library reads {_VERSION}")
            theirs = dict(text["config"])
        if theirs != self.config:
            raise ValueError(
                f"{self.unfinished} holds another run, which is unfinished ({_differences(theirs, self.config)}): "
                "finish it with the same arguments, give another path, or delete it to begin afresh"
            )
        with _reported_as_damage(self.unfinished):
            record = AttackRecord.loads(arrays["record"].tobytes()) if "record" in arrays else None
            rounds_done = int(text["round"])
            if not (record.rounds[-1] if record else 0) <= rounds_done <= self.config["rounds"]:
                raise ValueError(f"round {rounds_done} is not between the last recorded one and the last of the run")
            states.load(arrays["model"].tobytes(), {"model": self.model})
            for place, client in enumerate(self.clients):
                states.load_client(arrays[f"client_{place}"].tobytes(), client, self.model)
            left_out = {str(client): int(rounds) for client, rounds in text.get("left_out", {}).items()}
            self.recorder.resume(record, rounds_done=rounds_done, seconds=float(text["seconds"]), left_out=left_out)

    def _finish(self, record: AttackRecord) -> None:
        last = self.config["rounds"]
        if record.rounds[-1] < rounds_reached(self.path):
            tqdm.write(f"{self.path} stays as it is, for it reaches further; {self.unfinished} has the run so far")
            return
        try:
            record.save(self.path)
        except OSError as error:
            warnings.warn(f"not saved ({error}): make room, and run it again", RuntimeWarning, stacklevel=3)
        else:
            if record.rounds[-1] == last:
                self.unfinished.unlink(missing_ok=True)


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    names = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    return ", ".join(f"{name} is {theirs.get(name)!r} there and {ours.get(name)!r} here" for name in names)


@contextmanager
def _reported_as_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what does not fit raises some five different types, in torch's modules and optimisers
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{path} is damaged ({reason}): delete it to begin afresh") from error
