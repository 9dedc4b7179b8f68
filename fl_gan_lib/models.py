"""The two networks of the attack."""

from __future__ import annotations

import torch
from torch import nn

NUM_OUTPUTS = 11
FAKE_LABEL = 10
LATENT_DIM = 100


class Classifier(nn.Sequential):
    """The model that the federation trains, and that the attacker uses as its discriminator.

    A small convolutional network for images of shape (N, 1, 28, 28) in [-1, 1]; returns logits of shape (N, 11): ten
    digits, and the extra class "fake" (`FAKE_LABEL`) of Hitaj et al. 2017. The saturating tanh and the
    max-pooling matter: strided or leaky discriminators leave checkerboards in what the attacker draws.

    The published order is tanh, then max-pool. As tanh is increasing, the two commute, and pooling first
    spares three quarters of the tanh evaluations.
    """

    def __init__(self) -> None:
        super().__init__(
            nn.Conv2d(1, 32, kernel_size=5),  # (N, 32, 24, 24)
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Conv2d(32, 64, kernel_size=5),  # (N, 64, 8, 8)
            nn.MaxPool2d(2),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 128),
            nn.Tanh(),
            nn.Linear(128, NUM_OUTPUTS),
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
            nn.ConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),  # (N, 1, 28, 28)
            nn.Tanh(),
        )
        self.to(memory_format=torch.channels_last)
