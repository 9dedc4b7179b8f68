"""Sharing less: a client uploads or downloads only some of the numbers, or uploads them in fewer bits."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fl_gan_lib.arguments import real_number, whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, Update, change_between, plus_change


@dataclass(frozen=True)
class KeepLargest:
    """For `Client.protect`: send the numbers that training changed most; the server keeps its own for the others.

    This is the selective upload of Shokri and Shmatikov (2015, section 5).

    Attributes:
        fraction: the share of the numbers that are sent, over all parameters, above 0 and at most 1 (their theta_u).

    Raises:
        ValueError: the fraction is out of range.
    """

    fraction: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "fraction", _fraction("fraction", self.fraction))

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        sizes = torch.cat([tensor.flatten() for tensor in change]).abs()
        smallest_kept = sizes.topk(max(1, round(self.fraction * len(sizes)))).values[-1]
        return [tensor.where(tensor.abs() >= smallest_kept, 0) for tensor in change]


class PartialDownloadClient(Client):
    """A client that takes over only the parameters of the global model that differ most from its own.

    This is the selective download of Shokri and Shmatikov (2015, section 5). The first model is taken over whole. The
    client adds what it has learned to the *global* model, of which it has not seen everything. Buffers, such as the
    statistics of batch norm, are no parameters: they are taken over whole, and sent whole.

    Args:
        args, client_options: as for `Client`, or for the other kind of client that a subclass is made with.
        download_fraction: the share of the parameters, above 0 and at most 1 (their theta_d).
        protect: as for `Client`.

    Raises:
        ValueError: the fraction is out of range.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *args: Any,
        download_fraction: float,
        protect: Callable[[list[Tensor]], list[Tensor]] | None = None,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, *args, protect=protect, **client_options)
        self.download = KeepLargest(_fraction("download_fraction", download_fraction))
        self._received: nn.Module | None = None

    def receive(self, global_model: nn.Module) -> nn.Module:
        if self.model is None or self.download.fraction == 1:
            super().receive(global_model)
        else:
            missed = change_between(self.model, global_model)
            self.model.load_state_dict(plus_change(self.model, self.download(missed), buffers_of=global_model))
        self._received = copy.deepcopy(self.model)
        return self.model

    def make_update(self, global_model: nn.Module, num_examples: int, loss: float) -> Update:
        change = change_between(self._received, self.model)
        sent = self.protect(change) if self.protect else change
        state = plus_change(global_model, sent, buffers_of=self.model)
        return Update(state, num_examples, {"loss": loss})


class ErrorFeedbackClient(Client):
    """A client that sends the largest part of its change, and adds the rest to its change of the next round.

    So nothing is lost, only late (Stich, Cordonnier and Jaggi 2018, *Sparsified SGD with Memory*).

    Args:
        args, client_options: as for `Client`, or for the other kind of client that a subclass is made with.
        fraction: the share of the numbers that are sent, above 0 and at most 1.

    Raises:
        ValueError: the fraction is out of range.
    """

    def __init__(self, dataset: ImageDataset, *args: Any, fraction: float, **client_options: Any) -> None:
        super().__init__(dataset, *args, protect=Remainder(KeepLargest(fraction)), **client_options)

    def lasting_parts(self) -> dict[str, Any]:
        return super().lasting_parts() | {"remainder": self.protect}


class Remainder:
    """For the `protect` of *one* client: what it holds back of a change is added to the next.

    Args:
        compress: what would otherwise be the client's `protect`.
    """

    def __init__(self, compress: Callable[[list[Tensor]], list[Tensor]]) -> None:
        self.compress = compress
        self.unsent: list[Tensor] = []

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        if self.unsent:
            change = [new + old.to(new.device) for new, old in zip(change, self.unsent, strict=True)]
        sent = self.compress(change)
        self.unsent = [whole - part for whole, part in zip(change, sent, strict=True)]
        return sent

    def state_dict(self) -> dict[str, Any]:
        return {"unsent": self.unsent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.unsent = state["unsent"]


@dataclass(frozen=True)
class Quantise:
    """For `Client.protect`: send each number in a few bits, rounded up or down at random so that the mean stays.

    A scale for each tensor, and 2^(bits-1) - 1 steps on either side of zero (QSGD, Alistarh et al. 2017, section 3.1,
    with the largest entry for the scale); 2 bits leave a sign and a zero (TernGrad, Wen et al. 2017).

    Attributes:
        bits: of a number, from 2 to 32.

    Raises:
        ValueError: the bits are too few, or more than a number has anyway.
    """

    bits: int

    def __post_init__(self) -> None:
        why = "(a sign and a zero need 2, and a number has 32 anyway)"
        object.__setattr__(self, "bits", whole_number("bits", self.bits, 2, 32, why=why))

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        steps = 2 ** (self.bits - 1) - 1
        # Never 0, which many steps would make of a small scale: 0 / 0 is NaN.
        scales = [(tensor.abs().max() / steps).clamp(min=torch.finfo(tensor.dtype).tiny) for tensor in change]
        return [
            (tensor / scale + torch.rand_like(tensor)).floor() * scale
            for tensor, scale in zip(change, scales, strict=True)
        ]


def _fraction(name: str, value: float) -> float:
    return real_number(name, value, above=0, most=1, why="(everything)")
