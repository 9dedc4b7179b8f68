"""Federated averaging: clients train, a server averages, round by round (after McMahan et al. 2017, algorithm 1)::

    in each round
        the server draws some of the clients                        federate
        each of them receives the global model,                     Client.receive
            trains it on images that never leave it,                Client.train_locally
            and sends the weights back                              Client.make_update
        the server averages what has come, weighted by examples     fedavg

The average is that of the paper. The client differs from its ClientUpdate: it takes a fixed number of steps in a round,
and not a number of epochs, with Adam, whose moments last from round to round, and not with plain SGD. So clients with
more images count more in the average, and do not take more steps. (For the paper's client, override `Client.receive`,
which makes the optimiser.)

What can go wrong in a client's turn is in `recording.faults`, other ways to train and to average are in `defences`.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import check_function, check_seed, real_number, whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.guards import as_list, check_clients, check_outputs, check_state, count_outputs
from fl_gan_lib.recording.faults import Fault, FederationError, all_left_out, check_update, differing_names, tolerated
from fl_gan_lib.seeding import seeded, turn_seed


@dataclass(frozen=True, eq=False)
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Update):
            return NotImplemented
        same = self.state.keys() == other.state.keys() and all(
            torch.equal(tensor, other.state[name]) for name, tensor in self.state.items()
        )
        return same and (self.num_examples, self.metrics) == (other.num_examples, other.metrics)


class Client:
    """An honest participant: trains the received model on its own images and returns the weights.

    The optimiser (Adam) stays with the client: its moments last from round to round. Another kind of client overrides
    `fit`, or one of the three steps of a turn: `receive`, `train_locally`, `make_update`.

    Args:
        dataset: the client's own images.
        local_steps: mini-batches of local training in a round, at least 1.
        batch_size: images in a mini-batch, at least 1; all, if the client has fewer.
        learning_rate: of Adam, above 0.
        protect: takes what training changed, one tensor for each parameter, and returns what the client sends of it:
            clipped, with noise, in fewer bits, the largest numbers only; see `defences`. Statistics of batch norm are
            no parameters, and are sent as they are.

    Attributes:
        model, optimizer: the local ones; None before the first round.

    Raises:
        ValueError: the client holds no image, or a number is out of range.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        local_steps: int = 8,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        protect: Callable[[list[Tensor]], list[Tensor]] | None = None,
    ) -> None:
        if not isinstance(dataset, ImageDataset):
            raise ValueError(f"dataset is of type {type(dataset).__name__}: a client needs an ImageDataset")
        if len(dataset) == 0:
            raise ValueError("a client needs at least one image: check the partition that it was made from")
        self.dataset = dataset
        self.local_steps = whole_number("local_steps", local_steps, 1)
        self.batch_size = whole_number("batch_size", batch_size, 1)
        self.learning_rate = real_number("learning_rate", learning_rate, above=0)
        check_function("protect", protect)
        self.protect = protect
        self.model: nn.Module | None = None
        self.optimizer: torch.optim.Optimizer | None = None

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """A client's turn: train a copy of the global model, and return the update.

        Args:
            global_model: as the server has sent it; it stays as it is.
            round: its number, 1 for the first.
        """
        self.receive(global_model)
        loss = self.train_locally(self.dataset)
        return self.make_update(global_model, len(self.dataset), loss)

    def receive(self, global_model: nn.Module) -> nn.Module:
        """Make the local model the same as the global one, and return it. The first time, make it and its optimiser."""
        if self.model is None:
            self.model = copy.deepcopy(global_model)
            self.optimizer = torch.optim.Adam(self.model.parameters(), lr=self.learning_rate)
        else:
            self.model.load_state_dict(global_model.state_dict())
        self.dataset = self.dataset.to(next(self.model.parameters()).device)
        return self.model

    def train_locally(self, dataset: ImageDataset) -> float:
        """Train the local model for this round's steps on mini-batches of `dataset`; returns their mean cross-entropy.

        Args:
            dataset: its images are float32 of shape (N, 1, S, S) in [-1, 1], on the device of the model.
        """
        batches = shuffled_batches(dataset, self.batch_size, self.local_steps)
        return descend(self.model.train(), self.optimizer, batches)

    def make_update(self, global_model: nn.Module, num_examples: int, loss: float) -> Update:
        """The local weights as an update; with `protect`, the global weights plus the protected change.

        Args:
            global_model: as it was received.
            num_examples: that the update counts for in the average.
            loss: that is reported beside it.
        """
        if self.protect is None:
            state = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        else:
            change = self.protect(change_between(global_model, self.model))
            state = plus_change(global_model, change, buffers_of=self.model)
        return Update(state, num_examples, {"loss": loss})

    def check_model(self, model: nn.Module) -> None:
        """Raise a ValueError that says what does not fit, unless the client can train `model`, which stays as it is."""
        check_outputs(count_outputs(model, self.dataset, self.batch_size), self.dataset.labels, "label")
        if hasattr(self.protect, "check_model"):
            self.protect.check_model(model)

    def lasting_parts(self) -> dict[str, Any]:
        """What keeps its state from round to round, by name: objects with `state_dict` and `load_state_dict`.

        Checkpoints and Flower's nodes save it. A part of another kind is refused where it would have to be saved.
        """
        return {} if self.model is None else {"model": self.model, "optimizer": self.optimizer}


