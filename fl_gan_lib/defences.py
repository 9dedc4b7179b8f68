"""What a client, the participants together, or the server can do about the attack (notebook 06).

A defence of a client is a `Client` of another kind, or what it does to the change of its weights before it sends them
(`Client.protect`). A defence of the server is another way to aggregate (`federate(..., aggregate=...)`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import ImageDataset, torchvision_that_fits
from fl_gan_lib.federation import Client, Update


class WithholdingClient(Client):
    """A client that trains on its images of one digit in every n-th round only, or never.

    Args:
        dataset: the client's own images.
        digit: which it withholds.
        every: in which rounds it does not: those that it divides; None for never.
        client_options: as for `Client`.

    Raises:
        ValueError: `every` is less than 1, or the client has no other images.
    """

    def __init__(self, dataset: ImageDataset, digit: int, *, every: int | None = None, **client_options: Any) -> None:
        super().__init__(dataset, **client_options)
        if every is not None and every < 1:
            raise ValueError(f"every is {every}: it must be at least 1, or None for never")
        if (dataset.labels == digit).all():
            raise ValueError(f"the client has nothing but images of {digit}: without them there is nothing to train on")
        self.digit = digit
        self.every = every

    def fit(self, global_model: nn.Module, round: int) -> Update:
        self._shown = self.every is not None and round % self.every == 0
        return super().fit(global_model, round)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        kept = torch.ones_like(labels, dtype=torch.bool) if self._shown else labels != self.digit
        return super()._step(images[kept], labels[kept])


class AugmentingClient(Client):
    """A client that never shows an image as it is: each is rotated, moved, scaled and sheared at random, every time.

    Up to 20 degrees, a tenth of the side, 20 % and 15 degrees. Arguments are those of `Client`.
    """

    def _step(self, images: Tensor, labels: Tensor) -> float:
        with torchvision_that_fits():
            from torchvision.transforms.v2 import RandomAffine

        change = RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=15, fill=-1)
        picked = torch.randperm(len(labels))[: self.local_steps * self.batch_size]
        return super()._step(torch.stack([change(image) for image in images[picked]]), labels[picked])


class DropoutClient(Client):
    """A client that drops half of the inputs of each linear layer in its local training (Srivastava et al. 2014).

    Arguments are those of `Client`.
    """

    def _receive(self, global_model: nn.Module) -> nn.Module:
        first = self._model is None
        model = super()._receive(global_model)
        if first:
            for layer in model.modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_pre_hook(lambda layer, inputs: F.dropout(*inputs, 0.5, layer.training))
        return model


@dataclass(frozen=True)
class Quantise:
    """For `Client.protect`: send each number in a few bits, rounded up or down at random so that the mean stays.

    A scale for each tensor, and 2^(bits-1) - 1 steps on either side of zero (QSGD, Alistarh et al. 2017, section 3.1,
    with the largest entry for the scale); 2 bits leave a sign and a zero (TernGrad, Wen et al. 2017).

    Attributes:
        bits: a number, at least 2.

    Raises:
        ValueError: the bits are too few.
    """

    bits: int

    def __post_init__(self) -> None:
        if self.bits < 2:
            raise ValueError(f"bits is {self.bits}: it must be at least 2, for a sign and a zero")

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        steps = 2 ** (self.bits - 1) - 1
        scales = [tensor.abs().max().clamp(min=torch.finfo(tensor.dtype).tiny) / steps for tensor in change]
        return [
            (tensor / scale + torch.rand_like(tensor)).floor() * scale
            for tensor, scale in zip(change, scales, strict=True)
        ]


@dataclass(frozen=True)
class TrimmedMean:
    """For `aggregate`: of each coordinate leave out the largest and the smallest values (Yin et al. 2018, def. 2).

    Attributes:
        num_clients: how many take part.
        num_trimmed: values left out at either end, at least 1; where fewer updates come, as many as leave something.

    Raises:
        ValueError: nothing would be left, or (when called) nothing can be left out, as there are fewer than 3 updates.
    """

    num_clients: int
    num_trimmed: int

    def __post_init__(self) -> None:
        if not 1 <= self.num_trimmed <= (self.num_clients - 1) // 2:
            raise ValueError(
                f"num_trimmed is {self.num_trimmed}: at either end it must be at least 1, and leave something of "
                f"{self.num_clients} clients, so at most {(self.num_clients - 1) // 2}"
            )

    def __call__(self, updates: Iterable[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        num_updates, stacks = _stack(updates)
        if num_updates < 3:
            raise ValueError(f"{num_updates} updates can be used: a trimmed mean needs at least 3")
        num_trimmed = min(self.num_trimmed, (num_updates - 1) // 2)
        kept = slice(num_trimmed, num_updates - num_trimmed)
        return {name: stack.sort(0).values[kept].mean(0) for name, stack in stacks.items()}


def coordinate_median(num_clients: int) -> TrimmedMean:
    """For `aggregate`: the median of each coordinate (Yin et al. 2018, def. 1): all but one or two values trimmed.

    Raises:
        ValueError: there are fewer than three clients.
    """
    return TrimmedMean(num_clients, (num_clients - 1) // 2)


@dataclass(frozen=True)
class Krum:
    """For `aggregate`: the one update that lies nearest to its neighbours (Blanchard et al. 2017, section 4).

    Attributes:
        num_clients: how many take part, n.
        num_malicious: how many of them may be hostile, f; n must be at least 2 f + 3.

    Raises:
        ValueError: the clients are too few, or (when called) those whose updates can be used are.
    """

    num_clients: int
    num_malicious: int

    def __post_init__(self) -> None:
        if self.num_malicious < 1:
            raise ValueError(f"num_malicious is {self.num_malicious}: it must be at least 1")
        self._check_number(self.num_clients)

    def __call__(self, updates: Iterable[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        num_updates, stacks = _stack(updates)
        self._check_number(num_updates)
        flat = torch.cat([stack.flatten(1) for stack in stacks.values()], dim=1)
        # From each to its n - f - 2 nearest; the nearest of all is itself.
        # By the quicker way, of products of matrices, huge weights make NaN, which then counts as the least.
        distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.square().sort(1).values[:, 1 : num_updates - self.num_malicious - 1]
        chosen = nearest.sum(1).argmin()
        return {name: stack[chosen] for name, stack in stacks.items()}

    def _check_number(self, number: int) -> None:
        if number < 2 * self.num_malicious + 3:
            raise ValueError(
                f"Krum against {self.num_malicious} hostile clients needs at least {2 * self.num_malicious + 3} "
                f"clients, and there are {number}"
            )


def _stack(updates: Iterable[Update]) -> tuple[int, dict[str, Tensor]]:
    """How many updates there are, and each tensor of all of them."""
    states = [update.state for update in updates]
    return len(states), {name: torch.stack([state[name] for state in states]) for name in states[0]}
