"""What the server can do: other ways to make one model of the updates (`federate(..., aggregate=...)`).

These are here to be read. Flower has a median, a trimmed mean and Krum of its own (`flower.rules`). On the same updates
they make the same model, and a test compares them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.federation import Update


@dataclass(frozen=True)
class TrimmedMean:
    """For `aggregate`: of each coordinate leave out the largest and the smallest values (Yin et al. 2018, def. 2).

    The mean of whole numbers (batch norm counts its batches) is rounded.

    Attributes:
        num_clients: how many take part, at least 3.
        num_trimmed: values left out at either end, at least 1; where fewer updates come, as many as leave something.

    Raises:
        ValueError: a setting is no whole number, nothing would be left, or (when called) nothing can be left out, as
            there are fewer than 3 updates.
    """

    num_clients: int
    num_trimmed: int

    def __post_init__(self) -> None:
        num_clients = whole_number(
            "num_clients", self.num_clients, 3, why="(the largest and the smallest are left out)"
        )
        why = f"(at either end, so that something of {num_clients} clients is left)"
        num_trimmed = whole_number("num_trimmed", self.num_trimmed, 1, (num_clients - 1) // 2, why=why)
        object.__setattr__(self, "num_clients", num_clients)
        object.__setattr__(self, "num_trimmed", num_trimmed)

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if len(updates) < 3:
            raise ValueError(f"{len(updates)} updates can be used: a trimmed mean needs at least 3")
        num_trimmed = min(self.num_trimmed, (len(updates) - 1) // 2)
        kept = slice(num_trimmed, len(updates) - num_trimmed)
        return {name: _mean(stack.sort(0).values[kept]) for name, stack in _stack(updates).items()}


def coordinate_median(num_clients: int) -> TrimmedMean:
    """For `aggregate`: the median of each coordinate (Yin et al. 2018, def. 1): all but one or two values trimmed.

    Raises:
        ValueError: it is no whole number, or there are fewer than three clients.
    """
    num_clients = whole_number("num_clients", num_clients, 3, why="(of two, the median is the mean)")
    return TrimmedMean(num_clients, (num_clients - 1) // 2)


@dataclass(frozen=True)
class Krum:
    """For `aggregate`: the one update that lies nearest to its neighbours (Blanchard et al. 2017, section 4).

    Whole numbers (batch norm counts its batches) are no part of the distance.

    Attributes:
        num_clients: how many take part, n.
        num_malicious: how many of them may be hostile, f; n must be at least 2 f + 3.

    Raises:
        ValueError: a setting is no whole number, the clients are too few, or (when called) those whose updates can be
            used are.
    """

    num_clients: int
    num_malicious: int

    def __post_init__(self) -> None:
        num_malicious = whole_number("num_malicious", self.num_malicious, 1, why="(for none, take fedavg)")
        why = f"(twice the {num_malicious} of num_malicious, and 3)"
        num_clients = whole_number("num_clients", self.num_clients, 2 * num_malicious + 3, why=why)
        object.__setattr__(self, "num_malicious", num_malicious)
        object.__setattr__(self, "num_clients", num_clients)

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if len(updates) < 2 * self.num_malicious + 3:
            raise ValueError(
                f"{len(updates)} updates can be used: Krum against {self.num_malicious} hostile clients needs at least "
                f"{2 * self.num_malicious + 3}"
            )
        stacks = _stack(updates)
        # A counter would outweigh all weights, as it differs by whole numbers.
        flat = torch.cat(
            [stack.reshape(len(stack), -1) for stack in stacks.values() if stack.is_floating_point()], dim=1
        )
        # From each to its n - f - 2 nearest; the nearest of all is itself.
        # By the quicker way, of products of matrices, huge weights make NaN, which then counts as the least.
        distances = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        nearest = distances.square().sort(1).values[:, 1 : len(updates) - self.num_malicious - 1]
        chosen = nearest.sum(1).argmin()
        return {name: stack[chosen] for name, stack in stacks.items()}


def _stack(updates: Sequence[Update]) -> dict[str, Tensor]:
    """Each tensor of all updates."""
    states = [update.state for update in updates]
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def _mean(stack: Tensor) -> Tensor:
    if stack.is_floating_point():
        return stack.mean(0)
    # On the CPU, as not every device has float64; in fewer bits a large number would not be kept.
    return stack.cpu().double().mean(0).round().to(stack)
