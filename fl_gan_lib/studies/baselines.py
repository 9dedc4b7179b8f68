"""What the attack is compared with: an honest federation, and a GAN trained on the victim's own images."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from operator import index

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.attack import GENERATOR_STEPS, build_federation, check_rounds, count_active_rounds, pick_device
from fl_gan_lib.data import check_digit
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client, Round, federate
from fl_gan_lib.models import BATCH_SIZE, FAKE_LABEL, AveragedGenerator, Classifier
from fl_gan_lib.recording.recorder import Recorder, record_rounds, until_interrupted
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.seeding import turn_seed


def train_honest(
    target: int = 3, *, dataset: str = "mnist-5k", rounds: int | None = None, seed: int = 0, device: str = "auto"
) -> nn.Module:
    """The global model that `run_attack` would end with if the attacker were honest: same images, weights, seeds."""
    rounds = check_rounds(rounds)
    train, _ = load_dataset(dataset)
    model, clients = build_federation(train, target, num_rounds=rounds, seed=seed, device=device)
    clients[-1] = Client(clients[-1].dataset)
    for _ in federate(model, clients, num_rounds=rounds, seed=seed):
        pass
    return model


def invert(model: nn.Module, target: int, *, num_images: int = 500, steps: int = 100) -> Tensor:
    """Plain model inversion: pictures that `model` takes for the target, by gradient ascent on their pixels.

    From nearly grey pictures, with Adam, maximising the log-probability of the target (Fredrikson et al. 2015, section
    5.2, without their smoothing).

    Returns:
        (num_images, 1, 28, 28) in [-1, 1].
    """
    device = next(model.parameters()).device
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    wanted = torch.full((num_images,), target, device=device)
    pixels = (0.1 * torch.randn(num_images, 1, 28, 28, device=device)).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05)
    for _ in range(steps):
        loss = F.cross_entropy(frozen(pixels.tanh()), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pixels.tanh().detach()


def run_oracle(
    target: int = 3,
    *,
    dataset: str = "mnist-5k",
    rounds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    num_frames: int = 24,
) -> AttackRecord:
    """Train the same generator as an ordinary GAN on the victim's own images: the yardstick that the attack aims at.

    As many generator steps as in `run_attack` with the same `rounds` (whose last tenth trains no generator), the same
    averaging and learning rate, and one step of the discriminator (the same `Classifier`, the target against "fake")
    after each (Goodfellow et al. 2014, algorithm 1, with the non-saturating loss). Arguments, result and errors are
    those of `run_attack`.
    """
    target, seed = check_digit(target), index(seed)
    rounds = count_active_rounds(check_rounds(rounds))
    train, _ = load_dataset(dataset)
    private = train.images_of(target).to(pick_device(device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Classifier().to(private.device)
        generator = AveragedGenerator(rounds * GENERATOR_STEPS)
        generator.to(private.device)
    config = {"kind": "oracle", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed}
    config |= {"device": str(private.device)}
    recorder = Recorder(config, private, num_frames=num_frames)
    trained = _gan_rounds(discriminator, generator, private, target, rounds, seed)
    nothing = {"accuracy": float("nan"), "target_accuracy": float("nan")}  # there is no federation to measure
    with until_interrupted(recorder):
        for _ in record_rounds(trained, recorder, generator, lambda: nothing, progress=progress):
            pass
    return recorder.record()


def _gan_rounds(
    discriminator: nn.Module, generator: AveragedGenerator, private: Tensor, target: int, num_rounds: int, seed: int
) -> Iterator[Round]:
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    labels = torch.tensor([target] * BATCH_SIZE + [FAKE_LABEL] * BATCH_SIZE, device=private.device)
    for number in range(1, num_rounds + 1):
        start = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(turn_seed(seed, number, 0))
            for _ in range(GENERATOR_STEPS):
                generator.step(discriminator, target)
                real = private[torch.randint(len(private), (BATCH_SIZE,))]
                loss = F.cross_entropy(discriminator(torch.cat([real, generator.draw(BATCH_SIZE)])), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        yield Round(number, None, time.perf_counter() - start, [])
