"""Attackers that know which defence they face (notebook 06)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import real_number, whole_number
from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.defences import ErrorFeedbackClient, KeyedClient
from fl_gan_lib.defences.clients import distort
from fl_gan_lib.federation import Client, Update, change_between, plus_change


class AveragingAttacker(GANAttacker):
    """Against noise in the updates: the generator trains against a running average of the models that were received.

    An average has less of the noise of each round. It also lags behind the model that the victim has taught last.

    Args:
        args, options: as for `GANAttacker`.
        weight: of the newest model in the average, above 0 and at most 1; 1 is no average.
    """

    def __init__(self, *args: Any, weight: float = 0.5, **options: Any) -> None:
        super().__init__(*args, **options)
        self.weight = real_number("weight", weight, above=0, most=1)
        self.average: nn.Module | None = None

    @torch.no_grad()
    def receive(self, global_model: nn.Module) -> nn.Module:
        received = super().receive(global_model)
        if self.average is None:
            self.average = copy.deepcopy(received).eval().requires_grad_(False)
        for mean, new in zip(self.average.parameters(), received.parameters(), strict=True):
            mean.lerp_(new, self.weight)
        return received

    def make_discriminator(self, received: nn.Module) -> nn.Module:
        return self.average

    def lasting_parts(self) -> dict[str, Any]:
        return super().lasting_parts() | ({} if self.average is None else {"average": self.average})


class UnhurriedAttacker(GANAttacker):
    """Against a short federation: an attacker that plans for a longer one, and is cut off.

    So it injects to the last round, and its generator's learning rate hardly falls.

    Args:
        args, options: as for `GANAttacker`.
        num_rounds: of the federation.
        longer: how many times as many rounds it plans for, at least 1.
    """

    def __init__(self, *args: Any, num_rounds: int, longer: int = 5, **options: Any) -> None:
        super().__init__(*args, num_rounds=num_rounds * whole_number("longer", longer, 1), **options)


class DistortingAttacker(GANAttacker):
    """Against augmentation: the generator's pictures are distorted as the victim's are, before anybody sees them.

    So the generator itself need not draw what is distorted (AmbientGAN, Bora et al. 2018). Arguments are those of
    `GANAttacker`.
    """

    def make_discriminator(self, received: nn.Module) -> nn.Module:
        return nn.Sequential(_Distort(), super().make_discriminator(received))

    def mix_in_fakes(self) -> ImageDataset:
        mixed = super().mix_in_fakes()
        mixed.images[mixed.labels == self.fake_label] = distort(mixed.images[mixed.labels == self.fake_label])
        return mixed


class _Distort(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return distort(images)


@dataclass(frozen=True)
class Scale:
    """For `Client.protect`, against a median or a trimmed mean: send the change many times as large.

    Such a rule bounds what one client can do to each number of the model. A large change makes use of all of it.

    Attributes:
        factor: above 0.

    Raises:
        ValueError: the factor is out of range.
    """

    factor: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "factor", real_number("factor", self.factor, above=0))

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        return [self.factor * tensor for tensor in change]


class BlendingAttacker(GANAttacker):
    """Against a server that compares updates: each number of the update stays where those of honest clients lie.

    The attacker trains as honest clients would, a few times over, on its own images. Where a number of what it wants to
    send lies farther from the mean of these honest changes than `width` standard deviations, it is moved that near
    (Baruch et al. 2019, *A Little Is Enough*). The doubles train on the same images, so their spread is
    smaller than that of other clients.

    Args:
        dataset, args, options: as for `GANAttacker`, without `protect`.
        width: in standard deviations, 0 or above.
        num_doubles: how many honest clients it plays at home, at least 2.
    """

    def __init__(
        self, dataset: ImageDataset, *args: Any, width: float = 2.0, num_doubles: int = 3, **options: Any
    ) -> None:
        super().__init__(dataset, *args, **options)
        self.width = real_number("width", width, least=0)
        honest = {"local_steps": self.local_steps, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        self.doubles = [Client(dataset, **honest) for _ in range(whole_number("num_doubles", num_doubles, 2))]

    def receive(self, global_model: nn.Module) -> nn.Module:
        for double in self.doubles:
            double.receive(global_model)
        return super().receive(global_model)

    def make_update(self, global_model: nn.Module, num_examples: int, loss: float) -> Update:
        for double in self.doubles:
            double.train_locally(double.dataset)
        honest = [change_between(global_model, double.model) for double in self.doubles]
        change = []
        for wanted, *others in zip(change_between(global_model, self.model), *honest, strict=True):
            mean, width = torch.stack(others).mean(0), self.width * torch.stack(others).std(0)
            change.append(wanted.clamp(mean - width, mean + width))
        return Update(plus_change(global_model, change, buffers_of=self.model), num_examples, {"loss": loss})

    def lasting_parts(self) -> dict[str, Any]:
        parts = super().lasting_parts()
        for number, double in enumerate(self.doubles):
            parts |= {f"double {number}.{name}": part for name, part in double.lasting_parts().items()}
        return parts


class PatientAttacker(GANAttacker):
    """Against a server that remembers: an attacker that does not inject in every round.

    Args:
        args, options: as for `GANAttacker`.
        first_round: in the rounds before, it does not inject; at least 1.
        every: it injects in those rounds that this number divides; at least 1.
    """

    def __init__(self, *args: Any, first_round: int = 1, every: int = 1, **options: Any) -> None:
        super().__init__(*args, **options)
        self.first_round, self.every = whole_number("first_round", first_round, 1), whole_number("every", every, 1)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        self.inject = round >= self.first_round and round % self.every == 0
        return super().fit(global_model, round)


class ErrorFeedbackAttacker(ErrorFeedbackClient, GANAttacker):
    """An attacker that sends as little as the others, and later what it held back. Arguments are those of both."""


class KeyedAttacker(KeyedClient, GANAttacker):
    """An attacker on a `KeyedClassifier` that does not know the key of its target.

    It makes up a key, and trains its generator towards it, and away from the keys that it knows.

    Args:
        args, options: as for `GANAttacker`.
        learning: in each round the made-up key is replaced by the mean direction of its latest fakes: the attacker
            follows wherever they lead.
        knowing: the attacker has the true key after all: what the secret is worth.
    """

    temperature = 0.1  # of the softmax over cosines, which lie in [-1, 1]

    def __init__(self, *args: Any, learning: bool = False, knowing: bool = False, **options: Any) -> None:
        super().__init__(*args, **options)
        self.learning, self.knowing = learning, knowing

    @torch.no_grad()
    def make_discriminator(self, received: nn.Module) -> nn.Module:
        frozen = super().make_discriminator(received)
        if not self.knowing:
            # In the attacker's own copy: the made-up key takes the place of the true one, which it does not have.
            frozen.keys[:, self.target] = self._made_up_key(frozen)
        frozen.keys /= self.temperature
        return frozen

    def _made_up_key(self, frozen: nn.Module) -> Tensor:
        if not self.learning:
            own = torch.Generator().manual_seed(self.target)
            return F.normalize(torch.randn(len(frozen.keys), generator=own), dim=0)
        return F.normalize(frozen.directions(self.generator.draw(256)).mean(0), dim=0)
