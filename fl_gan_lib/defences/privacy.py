"""Differential privacy against the attack: for each image (DP-SGD), and for each participant (notebook 06)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, Update, descend


class PrivateClient(Client):
    """A client that trains with DP-SGD (Abadi et al. 2016, algorithm 1), by Opacus.

    Each step takes a Poisson sample of the images, clips the gradient of each *image*, and adds Gaussian noise to the
    sum. What the client sends over all rounds is (epsilon, delta)-private with respect to one image of its own. Opacus
    runs here without its cryptographic random numbers: good for experiments, not for real secrets. The number of images
    and the mean loss, which a client reports beside its weights, are not covered.

    Args:
        dataset: the client's own images.
        epsilon: the budget for all rounds together, above 0; `math.inf` clips and adds no noise.
        delta: above 0, and below 1 / number of images.
        num_rounds: how many rounds the budget must last.
        max_grad_norm: at which the gradient of each image is clipped, above 0.
        client_options: as for `Client`; the mini-batches are larger than there, and their size is the expected one.

    Attributes:
        noise_multiplier: standard deviation of the noise over `max_grad_norm`.
        sample_rate: the probability with which an image is in a mini-batch.

    Raises:
        ImportError: Opacus is not installed.
        ValueError: a setting is out of range.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        *,
        epsilon: float,
        delta: float = 1e-4,
        num_rounds: int,
        max_grad_norm: float = 1.0,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, **{"batch_size": 128, "local_steps": 4, "learning_rate": 2e-3} | client_options)
        _check_positive(epsilon=epsilon, max_grad_norm=max_grad_norm, num_rounds=num_rounds)
        if not 0 < delta < 1 / len(dataset):
            raise ValueError(
                f"delta is {delta}: it must be above 0 and below 1 / {len(dataset)} (the number of images), or the "
                "promise allows for giving one image away"
            )
        self.num_rounds = num_rounds
        self.max_grad_norm = max_grad_norm
        self.delta = delta
        self.sample_rate = 1 / math.ceil(len(dataset) / self.batch_size)
        self.noise_multiplier = _noise_multiplier(
            epsilon, delta, sample_rate=self.sample_rate, steps=num_rounds * self.local_steps
        )
        with _quiet():
            self._engine = _opacus().PrivacyEngine(accountant="rdp")
        self._private: tuple[nn.Module, torch.optim.Optimizer, DataLoader] | None = None

    @property
    def spent(self) -> float:
        """The epsilon that Opacus's accountant has booked so far, for the client's delta."""
        return float(self._engine.get_epsilon(self.delta)) if len(self._engine.accountant) else 0.0

    def fit(self, global_model: nn.Module, round: int) -> Update:
        if round > self.num_rounds:
            raise ValueError(f"the privacy budget was planned for {self.num_rounds} rounds: plan it for more")
        return super().fit(global_model, round)

    def train_locally(self, dataset: ImageDataset) -> float:
        if dataset is not self.dataset:
            raise ValueError("the privacy budget was planned for the client's own images: train on all of them")
        self.model.train()
        if self._private is None:
            images = TensorDataset(dataset.images, dataset.labels)
            self._private = self._engine.make_private(
                module=self.model,
                optimizer=self.optimizer,
                data_loader=DataLoader(images, batch_size=self.batch_size),
                noise_multiplier=self.noise_multiplier,
                max_grad_norm=self.max_grad_norm,
                # Opacus's own mode (1.6) takes a convolution's inputs to be contiguous: with channels-last ones the
                # gradients are wrong, and no error says so.
                grad_sample_mode="functorch",
            )
        model, optimizer, poisson_samples = self._private
        with _quiet():
            return descend(model, optimizer, islice(chain.from_iterable(repeat(poisson_samples)), self.local_steps))

    def lasting_parts(self) -> dict[str, Any]:
        return super().lasting_parts() | {"accountant": self._engine.accountant}


@dataclass(frozen=True)
class _ClippedGaussian:
    max_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        _check_positive(max_norm=self.max_norm)
        if not self.noise_multiplier >= 0:
            raise ValueError(f"noise_multiplier is {self.noise_multiplier}: it must be 0 (no noise) or above")


@dataclass(frozen=True)
class ClipAndNoise(_ClippedGaussian):
    """For `Client.protect`: clip the change of the weights, and add Gaussian noise to it, before it leaves the client.

    Participant-level privacy without a trusted server (local DP): also called user-level.

    Attributes:
        max_norm: at which the L2 norm of the change is clipped, above 0.
        noise_multiplier: standard deviation of the noise over `max_norm`, 0 or above.

    Raises:
        ValueError: a setting is out of range.
    """

    def __call__(self, change: list[Tensor]) -> list[Tensor]:
        std = self.noise_multiplier * self.max_norm
        return [tensor + std * torch.randn_like(tensor) for tensor in _clip(change, self.max_norm)]


@dataclass(frozen=True)
class PrivateMean(_ClippedGaussian):
    """For `aggregate`: clip each client's change, average, and add Gaussian noise to the mean (McMahan et al. 2018).

    Participant-level (user-level) privacy with a trusted server. Every client weighs the same, whatever it reports.

    Attributes:
        max_norm: at which the L2 norm of each change is clipped, above 0.
        noise_multiplier: standard deviation of the noise *on the sum* over `max_norm`, 0 or above; on the mean of n
            clients it is n times smaller.

    Raises:
        ValueError: a setting is out of range.
    """

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        changes = [_clip([update.state[name] - state[name] for name in state], self.max_norm) for update in updates]
        std = self.noise_multiplier * self.max_norm / len(changes)
        means = [torch.stack(tensors).mean(0) for tensors in zip(*changes, strict=True)]
        return {
            name: state[name] + mean + std * torch.randn_like(mean) for name, mean in zip(state, means, strict=True)
        }


def spent_epsilon(noise_multiplier: float, *, sample_rate: float, steps: int, delta: float) -> float:
    """The epsilon of that many Gaussian mechanisms on Poisson samples, by Opacus's accountant (Mironov et al. 2019).

    For DP-SGD a step is a mini-batch; for participant-level privacy it is a round, and the sample rate 1.

    Raises:
        ImportError: Opacus is not installed.
        ValueError: a setting is out of range.
    """
    _check_positive(noise_multiplier=noise_multiplier, sample_rate=sample_rate, steps=steps, delta=delta)
    accountant = _opacus().accountants.RDPAccountant()
    accountant.history = [(noise_multiplier, sample_rate, steps)]
    with _quiet():
        return float(accountant.get_epsilon(delta))


def _noise_multiplier(epsilon: float, delta: float, *, sample_rate: float, steps: int) -> float:
    find = _opacus().accountants.utils.get_noise_multiplier
    if math.isinf(epsilon):
        return 0.0
    with _quiet():
        return find(target_epsilon=epsilon, target_delta=delta, sample_rate=sample_rate, steps=steps)


def _opacus() -> Any:
    try:
        import opacus.accountants.utils
    except ImportError as error:
        raise ImportError(
            "differential privacy needs Opacus: in the project's folder, pip install -e '.[defences]'"
        ) from error
    return opacus


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Opacus and PyTorch say about every private training, and what can do no harm here."""
    with warnings.catch_warnings():
        for message in ("Secure RNG", "Full backward hook", "grad and param do not obey", "Optimal order"):
            warnings.filterwarnings("ignore", message)
        yield


def _clip(change: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = torch.cat([tensor.flatten() for tensor in change]).norm()
    return [tensor * (max_norm / norm).clamp(max=1) for tensor in change]


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
