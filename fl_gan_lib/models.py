"""The two networks of the attack."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NUM_OUTPUTS = 11
FAKE_LABEL = 10
LATENT_DIM = 100


class PixelConv2d(nn.Conv2d):
    """`nn.Conv2d` for grey pictures (one input channel, no padding, stride 1), as a matrix product.

    The same function with the same parameters. The gradient with respect to the *pixels*, which a generator lives on,
    takes PyTorch's CPU kernels about ten times the forward pass where there is one input channel; this way twice.
    """

    def forward(self, images: Tensor) -> Tensor:
        patches = F.unfold(images, self.kernel_size).transpose(1, 2)
        height, width = (size - kernel + 1 for size, kernel in zip(images.shape[2:], self.kernel_size, strict=True))
        return F.linear(patches, self.weight.flatten(1), self.bias).unflatten(1, (height, width)).permute(0, 3, 1, 2)


class PixelConvTranspose2d(nn.ConvTranspose2d):
    """`nn.ConvTranspose2d` onto grey pictures (one output channel, doubling the size), as a matrix product."""

    def forward(self, features: Tensor) -> Tensor:
        patches = F.linear(features.permute(0, 2, 3, 1).flatten(1, 2), self.weight.flatten(1).t())
        size = [2 * side for side in features.shape[2:]]
        pixels = F.fold(patches.transpose(1, 2), size, self.kernel_size, padding=self.padding, stride=self.stride)
        return pixels + self.bias[:, None, None]


class Classifier(nn.Sequential):
    """The model that the federation trains, and that the attacker uses as its discriminator.

    A small convolutional network for images of shape (N, 1, 28, 28) in [-1, 1]; returns logits of shape (N, 11): ten
    digits, and the extra class "fake" (`FAKE_LABEL`) of Hitaj et al. 2017. The saturating tanh and the
    max-pooling matter: strided or leaky discriminators leave checkerboards in what the attacker draws.

    The published order is tanh, then max-pool. As tanh is increasing, the two commute, and pooling first
    spares three quarters of the tanh evaluations.

    Args:
        num_outputs: 11, or 10 for a federation that has no spare output.
    """

    def __init__(self, num_outputs: int = NUM_OUTPUTS) -> None:
        super().__init__(
            PixelConv2d(1, 32, kernel_size=5),  # (N, 32, 24, 24)
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Conv2d(32, 64, kernel_size=5),  # (N, 64, 8, 8)
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.Tanh(),
            nn.Linear(128, num_outputs),
        )
        # Channels last is about twice as fast on a CPU, and only a layout: shapes and values stay the same.
        self.to(memory_format=torch.channels_last)


class Generator(nn.Sequential):
    """Draws images of shape (N, 1, 28, 28) in [-1, 1] from latent vectors of shape (N, 100), standard normal.

    A DCGAN (Radford et al. 2016, section 3) cut down to two transposed convolutions.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Linear(LATENT_DIM, 64 * 7 * 7),
            nn.BatchNorm1d(64 * 7 * 7),
            nn.ReLU(),
            nn.Unflatten(1, (64, 7, 7)),
            nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1),  # (N, 32, 14, 14)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            PixelConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),  # (N, 1, 28, 28)
            nn.Tanh(),
        )
        self.to(memory_format=torch.channels_last)
