"""Differential privacy against the attack: for each image (DP-SGD), and for each participant (notebook 06)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from fl_gan_lib.arguments import real_number, whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, Update, descend

# Beyond it Opacus's search for the noise may not end, as its steps are smaller than the digits of a float.
MAX_EPSILON = 1e6


class PrivateClient(Client):
    """A client that trains with DP-SGD (Abadi et al. 2016, algorithm 1), by Opacus.

    Each step takes a Poisson sample of the images, clips the gradient of each *image*, adds Gaussian noise to the sum,
    and divides it by the *expected* size of the sample. Where the sample is empty, the step is noise alone. What the
    client sends over all rounds is (epsilon, delta)-private with respect to one image of its own. Opacus runs here
    without its cryptographic random numbers: good for experiments, not for real secrets. The number of images and the
    mean loss, which a client reports beside its weights, are not covered.

    Args:
        dataset: the client's own images.
        epsilon: the budget for all rounds together, above 0; `math.inf` clips and adds no noise.
        delta: above 0, and below 1 / number of images.
        num_rounds: how many rounds the budget must last.
        max_grad_norm: at which the gradient of each image is clipped, above 0.
        client_options: as for `Client`; the mini-batches are larger than there, and `batch_size` is the expected size.

    Attributes:
        noise_multiplier: standard deviation of the noise over `max_grad_norm`.
        sample_rate: the probability with which an image is in a mini-batch.

    Raises:
        ImportError: Opacus is not installed.
        ValueError: a setting is out of range, or the budget too small for any noise.
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
        self.num_rounds = whole_number("num_rounds", num_rounds, 1)
        self.max_grad_norm = real_number(
            "max_grad_norm", max_grad_norm, above=0, why="(to clip nothing, take a plain Client)"
        )
        below = f"1 / {len(dataset)} (the number of images), or the promise allows for giving one image away"
        self.delta = _delta(delta, 1 / len(dataset), below)
        self.sample_rate = min(1.0, self.batch_size / len(dataset))
        self._planned_steps = self.num_rounds * self.local_steps
        self.noise_multiplier = _noise_multiplier(
            _budget(epsilon), self.delta, sample_rate=self.sample_rate, steps=self._planned_steps
        )
        self._accountant = _opacus().accountants.RDPAccountant()
        self._private: tuple[nn.Module, torch.optim.Optimizer] | None = None

    @property
    def spent(self) -> float:
        """The epsilon that Opacus's accountant has booked so far, for the client's delta."""
        return _epsilon(self._accountant, self.delta) if len(self._accountant) else 0.0

    def check_model(self, model: nn.Module) -> None:
        """Raise a ValueError unless DP-SGD covers all that `model` would send."""
        super().check_model(model)
        _check_layers(model)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        # Round numbers are not enough: they begin again in another federation, and the budget does not.
        booked = sum(steps for *_, steps in self._accountant.history)
        if round > self.num_rounds or booked + self.local_steps > self._planned_steps:
            raise ValueError(
                f"the privacy budget was planned for {self.num_rounds} rounds, and none is left for this one: make the "
                "client anew, with a larger num_rounds, or for each training"
            )
        return super().fit(global_model, round)

    def train_locally(self, dataset: ImageDataset) -> float:
        if dataset is not self.dataset:
            raise ValueError("the privacy budget was planned for the client's own images: train on all of them")
        self.model.train()
        if self._private is None:
            self._private = self._make_private()
        model, optimizer = self._private
        losses = []
        with _quiet():
            for images, labels in islice(_poisson_samples(dataset, self.sample_rate), self.local_steps):
                if len(labels):
                    losses.append(descend(model, optimizer, [(images, labels)]))
                else:
                    _step_without_images(optimizer)
        return torch.tensor(losses).mean().item() if losses else 0.0

    def lasting_parts(self) -> dict[str, Any]:
        return super().lasting_parts() | {"accountant": self._accountant}

    def _make_private(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """The local model and its optimiser, in Opacus's wrappers.

        Opacus's `PrivacyEngine` would do it, with a sample rate of 1 / (number of batches in an epoch), which is not
        what was asked for unless the batches come out even, and would cut off the decimals of the expected size.
        """
        _check_layers(self.model)
        opacus = _opacus()
        # Opacus's own way to a gradient for each image (1.6) takes a convolution's inputs to be contiguous: with
        # channels-last ones the gradients are wrong, and no error says so.
        model = opacus.GradSampleModule(self.model, force_functorch=True)
        model.forbid_grad_accumulation()
        optimizer = opacus.optimizers.DPOptimizer(
            self.optimizer,
            noise_multiplier=self.noise_multiplier,
            max_grad_norm=self.max_grad_norm,
            expected_batch_size=round(self.sample_rate * len(self.dataset)),
        )
        optimizer.attach_step_hook(self._accountant.get_optimizer_hook_fn(sample_rate=self.sample_rate))
        return model, optimizer


@dataclass(frozen=True)
class _ClippedGaussian:
    max_norm: float
    noise_multiplier: float

    def __post_init__(self) -> None:
        why = "(to clip nothing, leave the defence out)"
        max_norm = real_number("max_norm", self.max_norm, above=0, why=why)
        noise_multiplier = real_number("noise_multiplier", self.noise_multiplier, least=0, why="(0 for no noise)")
        object.__setattr__(self, "max_norm", max_norm)
        object.__setattr__(self, "noise_multiplier", noise_multiplier)

    def check_model(self, model: nn.Module) -> None:
        """Raise a ValueError if `model` would share more than parameters: nothing else gets clipped and noisy."""
        _check_buffers(model)


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
        ValueError: a setting is out of range, or (when called) there is no update.
    """

    def __call__(self, updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if not updates:
            raise ValueError("there is no update to average: at least one client must take part")
        changes = [_clip([update.state[name] - state[name] for name in state], self.max_norm) for update in updates]
        std = self.noise_multiplier * self.max_norm / len(changes)
        means = [torch.stack(tensors).mean(0) for tensors in zip(*changes, strict=True)]
        return {
            name: state[name] + mean + std * torch.randn_like(mean) for name, mean in zip(state, means, strict=True)
        }


def spent_epsilon(
    noise_multiplier: float, *, sample_rate: float, steps: int, delta: float, accountant: str = "rdp"
) -> float:
    """The epsilon of that many Gaussian mechanisms on Poisson samples, by one of Opacus's accountants.

    Both give upper bounds. The numerical one is usually the lower, and so the better of the two.

    For DP-SGD a step is a mini-batch; for participant-level privacy it is a round, and the sample rate 1.

    Args:
        noise_multiplier: standard deviation of the noise over the norm of clipping, from 1e-6 to 1e6.
        sample_rate: the probability with which an image, or a participant, is in a step, above 0 and at most 1.
        steps: how many, at least 1.
        delta: above 0 and below 1.
        accountant: `"rdp"`, by Rényi's divergence (Mironov et al. 2019), or `"prv"`, by numerical composition (Gopi et
            al. 2021).

    Returns:
        At least 0: for a large delta and much noise the accountant's formula can fall below, which means no more.

    Raises:
        ImportError: Opacus is not installed.
        ValueError: a setting is out of range.
    """
    history = (
        # Beyond these, the squares that the accountant takes are out of a float's range.
        real_number("noise_multiplier", noise_multiplier, least=1e-6, most=1e6),
        real_number("sample_rate", sample_rate, above=0, most=1, why="(it is a probability)"),
        whole_number("steps", steps, 1),
    )
    delta = _delta(delta, 1.0, "1 (it is a probability)")
    if accountant not in ("rdp", "prv"):
        raise ValueError(f"accountant is {accountant!r}: choose 'rdp' or 'prv'")
    if accountant == "prv":  # with little noise, its grid would need more memory than there is
        real_number("noise_multiplier", noise_multiplier, least=0.1, why="(for 'prv')")
    books = _opacus().accountants.create_accountant(accountant)
    books.history = [history]
    with np.errstate(divide="ignore"):  # at a sample rate of 1, PRV takes the logarithm of 0, and drops it
        return _epsilon(books, delta)


def _epsilon(accountant: Any, delta: float) -> float:
    with _quiet():
        return max(float(accountant.get_epsilon(delta)), 0.0)


def _noise_multiplier(epsilon: float, delta: float, *, sample_rate: float, steps: int) -> float:
    find = _opacus().accountants.utils.get_noise_multiplier
    if math.isinf(epsilon):
        return 0.0
    with _quiet():
        try:
            return find(target_epsilon=epsilon, target_delta=delta, sample_rate=sample_rate, steps=steps)
        except ValueError as error:
            raise ValueError(
                f"epsilon is {epsilon}: too little for {steps} steps with delta {delta}, whatever the noise; give more"
            ) from error


def _budget(epsilon: float) -> float:
    why = "(or math.inf: clipping alone, without noise)"
    budget = real_number("epsilon", epsilon, above=0, infinite=True, why=why)
    return budget if math.isinf(budget) else real_number("epsilon", budget, above=0, most=MAX_EPSILON, why=why)


def _delta(delta: float, limit: float, in_words: str) -> float:
    real = real_number("delta", delta, above=0, why=f"and below {in_words}")
    if real >= limit:
        raise ValueError(f"delta is {delta!r}: it must be above 0 and below {in_words}")
    return real


def _poisson_samples(dataset: ImageDataset, sample_rate: float) -> Iterator[tuple[Tensor, Tensor]]:
    """Mini-batches without end; each image is in each of them with the probability `sample_rate`."""
    sampler = _opacus().utils.uniform_sampler.UniformWithReplacementSampler(
        num_samples=len(dataset), sample_rate=sample_rate
    )
    images = TensorDataset(dataset.images, dataset.labels)
    # Without a batch size, the loader takes the sampler's lists as they are, empty ones too.
    return chain.from_iterable(repeat(DataLoader(images, sampler=sampler, batch_size=None)))


def _step_without_images(optimizer: Any) -> None:
    """A step of Opacus's optimiser for an empty sample: noise alone, booked like any other step.

    A model cannot compute the gradients of no image, so the optimiser gets none for each parameter.
    """
    for parameter in optimizer.params:
        parameter.grad_sample = parameter.new_zeros(0, *parameter.shape)
    optimizer.step()
    optimizer.zero_grad()


def _check_layers(model: nn.Module) -> None:
    """Raise a ValueError unless the gradient of an image depends on no other image, and only parameters are sent."""
    _check_buffers(model)
    # Opacus itself looks at layers with parameters only.
    mixing = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    if names := [name for name, layer in model.named_modules() if isinstance(layer, mixing)]:
        raise ValueError(
            f"the model has batch norm in {_some(names)}: there each image changes the gradients of the others, so "
            "DP-SGD does not protect it. Take GroupNorm instead"
        )
    opacus = _opacus()
    training = copy.deepcopy(model).train()  # Opacus refuses a model that is in evaluation mode
    validator = opacus.validators.ModuleValidator
    if errors := [*validator.validate(training), *opacus.GradSampleModule.validate(training)]:
        raise ValueError(
            f"the model has layers that Opacus cannot train privately: {_some([str(error) for error in errors])}. "
            "Take others instead"
        )


def _check_buffers(model: nn.Module) -> None:
    shared = model.state_dict()
    if names := [name for name, _ in model.named_buffers() if name in shared]:
        raise ValueError(
            f"the model has the buffers {_some(names)}: only parameters are clipped and get noise, so what the buffers "
            "tell of a client's images would be shared unprotected. Take GroupNorm instead of batch norm, or another "
            "layer without statistics"
        )


def _some(names: Sequence[str]) -> str:
    more = [f"and {len(names) - 3} more"] * (len(names) > 3)
    return ", ".join([*names[:3], *more])


def _opacus() -> Any:
    try:
        import opacus.accountants.utils
        import opacus.utils.uniform_sampler
        import opacus.validators
    except ImportError as error:
        raise ImportError(
            "differential privacy needs Opacus: in the project's folder, pip install -e '.[defences]'"
        ) from error
    return opacus


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what Opacus and PyTorch say about every private training, and what can do no harm here."""
    with warnings.catch_warnings():
        for message in ("Full backward hook", "grad and param do not obey", "Optimal order"):
            warnings.filterwarnings("ignore", message)
        yield


def _clip(change: list[Tensor], max_norm: float) -> list[Tensor]:
    norm = torch.cat([tensor.flatten() for tensor in change]).norm()
    return [tensor * (max_norm / norm).clamp(max=1) for tensor in change]
