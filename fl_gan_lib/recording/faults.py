"""What can go wrong in a client's turn: which updates cannot be used, and how the rest of the round goes on."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.models import BATCH_SIZE, LATENT_DIM, AveragedGenerator

if TYPE_CHECKING:
    from fl_gan_lib.federation import Update

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


def check_update(update: Update, state: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that says what is wrong, unless `update` can go into a global model of that `state`.

    It must have the same names, shapes, types, layouts and devices, no NaN or infinity, and claim 1 to `MAX_EXAMPLES`
    examples.
    """
    claimed = update.num_examples
    if isinstance(claimed, bool) or not isinstance(claimed, Integral) or not 1 <= claimed <= MAX_EXAMPLES:
        raise ValueError(f"it claims {claimed!r} examples, and must claim a whole number from 1 to {MAX_EXAMPLES:,}")
    if wrong := differing_names(update.state, state):
        raise ValueError(f"it differs from the global model in the names, shapes, types, layouts or devices of {wrong}")
    # The sum raises the suspicion in a fifth of the time; that of large numbers may be wrong.
    suspects = {name: tensor for name, tensor in update.state.items() if not tensor.sum().isfinite()}
    if wrong := [name for name, tensor in suspects.items() if not tensor.isfinite().all()]:
        raise ValueError(f"there is NaN or infinity in {wrong}")


def check_state(state: Any, old: Mapping[str, Tensor], round: int) -> Mapping[str, Tensor]:
    """What `aggregate` has returned; raises a ValueError unless it can take the place of the `old` global state."""
    shapes, old_shapes = (
        {name: getattr(tensor, "shape", None) for name, tensor in each.items()} if isinstance(each, Mapping) else {}
        for each in (state, old)
    )
    wrong = ""
    if not isinstance(state, Mapping) or None in shapes.values():
        wrong = f"is of type {type(state).__name__}, and must be a state: tensors by name"
    elif names := sorted(name for name in shapes | old_shapes if shapes.get(name) != old_shapes.get(name)):
        wrong = f"differs from the global model in the names or shapes of {names}"
    elif names := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        wrong = f"has NaN or infinity in {names}"
    if wrong:
        raise ValueError(f"round {round}: what aggregate returned {wrong}. The model is as after round {round - 1}")
    return state


@torch.no_grad()
def check_images(model: nn.Module, dataset: ImageDataset, batch_size: int) -> int:
    """How many outputs `model` has for the images of `dataset`; raises a ValueError if it cannot take them."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    images = dataset.images[: min(2, batch_size)].to(device)
    probe = copy.deepcopy(model).train()  # as it will be trained: batch norm refuses a single image
    try:
        with torch.random.fork_rng():
            logits = probe(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"the model cannot take images of shape {tuple(images.shape)} ({error})") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model makes {shape} of {len(images)} images: it must return logits, (N, number of outputs)"
        )
    return logits.shape[1]


def check_generator(generator: AveragedGenerator, side: int) -> None:
    """Raise a ValueError unless it draws images of that side, (N, 1, side, side) in [-1, 1]."""
    try:
        with torch.random.fork_rng():
            model = copy.deepcopy(generator.model)
            fakes = model(torch.randn(BATCH_SIZE, LATENT_DIM)).detach()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(
            f"the generator cannot take latent vectors of shape {(BATCH_SIZE, LATENT_DIM)} ({error})"
        ) from error
    shape = (BATCH_SIZE, 1, side, side)
    if fakes.shape != shape or not fakes.abs().max() <= 1:
        raise ValueError(
            f"the generator draws images of shape {tuple(fakes.shape)} with values from {fakes.min():g} to "
            f"{fakes.max():g}: they must be of shape {shape}, with values in [-1, 1] (end it with tanh)"
        )


def check_outputs(num_outputs: int, labels: Tensor, name: str) -> None:
    """Raise a ValueError unless the model has an output for each of the labels."""
    largest = int(labels.max())
    if largest >= num_outputs:
        raise ValueError(
            f"there is the {name} {largest}, and the model has {num_outputs} outputs, 0 to {num_outputs - 1}: give it "
            f"{largest + 1}"
        )


def differing_names(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """The names that only one of them has, or under which all but the numbers is not the same."""
    found, wanted = (
        {name: (tensor.shape, tensor.dtype, tensor.layout, tensor.device) for name, tensor in each.items()}
        for each in (state, expected)
    )
    return sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
