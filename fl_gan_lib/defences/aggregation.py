"""What the server can do: other ways to make one model of the updates (`federate(..., aggregate=...)`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fl_gan_lib.federation import Update


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

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _stack(updates: Sequence[Update]) -> tuple[int, dict[str, Tensor]]:
    """How many updates there are, and each tensor of all of them."""
    states = [update.state for update in updates]
    return len(states), {name: torch.stack([state[name] for state in states]) for name in states[0]}
