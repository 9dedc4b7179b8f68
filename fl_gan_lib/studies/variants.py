"""Other networks and other attackers, to compare with the attack's own (notebooks 03, 05 and 06)."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import check_side
from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.data import to_uint8
from fl_gan_lib.defences import PartialDownloadClient
from fl_gan_lib.federation import Update
from fl_gan_lib.models import BATCH_SIZE, LATENT_DIM, AveragedGenerator, Classifier, Generator


class StridedClassifier(nn.Sequential):
    """A discriminator as DCGAN advises (Radford et al. 2016): strided convolutions, no pooling, and LeakyReLU.

    Takes and returns what `models.Classifier` does.

    Args:
        num_outputs, side: as for `models.Classifier`.
        leaky: False puts tanh in the place of LeakyReLU, as `models.Classifier` has it.
    """

    def __init__(self, num_outputs: int = 11, *, side: int = 28, leaky: bool = True) -> None:
        quarter = check_side(side) // 4
        super().__init__(  # shapes in the comments are those of 28 x 28
            nn.Conv2d(1, 32, kernel_size=4, stride=2, padding=1),  # (N, 32, 14, 14)
            _activation(leaky),
            nn.Conv2d(32, 64, kernel_size=4, stride=2, padding=1),  # (N, 64, 7, 7)
            _activation(leaky),
            nn.Flatten(),
            nn.Linear(64 * quarter * quarter, 128),
            _activation(leaky),
            nn.Linear(128, num_outputs),
        )


class LeakyClassifier(Classifier):
    """`models.Classifier` with LeakyReLU in the place of tanh; it pools as that does. Arguments are the same."""

    def __init__(self, num_outputs: int = 11, *, side: int = 28) -> None:
        super().__init__(num_outputs, side=side)
        for place, layer in enumerate(self):
            if isinstance(layer, nn.Tanh):
                self[place] = _activation(leaky=True)


def _activation(leaky: bool) -> nn.Module:
    return nn.LeakyReLU(0.2) if leaky else nn.Tanh()


class MLPGenerator(nn.Sequential):
    """A generator without convolutions, four linear layers. Takes and returns what `models.Generator` does.

    Args:
        side: as for `models.Generator`.
    """

    def __init__(self, side: int = 28) -> None:
        super().__init__(
            nn.Linear(LATENT_DIM, 256),
            nn.LeakyReLU(0.2),
            nn.Linear(256, 512),
            nn.LeakyReLU(0.2),
            nn.Linear(512, 1024),
            nn.LeakyReLU(0.2),
            nn.Linear(1024, check_side(side) ** 2),
            nn.Tanh(),
            nn.Unflatten(1, (1, side, side)),
        )


class UnaveragedGenerator(AveragedGenerator):
    """A generator whose pictures are drawn from its weights as they stand, and not from their average."""

    @torch.no_grad()
    def render(self, latents: Tensor) -> np.ndarray:
        return to_uint8(self.model(latents.to(next(self.model.parameters()).device)))


class PlainAttacker(GANAttacker):
    """The attacker that notebook 03 builds by hand, to which what the library adds is added one by one.

    Args:
        averaged: the pictures are drawn from the average of the generator's weights.
        falling: the learning rate falls over the rounds.
    """

    def __init__(self, *args: Any, averaged: bool = False, falling: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.active_rounds = options["num_rounds"]
        # Over so many steps, a rate that falls stays as it is.
        total_steps = self.active_rounds * self.generator_steps if falling else 10**9
        kind = AveragedGenerator if averaged else UnaveragedGenerator
        self.generator = kind(total_steps, make_model=partial(Generator, self.dataset.side))


class PriorAttacker(GANAttacker):
    """An attacker that first teaches its generator to draw: images of its own, as an ordinary GAN.

    In the first round, before anything else, the generator takes `prior_steps` steps against a discriminator that the
    attacker trains at home on its own images. Arguments are otherwise those of `GANAttacker`.
    """

    prior_steps = 300

    def fit(self, global_model: nn.Module, round: int) -> Update:
        if round == 1:
            self._learn_to_draw(copy.deepcopy(global_model))
        return super().fit(global_model, round)

    def _learn_to_draw(self, discriminator: nn.Module) -> None:
        device = next(discriminator.parameters()).device
        own, generator = self.dataset.to(device), self.generator.model.to(device)
        both = [
            torch.optim.Adam(network.parameters(), lr=1e-3, betas=(0.5, 0.999))
            for network in (generator, discriminator)
        ]
        for _ in range(self.prior_steps):
            fakes = generator(torch.randn(BATCH_SIZE, LATENT_DIM, device=device))
            _step(both[0], -_log_real(discriminator(fakes), self.fake_label))
            batch = torch.randint(len(own), (BATCH_SIZE,))
            images = torch.cat([own.images[batch], fakes.detach()])
            labels = torch.cat([own.labels[batch], torch.full((BATCH_SIZE,), self.fake_label, device=device)])
            _step(both[1], F.cross_entropy(discriminator(images), labels))


class PartialDownloadAttacker(PartialDownloadClient, GANAttacker):
    """An attacker that downloads as little as the others. Arguments are those of both."""


class HedgingAttacker(GANAttacker):
    """An attacker that calls every other of its injected fakes the target, and the rest what it calls them otherwise.

    So the global model still classifies the target correctly while the attack runs. The attack is harder to notice, and
    slower. Arguments are those of `GANAttacker`.
    """

    def label_fakes(self, num_fakes: int) -> Tensor:
        labels = super().label_fakes(num_fakes)
        labels[::2] = self.target
        return labels


def _log_real(logits: Tensor, fake_label: int) -> Tensor:
    """Mean log-probability of any class but the one that fakes are called."""
    others = [label for label in range(logits.shape[1]) if label != fake_label]
    return (logits[:, others].logsumexp(1) - logits.logsumexp(1)).mean()


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
