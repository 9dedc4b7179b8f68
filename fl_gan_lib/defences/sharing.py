"""Sharing less: what a client leaves of the change of its weights before it sends it (`Client.protect`)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