def fedavg(updates: Iterable[Update]) -> dict[str, Tensor]:
    """The mean of the states, weighted by the number of examples (FederatedAveraging, McMahan et al. 2017, alg. 1).

    The sums are kept in float64, in NumPy's hands, as some devices have none: a single client's state comes out
    unchanged, to the last bit. With a generator of updates the memory does not grow with their number.

    Args:
        updates: at least one, all with the same names and shapes.

    Returns:
        The averaged state, of the same dtypes and on the same devices as the first update's.

    Raises:
        ValueError: there is no update, one has no examples, or the names, shapes or types differ.
    """
    total = 0
    sums: dict[str, np.ndarray] = {}
    for number, update in enumerate(updates):
        whole_number(f"num_examples of update {number}", update.num_examples, 1)
        if not sums:
            first = update.state
            sums = {name: np.zeros_like(_numbers(tensor), np.float64) for name, tensor in first.items()}
        if wrong := differing_names(update.state, first):
            raise ValueError(f"update {number} differs from the first in the names, shapes or types of {wrong}")
        for name, tensor in update.state.items():
            sums[name] += update.num_examples * _numbers(tensor)
        total += update.num_examples
    if not sums:
        raise ValueError("there is no update to average: at least one client must take part")
    return {name: _as_tensor(sums[name] / total, tensor) for name, tensor in first.items()}


def _numbers(tensor: Tensor) -> np.ndarray:
    """The numbers of a tensor as float64."""
    wide = tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor
    return wide.detach().cpu().numpy().astype(np.float64)


def _as_tensor(numbers: np.ndarray, like: Tensor) -> Tensor:
    """Numbers in the dtype and on the device of another tensor; rounded, if those are whole."""
    if like.is_floating_point():
        numbers = numbers.astype(np.float64 if like.dtype == torch.float64 else np.float32)
    else:
        numbers = np.rint(numbers).astype(np.int64)
    return torch.from_numpy(np.asarray(numbers)).to(device=like.device, dtype=like.dtype)


Aggregate = Callable[[list[Update], dict[str, Tensor]], Mapping[str, Tensor]]


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


