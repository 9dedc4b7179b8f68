"""Federated averaging: clients train, a server averages, round by round (McMahan et al. 2017)."""

from __future__ import annotations

import copy
import ctypes
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from numbers import Integral
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.models import load_adam


@dataclass(frozen=True)
class Update:
    """What a client uploads after its local training: weights, never images.

    Attributes:
        state: the `state_dict` of the locally trained model.
        num_examples: how many examples it was trained on, its weight in the average.
        metrics: what the client reports of its training, for instance `{"loss": 0.3}`.
    """

    state: dict[str, Tensor]
    num_examples: int
    metrics: dict[str, float] = field(default_factory=dict)


# What a client may claim at the most: all of MNIST is 60,000 images, and who claims a billion *is* the average.
MAX_EXAMPLES = 1_000_000

# Clients that a federation keeps in memory, with 2.2 MB each of what they remember; more of them are set aside.
KEPT_IN_MEMORY = 100

Aggregate = Callable[[Iterable[Update], Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Fault:
    """Why a client was left out of a round: its number, and what was wrong, in words."""

    round: int
    client: int
    reason: str

    def __str__(self) -> str:
        return f"round {self.round}, client {self.client}: {self.reason}"


class FederationError(RuntimeError):
    """No client has sent an update that can be used. The global model is what it was after the round before."""


@dataclass(frozen=True)
class Round:
    """What `federate` yields after each round.

    Attributes:
        number: 1 for the first round.
        accuracy: what `evaluate` returned for the new global model; None without `evaluate`.
        seconds: wall-clock time of local training and averaging, without `evaluate`.
        client_metrics: the `Update.metrics` of each client whose update was used, in the order of the clients.
        faults: the clients that were left out, and why.
    """

    number: int
    accuracy: float | None
    seconds: float
    client_metrics: list[dict[str, float]]
    faults: list[Fault] = field(default_factory=list)


class Client:
    """An honest participant: trains the received model on its own images and returns the weights.

    The optimiser (Adam) stays with the client: its moments last from round to round. So does its local model, which
    shows only where less than everything is downloaded.

    Args:
        dataset: the client's own images.
        local_steps: mini-batches of local training a round.
        batch_size: images a mini-batch, or all the images where the client has fewer.
        learning_rate: of Adam.
        upload_fraction: share of the parameters that the client sends, those that its training changed most; the
            others it leaves as the server has them (theta_u of Shokri and Shmatikov 2015, section 5). Above 0, at
            most 1.
        download_fraction: share of the parameters that the client takes over from the global model, those that differ
            most from its own (theta_d). The first model is taken over whole. Above 0, at most 1.
        protect: what the client does to the change of its weights, a tensor a parameter, before it sends them; see
            `defences`.

    Raises:
        ValueError: the client holds no image, or a fraction is out of range.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        local_steps: int = 8,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        upload_fraction: float = 1.0,
        download_fraction: float = 1.0,
        protect: Callable[[list[Tensor]], list[Tensor]] | None = None,
    ) -> None:
        if len(dataset) == 0:
            raise ValueError("a client needs at least one image: check the partition that it was made from")
        for name, fraction in {"upload_fraction": upload_fraction, "download_fraction": download_fraction}.items():
            if not 0 < fraction <= 1:
                raise ValueError(f"{name} is {fraction}: it must be above 0, and at most 1 (everything)")
        self.dataset = dataset
        self.local_steps = local_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.upload_fraction = upload_fraction
        self.download_fraction = download_fraction
        self.protect = protect
        self._model: nn.Module | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        # The folder lasts as long as a client has something in it.
        self._aside: tuple[TemporaryDirectory, Path, list[int]] | None = None

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """Train a copy of `global_model`, which stays as it is, and return the update of this round."""
        self._receive(global_model)
        self.dataset = self.dataset.to(_device(global_model))
        return self._train(global_model, self.dataset.images, self.dataset.labels, num_examples=len(self.dataset))

    def state_dict(self) -> dict[str, Any]:
        """What lasts from one round to the next: the local model and its optimiser, once there are any."""
        self._take_back()
        if self._model is None:
            return {}
        return {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any], global_model: nn.Module) -> None:
        """Go on from a `state_dict`; `global_model` is of the federation's architecture, and stays as it is.

        Raises:
            RuntimeError, ValueError: the state is of another architecture, or of another optimiser.
        """
        if "model" in state:
            self._receive(global_model)
            self._model.load_state_dict(state["model"])
            load_adam(self._optimizer, state["optimizer"])

    def set_aside(self, folder: TemporaryDirectory) -> None:
        """Move what lasts between the rounds, three times the model's size, from memory to a file in `folder`.

        The client takes it back by itself when it needs it. Without room on the disk it stays in memory.
        """
        if self._model is None or self._aside is not None:
            return
        self._model.zero_grad()  # gradients need not last
        path = Path(folder.name) / str(id(self))
        storages = self._storages()
        try:
            with path.open("wb") as file:
                for storage in storages:
                    _bytes(storage).to("cpu", copy=True).numpy().tofile(file)
        except OSError:
            path.unlink(missing_ok=True)
            return
        self._aside = folder, path, [storage.nbytes() for storage in storages]
        for storage in storages:
            storage.resize_(0)

    def _take_back(self) -> None:
        if self._aside is None:
            return
        _, path, sizes = self._aside
        with path.open("rb") as file:
            for storage, size in zip(self._storages(), sizes, strict=True):
                storage.resize_(size)
                _bytes(storage).copy_(torch.from_numpy(np.fromfile(file, np.uint8, size)))
        self._aside = None
        path.unlink()

    def _storages(self) -> list[torch.UntypedStorage]:
        """The memory behind the local model and the moments of its optimiser."""
        moments = [value for state in self._optimizer.state.values() for value in state.values()]
        tensors = [*self._model.state_dict().values(), *filter(torch.is_tensor, moments)]
        return [tensor.untyped_storage() for tensor in tensors]

    def _receive(self, global_model: nn.Module) -> nn.Module:
        """Bring the local model up to date, as far as `download_fraction` lets the client see."""
        self._take_back()
        if self._model is None:
            self._model = copy.deepcopy(global_model)
            self._optimizer = torch.optim.Adam(self._model.parameters(), lr=self.learning_rate)
        elif self.download_fraction == 1:
            self._model.load_state_dict(global_model.state_dict())
        else:
            _add(self._model, _largest(_difference(global_model, self._model), self.download_fraction))
        return self._model

    def _train(self, global_model: nn.Module, images: Tensor, labels: Tensor, *, num_examples: int) -> Update:
        """Train the local model, which has received `global_model`, and claim `num_examples` for the update."""
        model = self._model.train()
        whole = self.upload_fraction == self.download_fraction == 1 and self.protect is None
        before = None if whole else copy.deepcopy(model)
        loss = self._step(images, labels)
        if before is not None:
            change = _largest(_difference(model, before), self.upload_fraction)
            model = _add(copy.deepcopy(global_model), self.protect(change) if self.protect else change)
        state = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        return Update(state, num_examples, {"loss": loss})

    def _step(self, images: Tensor, labels: Tensor) -> float:
        """Take the local steps of this round, and return their mean loss."""
        batches = _batches(len(labels), self.batch_size, self.local_steps)
        return descend(self._model, self._optimizer, ((images[batch], labels[batch]) for batch in batches))


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """A step of the optimiser for each mini-batch of images and labels; returns their mean cross-entropy."""
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def fedavg(updates: Iterable[Update]) -> dict[str, Tensor]:
    """The mean of the states, weighted by the number of examples (FederatedAveraging, McMahan et al. 2017, alg. 1).

    The updates are consumed one by one, so with a generator the memory does not grow with their number. The sums are
    kept in float64: a single client's state comes out unchanged, to the last bit.

    Args:
        updates: at least one, all with the same names and shapes.

    Returns:
        The averaged state, of the same dtypes as the first update's.

    Raises:
        ValueError: there is no update, one has no examples, or the names, shapes or types differ.
    """
    total = 0
    sums: dict[str, Tensor] = {}
    kinds: dict[str, tuple] = {}
    for number, update in enumerate(updates):
        if update.num_examples <= 0:
            raise ValueError(f"update {number} reports {update.num_examples} examples: it must be at least 1")
        if not sums:
            kinds = _kinds(update.state)
            sums = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in update.state.items()}
        if wrong := _differing(_kinds(update.state), kinds):
            raise ValueError(f"update {number} differs from the first in the names, shapes or types of {wrong}")
        for name, tensor in update.state.items():
            sums[name].add_(tensor, alpha=update.num_examples)
        total += update.num_examples
    if not sums:
        raise ValueError("there is no update to average: at least one client must take part")
    means = {name: tensor / total for name, tensor in sums.items()}
    dtypes = {name: dtype for name, (_, dtype, *_) in kinds.items()}
    return {
        name: (mean if dtypes[name].is_floating_point else mean.round()).to(dtypes[name])
        for name, mean in means.items()
    }


def check_update(update: Update, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that says what is wrong, unless `update` can go into a global model of that `state`.

    It must have the same names, shapes, types, layouts and devices, no NaN or infinity, and claim 1 to `MAX_EXAMPLES`
    examples.
    """
    claimed = update.num_examples
    if isinstance(claimed, bool) or not isinstance(claimed, Integral) or not 1 <= claimed <= MAX_EXAMPLES:
        raise ValueError(f"it claims {claimed!r} examples, and must claim a whole number from 1 to {MAX_EXAMPLES:,}")
    if wrong := _differing(_kinds(update.state), _kinds(state)):
        raise ValueError(f"it differs from the global model in the names, shapes, types, layouts or devices of {wrong}")
    # The sum raises the suspicion in a fifth of the time; that of large numbers may be wrong.
    suspects = {name: tensor for name, tensor in update.state.items() if not tensor.sum().isfinite()}
    if wrong := [name for name, tensor in suspects.items() if not tensor.isfinite().all()]:
        raise ValueError(f"there is NaN or infinity in {wrong}")


def _kinds(state: Mapping[str, Tensor]) -> dict[str, tuple]:
    return {name: (tensor.shape, tensor.dtype, tensor.layout, tensor.device) for name, tensor in state.items()}


def _differing(kinds: Mapping[str, tuple], expected: Mapping[str, tuple]) -> list[str]:
    return sorted(name for name in kinds.keys() | expected.keys() if kinds.get(name) != expected.get(name))


def federate(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    num_rounds: int,
    clients_per_round: int | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    timeout: float | None = None,
    rounds_done: int = 0,
) -> Iterator[Round]:
    """Run federated averaging, and yield after every round, so that the caller can stop, look and go on.

    A client that raises an error, that takes too long, or whose update cannot be used (`check_update`) is left out of
    the round, with a warning and a `Fault`; the others go on.

    Each client's turn draws its random numbers from (seed, round, client) alone: the result depends neither on what
    the caller does between the rounds nor on who else takes part. The caller's own random state is left as it was.

    With more than a hundred clients, what each remembers between its turns (`Client`, some 2 MB) waits in a temporary
    file, so that the memory does not grow with their number; the result is the same to the last bit.

    Args:
        model: the global model; its weights are replaced after every round.
        clients: those who may take part.
        num_rounds: at least 1, those that are done among them.
        clients_per_round: how many of them the server draws at random for each round (McMahan et al. 2017, alg. 1); by
            default all.
        evaluate: called with the new global model after each round, for instance to measure its accuracy.
        aggregate: makes the new global state of the updates and the old one; by default `fedavg`, which needs no old
            one. See `defences`.
        seed: of the clients' turns, and of the aggregation.
        timeout: seconds that a client may take for its turn; by default as long as it likes. It then runs in a thread
            of its own, which changes no bit. One that does not come back is interrupted where Python can interrupt it,
            and takes part again when it has ended.
        rounds_done: how many rounds `model` and `clients` have behind them, to go on after those (`checkpoints`).

    Yields:
        One `Round` after each round.

    Raises:
        ValueError: there is no client, or no round, or a number is out of range.
        FederationError: in a round, no client has sent an update that can be used; `model` is as after the last one.
        Exception: whatever `aggregate` or `evaluate` raises.
    """
    if not clients:
        raise ValueError("a federation needs at least one client")
    if num_rounds < 1:
        raise ValueError(f"num_rounds is {num_rounds}: it must be at least 1")
    if not 0 <= rounds_done <= num_rounds:
        raise ValueError(f"rounds_done is {rounds_done}: it must be from 0 to {num_rounds}, the number of rounds")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout is {timeout}: it must be above 0 seconds, or None for no limit")
    drawn = len(clients) if clients_per_round is None else clients_per_round
    if not 1 <= drawn <= len(clients):
        raise ValueError(f"clients_per_round is {drawn}: it must be from 1 to {len(clients)}, the number of clients")
    aggregate = aggregate or (lambda updates, _state: fedavg(updates))
    numbers = range(rounds_done + 1, num_rounds + 1)
    return _rounds(model, _Turns(clients, seed, timeout), numbers, drawn, evaluate, aggregate)


def _rounds(
    model: nn.Module,
    turns: _Turns,
    numbers: range,
    clients_per_round: int,
    evaluate: Callable[[nn.Module], float] | None,
    aggregate: Aggregate,
) -> Iterator[Round]:
    num_clients, seed = len(turns.clients), turns.seed
    for number in numbers:
        metrics: list[dict[str, float]] = []
        faults: list[Fault] = []
        start = time.perf_counter()
        drawn = _draw(num_clients, clients_per_round, number, seed)
        updates = turns.take(model, drawn, number, metrics, faults)
        with seeded(seed, number, num_clients):
            first = next(updates, None)
            if first is None:
                raise FederationError(_nobody(number, faults))
            model.load_state_dict(aggregate(chain([first], updates), model.state_dict()))
        seconds = time.perf_counter() - start
        yield Round(number, evaluate(model) if evaluate else None, seconds, metrics, faults)


def _nobody(round: int, faults: list[Fault]) -> str:
    reasons = [f"client {fault.client}: {fault.reason}" for fault in faults[:5]]
    more = [f"and {len(faults) - 5} more"] * (len(faults) > 5)
    return (
        f"round {round}: no client has sent an update that can be used ({'; '.join(reasons + more)}). "
        f"The global model is as it was after round {round - 1}"
    )


def _draw(num_clients: int, clients_per_round: int, round: int, seed: int) -> list[int]:
    """Who takes part in a round, in ascending order."""
    rng = np.random.default_rng(turn_seed(seed, round, num_clients + 1))
    return sorted(rng.choice(num_clients, clients_per_round, replace=False).tolist())


class _Turns:
    """The turns of the clients, round by round: what goes wrong in one stays there."""

    def __init__(self, clients: Sequence[Client], seed: int, timeout: float | None) -> None:
        self.clients = clients
        self.seed = seed
        self._timeout = timeout
        self._folder = TemporaryDirectory(prefix="fl_gan_lib_") if len(clients) > KEPT_IN_MEMORY else None
        self._busy: dict[int, Future[Update]] = {}

    def take(
        self, model: nn.Module, drawn: Iterable[int], round: int, metrics: list[dict[str, float]], faults: list[Fault]
    ) -> Iterator[Update]:
        for index in drawn:
            try:
                update = self._take(index, model, round)
                check_update(update, model.state_dict())
            except (Exception, SystemExit) as error:  # a client is somebody else's code
                reason = str(error) if isinstance(error, ValueError | TimeoutError) else f"{error!r}"
                faults.append(Fault(round, index, reason))
                warnings.warn(f"left out: {faults[-1]}", RuntimeWarning, stacklevel=2)
                continue
            self._set_aside(index)
            metrics.append(update.metrics)
            yield update

    def _take(self, index: int, model: nn.Module, round: int) -> Update:
        client = self.clients[index]
        received = copy.deepcopy(model)  # whatever the client does to it, and whenever
        if self._timeout is None:
            with seeded(self.seed, round, index):
                return client.fit(received, round)
        if index in self._busy and not self._busy[index].done():
            raise TimeoutError("it has not come back from an earlier round")
        with seeded(self.seed, round, index):
            thread, self._busy[index] = _start(lambda: client.fit(received, round))
            try:
                return self._busy[index].result(self._timeout)
            except TimeoutError as error:
                raise TimeoutError(str(error) or f"it has not come back within {self._timeout:g} s") from None
            finally:
                if not self._busy[index].done():
                    _interrupt(thread)

    def _set_aside(self, index: int) -> None:
        if self._folder is not None:
            self.clients[index].set_aside(self._folder)
            if index % 20 == 0:
                _return_freed_memory()


def _start(turn: Callable[[], Update]) -> tuple[threading.Thread, Future[Update]]:
    """Call `turn` in a thread that keeps nobody from leaving."""
    answer: Future[Update] = Future()

    def answer_with_turn() -> None:
        try:
            answer.set_result(turn())
        except BaseException as error:
            answer.set_exception(error)

    thread = threading.Thread(target=answer_with_turn, daemon=True)
    thread.start()
    return thread, answer


def _interrupt(thread: threading.Thread) -> None:
    """End a thread at its next step of Python: left alone, it would draw from the others' random numbers."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))


@contextmanager
def seeded(seed: int, round: int, client: int) -> Iterator[None]:
    """Random numbers of one client's turn; the caller's own random state is left as it was."""
    # Looking for the generators of other devices takes a millisecond a turn, where there are none as well.
    cpu_only = not (torch.cuda.is_initialized() or torch.backends.mps.is_available())
    with torch.random.fork_rng(devices=[] if cpu_only else None):
        manual_seed = torch.default_generator.manual_seed if cpu_only else torch.manual_seed
        manual_seed(turn_seed(seed, round, client))
        yield


def turn_seed(seed: int, round: int, client: int) -> int:
    """The seed of one client's turn in one round, from 0 to 2**32 - 1."""
    return int(np.random.SeedSequence([seed, round, client]).generate_state(1)[0])


def _batches(num_images: int, batch_size: int, steps: int) -> Iterator[Tensor]:
    """Index batches: shuffled epochs one after another, cut off after `steps` batches."""
    while steps > 0:
        for batch in torch.randperm(num_images).split(batch_size)[:steps]:
            yield batch
            steps -= 1


def _difference(model: nn.Module, other: nn.Module) -> list[Tensor]:
    """The parameters of `model` minus those of `other`."""
    return [p.detach() - q.detach() for p, q in zip(model.parameters(), other.parameters(), strict=True)]


def _largest(change: list[Tensor], fraction: float) -> list[Tensor]:
    """`change` with all but its `fraction` of largest entries, by absolute value over all tensors, set to zero."""
    sizes = torch.cat([tensor.flatten() for tensor in change]).abs()
    smallest_kept = sizes.topk(max(1, round(fraction * len(sizes)))).values[-1]
    return [tensor.where(tensor.abs() >= smallest_kept, 0) for tensor in change]


@torch.no_grad()
def _add(model: nn.Module, change: list[Tensor]) -> nn.Module:
    for parameter, tensor in zip(model.parameters(), change, strict=True):
        parameter.add_(tensor)
    return model


def _return_freed_memory() -> None:
    """Hand to the system what has been freed: glibc before 2.38 hardly uses it again for torch's aligned tensors."""
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)):
        trim(0)


def _bytes(storage: torch.UntypedStorage) -> Tensor:
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device
