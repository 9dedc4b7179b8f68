"""The two networks of the attack, and how the generator is trained and averaged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel

from fl_gan_lib.arguments import check_side, whole_number
from fl_gan_lib.data import to_uint8
from fl_gan_lib.layers import PixelConv2d, PixelConvTranspose2d

LATENT_DIM = 100
SMALL, LARGE = 28, 48  # sides of images: the networks are wider above the first, and deeper from the second on
BATCH_SIZE = 32  # of the generator's steps


class Classifier(nn.Sequential):
    """The model that the federation trains, and that the attacker uses as its discriminator.

    A small convolutional network for images of shape (N, 1, S, S) in [-1, 1]; returns logits of shape (N, num_outputs):
    one for each class, and one for the extra class "fake" of Hitaj et al. 2017, the last. The saturating tanh and the
    max-pooling matter: strided or leaky discriminators leave checkerboards in what the attacker draws.

    The published order is tanh, then max-pool. As tanh is increasing, the two commute, and pooling first
    spares three quarters of the tanh evaluations.

    Args:
        num_outputs: the number of classes, and one more; or without the one, for a federation that has no spare output.
        side: S, of the images, a multiple of 4 from 16 to 64. From 48 on there is a third convolution.
    """

    def __init__(self, num_outputs: int = 11, *, side: int = 28) -> None:
        num_outputs, side = whole_number("num_outputs", num_outputs, 2), check_side(side)
        left = ((side - 4) // 2 - 4) // 2  # side of what the two convolutions leave of an image
        layers = [  # shapes in the comments are those of 28 x 28 and eleven outputs: (N, 1, 28, 28)
            PixelConv2d(1, 32, kernel_size=5),  # (N, 32, 24, 24)
            nn.MaxPool2d(2),  # (N, 32, 12, 12)
            nn.Tanh(),
            nn.Conv2d(32, 64, kernel_size=5),  # (N, 64, 8, 8)
            nn.MaxPool2d(2),  # (N, 64, 4, 4)
            nn.Tanh(),
        ]
        channels = 64
        if side >= LARGE:
            layers += [nn.Conv2d(64, 128, kernel_size=5, padding=2), nn.MaxPool2d(2), nn.Tanh()]
            left, channels = left // 2, 128
        width = 128 if side <= SMALL else 256
        super().__init__(
            *layers,
            nn.Flatten(),  # (N, 1024)
            nn.Linear(channels * left * left, width),  # (N, 128)
            nn.Tanh(),
            nn.Linear(width, num_outputs),  # (N, 11)
        )
        # Only a layout, shapes and values stay the same; no slower than the other one (notebooks/pages/speed.md).
        self.to(memory_format=torch.channels_last)


class Generator(nn.Sequential):
    """Draws images of shape (N, 1, S, S) in [-1, 1] from latent vectors of shape (N, 100), standard normal.

    A DCGAN (Radford et al. 2016, section 3) cut down to two transposed convolutions, which double the side.

    Args:
        side: S, of the images, a multiple of 4 from 16 to 64. From 48 on there is a third transposed convolution.
    """

    def __init__(self, side: int = 28) -> None:
        channels, start = 64 if check_side(side) <= SMALL else 128, side // 4
        layers = []  # shapes in the comments are those of 28 x 28: (N, 100)
        if side >= LARGE:
            # Twice the side; or one less, where a quarter of the side is odd.
            odd, start = start % 2, (start + 1) // 2
            layers = [
                nn.ConvTranspose2d(128, 64, kernel_size=4 - odd, stride=2, padding=1),
                nn.BatchNorm2d(64),
                nn.ReLU(),
            ]
        wide = 64 if layers else channels
        super().__init__(
            nn.Linear(LATENT_DIM, channels * start * start),  # (N, 3136)
            nn.BatchNorm1d(channels * start * start),
            nn.ReLU(),
            nn.Unflatten(1, (channels, start, start)),  # (N, 64, 7, 7)
            *layers,
            nn.ConvTranspose2d(wide, wide // 2, kernel_size=4, stride=2, padding=1),  # (N, 32, 14, 14)
            nn.BatchNorm2d(wide // 2),
            nn.ReLU(),
            PixelConvTranspose2d(wide // 2, 1, kernel_size=4, stride=2, padding=1),  # (N, 1, 28, 28)
            nn.Tanh(),
        )
        self.to(memory_format=torch.channels_last)


class AveragedGenerator:
    """A generator with its optimiser, and the running average of its weights that the pictures are drawn from.

    Each step moves the average by 0.5 %, at first by more, and the learning rate falls to almost nothing. Both keep the
    last rounds from swinging, as a GAN does otherwise. They need to know only how many steps there will be.

    Args:
        total_steps: over which the learning rate falls.
        learning_rate: of Adam, with the betas of DCGAN (0.5, 0.999).
        make_model: makes a network that takes latent vectors (N, 100) to images (N, 1, S, S) in [-1, 1].
    """

    def __init__(
        self, total_steps: int, *, learning_rate: float = 1e-3, make_model: Callable[[], nn.Module] = Generator
    ) -> None:
        self.model = make_model()
        self.average = AveragedModel(self.model, multi_avg_fn=_move_average, use_buffers=True)
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate, betas=(0.5, 0.999))
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._optimizer, 1.0, 0.03, total_iters=total_steps)

    def step(self, discriminator: nn.Module, target: int) -> None:
        """One step that makes `discriminator`, on the same device (`to`), classify the fakes as `target`."""
        device = next(discriminator.parameters()).device
        logits = discriminator(self.model(torch.randn(BATCH_SIZE, LATENT_DIM, device=device)))
        loss = F.cross_entropy(logits, torch.full((BATCH_SIZE,), target, device=device))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.average.update_parameters(self.model)

    def to(self, device: torch.device) -> None:
        """Move the networks, before the first step or before a state is loaded: Adam's moments are not moved."""
        self.model.to(device), self.average.to(device)

    def lasting_parts(self) -> dict[str, Any]:
        """All that the next step depends on: by name, whatever has a `state_dict` (see `recording.states`)."""
        return {"model": self.model, "average": self.average, "optimizer": self._optimizer, "schedule": self._schedule}

    @torch.no_grad()
    def draw(self, num_images: int) -> Tensor:
        """Fakes of the generator as it stands: (num_images, 1, S, S) in [-1, 1]."""
        # At least a mini-batch: the statistics of batch norm in training mode need one.
        latents = torch.randn(max(num_images, BATCH_SIZE), LATENT_DIM, device=next(self.model.parameters()).device)
        return self.model(latents)[:num_images]

    @torch.no_grad()
    def render(self, latents: Tensor) -> np.ndarray:
        """What the averaged generator draws from `latents` (N, 100): uint8 of shape (N, S, S)."""
        self.average.eval()
        return to_uint8(self.average(latents.to(next(self.average.parameters()).device)))


@torch.no_grad()
def _move_average(means: list[Tensor], new: list[Tensor], steps: Tensor) -> None:
    """The running average of `AveragedGenerator`, on all tensors of one type at once."""
    if means[0].is_floating_point():
        difference = torch._foreach_sub(new, means)
        torch._foreach_mul_(difference, max(0.005, 9 / (10 + float(steps))))
        torch._foreach_add_(means, difference)
    else:
        torch._foreach_copy_(means, new)