def federate(
    model: nn.Module,
    clients: Sequence[Client],
    *,
    num_rounds: int,
    clients_per_round: int | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    rounds_done: int = 0,
) -> Iterator[Round]:
    """Run federated averaging, and yield after every round, so that the caller can look at the model, or stop.

    A client that raises an error, or whose update cannot be used (`recording.faults.check_update`), is left out of the
    round, with a warning and a `Fault`; the others go on.

    The random numbers of a client's turn come from (seed, round, client) alone. They are the same whatever the caller
    does between the rounds, and whoever else takes part. The caller's own random state is left as it was.

    Args:
        model: the global model; its weights are replaced after every round.
        clients: those who may take part.
        num_rounds: how many rounds in all, counting `rounds_done`; at least 1.
        clients_per_round: how many of them the server draws at random for each round; by default all.
        evaluate: called with the new global model after each round, for instance to measure its accuracy.
        aggregate: called with the list of the updates and a copy of the old global state, returns the new one; by
            default `fedavg`. See `defences.aggregation`. If it has a method `check_model`, `federate` calls it with the
            model first, as it does for clients.
        seed: of the clients' turns, and of the aggregation; a whole number, at least 0.
        rounds_done: how many rounds are done already; training goes on with the next.

    Yields:
        One `Round` after each round.

    Raises:
        ValueError: there is no client, or no round, or a number is out of range; a client's images or labels do not fit
            the model; a client has trained in another federation, and remembers its optimiser. Nothing has been
            trained yet. Later: what `aggregate` returned cannot be a state of the model, which stays as it was.
        FederationError: in a round, no client has sent an update that can be used; `model` stays as it was after the
            round before.
        Exception: whatever `aggregate` or `evaluate` raises.
    """
    clients = as_list(clients)
    if not clients:
        raise ValueError("a federation needs at least one client")
    num_rounds = whole_number("num_rounds", num_rounds, 1)
    rounds_done = whole_number("rounds_done", rounds_done, 0, num_rounds, why="(the number of rounds)")
    num_drawn = len(clients) if clients_per_round is None else clients_per_round
    num_drawn = whole_number("clients_per_round", num_drawn, 1, len(clients), why="(all clients)")
    seed = check_seed(seed)
    check_function("aggregate", aggregate, ("updates", "state")), check_function("evaluate", evaluate, ("model",))
    if (made_for := getattr(aggregate, "num_clients", num_drawn)) != num_drawn:
        raise ValueError(
            f"aggregate is made for {made_for} clients, and {num_drawn} take part in a round: give it those"
        )
    check_clients(model, clients, rounds_done)
    if hasattr(aggregate, "check_model"):
        aggregate.check_model(model)
    aggregate = aggregate or (lambda updates, _state: fedavg(updates))

    def rounds() -> Iterator[Round]:  # a generator of its own, so that wrong arguments are refused at the call
        for number in range(rounds_done + 1, num_rounds + 1):
            start = time.perf_counter()
            updates: list[Update] = []
            faults: list[Fault] = []
            for index in draw_clients(len(clients), num_drawn, number, seed):
                # An error ends this client's turn, not the round: `tolerated` notes it among the faults.
                with tolerated(faults, number, index), seeded(seed, number, index):
                    update = clients[index].fit(copy.deepcopy(model), number)
                    check_update(update, model.state_dict())
                    updates.append(update)
            if not updates:
                raise FederationError(all_left_out(number, faults))
            state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            with seeded(seed, number, len(clients)):  # the numbers after the clients' own
                model.load_state_dict(check_state(aggregate(updates, state), model.state_dict(), number))
            seconds = time.perf_counter() - start
            accuracy = evaluate(model) if evaluate else None
            yield Round(number, accuracy, seconds, [update.metrics for update in updates], faults)

    return rounds()


def draw_clients(num_clients: int, num_drawn: int, round: int, seed: int) -> list[int]:
    """Who takes part in a round, in ascending order."""
    rng = np.random.default_rng(turn_seed(seed, round, num_clients + 1))
    return sorted(rng.choice(num_clients, num_drawn, replace=False).tolist())


def shuffled_batches(dataset: ImageDataset, batch_size: int, steps: int) -> Iterator[tuple[Tensor, Tensor]]:
    """`steps` mini-batches of images and labels: shuffled epochs one after another.

    Where one image would be left over at the end of an epoch it goes into the last mini-batch: batch norm cannot be
    trained on one image.
    """
    while steps > 0:
        batches = torch.randperm(len(dataset)).split(batch_size)
        if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
            batches = (*batches[:-2], torch.cat(batches[-2:]))
        for batch in batches[:steps]:
            yield dataset.images[batch], dataset.labels[batch]
            steps -= 1


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """A step of the optimiser for each mini-batch of images and labels; returns their mean cross-entropy."""
    losses = []
    for images, labels in batches:
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()  # at the end: a client need not keep its gradients until its next turn
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def change_between(model: nn.Module, trained: nn.Module) -> list[Tensor]:
    """The parameters of `trained` minus those of `model`, a tensor each."""
    return [new.detach() - old.detach() for new, old in zip(trained.parameters(), model.parameters(), strict=True)]


@torch.no_grad()
def plus_change(model: nn.Module, change: list[Tensor], buffers_of: nn.Module | None = None) -> dict[str, Tensor]:
    """The state of a copy of `model` with `change` added to its parameters, and with the buffers of `buffers_of`.

    Buffers are what a model has besides its parameters: the running statistics of batch norm. By default they are the
    model's own.
    """
    changed = copy.deepcopy(model)
    parameters = list(changed.parameters())
    if [difference.shape for difference in change] != [parameter.shape for parameter in parameters]:
        raise ValueError("what protect returned differs from the parameters in number or shapes: keep both")
    for parameter, difference in zip(parameters, change, strict=True):
        parameter.add_(difference)
    if buffers_of is not None:
        for buffer, new in zip(changed.buffers(), buffers_of.buffers(), strict=True):
            buffer.copy_(new)
    return changed.state_dict()
