"""The state of a run between two rounds, in a file: however a run ends, it can go on, to the same bits.

Nothing else need be kept: the random numbers of a turn come from the seed, the round and the client alone (`federate`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm.auto import tqdm

from fl_gan_lib.federation import Client
from fl_gan_lib.recording import files
from fl_gan_lib.recording.recorder import Progress
from fl_gan_lib.records import AttackRecord

_VERSION = 1


def run_with_checkpoints(
    run: Callable[[Progress, Callable[[Progress], None]], AttackRecord],
    path: str | Path,
    *,
    config: Mapping[str, Any],
    model: nn.Module,
    clients: Sequence[Client],
) -> AttackRecord:
    """Call `run` so that it can be interrupted at any moment and goes on when this is called again.

    Args:
        run: called with how far the run has come, and what to call after each round; returns the record.
        path: of the record, *.npz. What is needed to go on is beside it, in a file that ends in `.partial`, until the
            record reaches as far as `config["rounds"]`. A record that reaches further is not replaced by a shorter one.
        config: what tells this run from others; JSON values only.
        model: the global model, before the first round.
        clients: all of them, before the first round.

    Raises:
        ValueError: there is an unfinished run with another config, or a damaged one, or `path` does not end in .npz.
        OSError: nothing can be written there.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path is {path}: the name of a record must end in .npz")
    unfinished = path.with_suffix(".partial")
    with _alone(path, unfinished):
        start = Progress()
        if unfinished.exists():
            start = load_checkpoint(unfinished, config=config, model=model, clients=clients)
            tqdm.write(f"going on after round {start.round}, from {unfinished} (delete it to begin afresh)")
        recorded = start.record

        def keep(now: Progress) -> None:
            nonlocal recorded
            recorded = now.record or recorded
            try:
                save_checkpoint(unfinished, replace(now, record=recorded), config=config, model=model, clients=clients)
            except OSError as error:
                warnings.warn(
                    f"round {now.round} is not in {unfinished} ({error}): make room. The run goes on; if it is "
                    "interrupted, it can be continued from an earlier round only",
                    RuntimeWarning,
                    stacklevel=2,
                )

        record = run(start, keep)
        if record.rounds[-1] < min(config["rounds"], _last_round(path)):
            tqdm.write(f"{path} stays as it is, for it reaches further; {unfinished} has the run so far")
            return record
        try:
            record.save(path)
        except OSError as error:
            warnings.warn(f"not saved ({error}): make room, and run it again", RuntimeWarning, stacklevel=2)
        else:
            if record.rounds[-1] == config["rounds"]:
                unfinished.unlink(missing_ok=True)
    return record


def save_checkpoint(
    path: Path, progress: Progress, *, config: Mapping[str, Any], model: nn.Module, clients: Sequence[Client]
) -> None:
    """Write the state of a run to `path`, some 2 MB a client; an older one is replaced only by a complete one.

    What clients had set aside (`Client.set_aside`) is in memory again afterwards, until their next turns.

    Raises:
        OSError: it could not be written; the older one is whole.
    """
    arrays: dict[str, np.ndarray] = {}
    state = {"model": model.state_dict(), "clients": [client.state_dict() for client in clients]}
    text = {"version": _VERSION, "config": dict(config), "round": progress.round, "seconds": progress.seconds}
    text |= {"state": _take_apart(state, "state", arrays), "recorded": progress.record is not None}
    if progress.record is not None:
        arrays["record"] = np.frombuffer(progress.record.dumps(compress=False), np.uint8)
    files.replace(path, files.pack(text, arrays, compress=False))


def load_checkpoint(path: Path, *, config: Mapping[str, Any], model: nn.Module, clients: Sequence[Client]) -> Progress:
    """Put `model` and `clients` into the state that `save_checkpoint` has written; no pickle.

    Raises:
        ValueError: it is of another run, or of another version, or damaged; the message says what to do.
    """
    with _damage_named(path):
        text, arrays = files.unpack(path.read_bytes())
        if text.get("version") != _VERSION:
            raise ValueError(f"it is of version {text.get('version')!r:.80}, and this library reads {_VERSION}")
        theirs = dict(text["config"])
    if theirs != config:
        names = sorted(name for name in theirs.keys() | config.keys() if theirs.get(name) != config.get(name))
        differences = ", ".join(f"{name} is {theirs.get(name)!r} there and {config.get(name)!r} here" for name in names)
        raise ValueError(
            f"{path} holds another run, which is unfinished ({differences}): finish it with the same arguments, give "
            "another path, or delete it to begin afresh"
        )
    with _damage_named(path):
        record = AttackRecord.loads(arrays["record"].tobytes()) if text["recorded"] else None
        progress = Progress(int(text["round"]), float(text["seconds"]), record)
        if not (record.rounds[-1] if record else 0) <= progress.round <= config["rounds"]:
            raise ValueError(f"round {progress.round} is not between the last recorded one and the last of the run")
        state = _put_together(text["state"], arrays)
        model.load_state_dict(state["model"])
        for client, its_state in zip(clients, state["clients"], strict=True):
            client.load_state_dict(its_state, model)
    return progress


def _last_round(path: Path) -> int:
    """Of the record that is there; 0 if none is, or a damaged one."""
    try:
        return int(AttackRecord.load(path).rounds[-1])
    except (OSError, ValueError):
        return 0


@contextmanager
def _alone(path: Path, unfinished: Path) -> Iterator[None]:
    """Nobody else writes to them meanwhile; what a killed process has left half-written is cleared away."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name(f".{path.stem}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another process is writing {path}: wait until it has ended, or give another path") from None
    try:
        for name in (path.name, unfinished.name):
            for half_written in path.parent.glob(f".{escape(name)}.*.tmp"):
                half_written.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what does not fit raises some five different types, in torch's modules and optimisers
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"{path} is damaged ({reason}): delete it to begin afresh") from error


def _take_apart(value: Any, name: str, arrays: dict[str, np.ndarray]) -> Any:
    """`value` as JSON, with its tensors in `arrays`; keys that are numbers stay numbers."""
    if isinstance(value, Tensor):
        arrays[name] = value.detach().cpu().numpy()
        return {"array": name, "channels_last": _is_channels_last(value)}
    if isinstance(value, Mapping):
        return {"dict": [[key, _take_apart(part, f"{name}.{key}", arrays)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        return {"list": [_take_apart(part, f"{name}.{place}", arrays) for place, part in enumerate(value)]}
    return value


def _put_together(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    if "list" in value:
        return [_put_together(part, arrays) for part in value["list"]]
    if "dict" in value:
        return {key: _put_together(part, arrays) for key, part in value["dict"]}
    tensor = torch.from_numpy(arrays[value["array"]])
    # Another layout means the same numbers, and other last digits after a step of the optimiser.
    return tensor.contiguous(memory_format=torch.channels_last) if value["channels_last"] else tensor


def _is_channels_last(tensor: Tensor) -> bool:
    return tensor.dim() == 4 and not tensor.is_contiguous() and tensor.is_contiguous(memory_format=torch.channels_last)
