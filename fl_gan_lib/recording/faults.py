"""What can go wrong in a client's turn: which updates cannot be used, and how the rest of the round goes on."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from fl_gan_lib.federation import Round, Update

# What a client may claim at the most. All of MNIST is 60,000 images; with a weight of a billion, one client would
# decide the average.
MAX_EXAMPLES = 1_000_000


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


def all_left_out(round: int, faults: list[Fault]) -> str:
    """What a `FederationError` says."""
    reasons = [f"client {fault.client}: {fault.reason}" for fault in faults[:5]]
    more = [f"and {len(faults) - 5} more"] * (len(faults) > 5)
    return (
        f"round {round}: no client has sent an update that can be used ({'; '.join(reasons + more)}). "
        f"The global model is as it was after round {round - 1}"
    )


@contextmanager
def tolerated(faults: list[Fault], round: int, client: int) -> Iterator[None]:
    """An error of the client ends its turn only: it becomes a warning, and a `Fault` in `faults`."""
    try:
        yield
    except (Exception, SystemExit) as error:  # a client is somebody else's code
        faults.append(Fault(round, client, str(error) if isinstance(error, ValueError) else repr(error)))
        warnings.warn(f"left out: {faults[-1]}", RuntimeWarning, stacklevel=3)


def stop_at_first_faults(rounds: Iterable[Round]) -> Iterator[Round]:
    """The same rounds; a ValueError if a client was left out of the first, which is a mistake and no accident."""
    for round in rounds:
        if round.number == 1 and round.faults:
            raise ValueError(f"{round.faults[0]}: mend the client, and run it again")
        yield round


def check_update(update: Update, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that says what is wrong, unless `update` can go into a global model of that `state`.

    It must have the same names, shapes, types, layouts and devices, no NaN or infinity, and claim 1 to `MAX_EXAMPLES`
    examples.
    """
    if not hasattr(update, "state") or not hasattr(update, "num_examples"):
        raise ValueError(
            f"fit returned something of type {type(update).__name__}: it must return an Update(state, num_examples)"
        )
    claimed = update.num_examples
    if isinstance(claimed, bool) or not isinstance(claimed, Integral) or not 1 <= claimed <= MAX_EXAMPLES:
        raise ValueError(f"it claims {claimed!r} examples, and must claim a whole number from 1 to {MAX_EXAMPLES:,}")
    if not isinstance(update.state, Mapping) or not all(isinstance(part, Tensor) for part in update.state.values()):
        kinds = {type(part).__name__ for part in update.state.values()} if isinstance(update.state, Mapping) else ()
        what = f"has values of type {', '.join(sorted(kinds))}" if kinds else f"is a {type(update.state).__name__}"
        raise ValueError(f"its state {what}: it must have tensors by name, as `state_dict()` of the model")
    if wrong := differing_names(update.state, state):
        first = wrong[0]
        theirs, ours = (
            f"{each[first].dtype}, {tuple(each[first].shape)}" if first in each else "missing"
            for each in (update.state, state)
        )
        raise ValueError(
            f"it differs from the global model in the names, shapes, types, layouts or devices of {wrong} "
            f"({first}: {theirs} in the update, {ours} in the model)"
        )
    # The sum raises the suspicion in a fifth of the time; that of large numbers may be wrong.
    suspects = {name: tensor for name, tensor in update.state.items() if not tensor.sum().isfinite()}
    if wrong := [name for name, tensor in suspects.items() if not tensor.isfinite().all()]:
        raise ValueError(f"there is NaN or infinity in {wrong}")


def differing_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The names that only one of them has, or under which all but the numbers is not the same."""
    found, wanted = (
        {name: (tensor.shape, tensor.dtype, tensor.layout, tensor.device) for name, tensor in each.items()}
        for each in (state, expected)
    )
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
