"""What the attack is compared with: an honest federation, and a GAN trained on the victim's own images."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import check_seed, truth, whole_number
from fl_gan_lib.attack import GENERATOR_STEPS, build_federation, check_rounds, count_active_rounds, pick_device
from fl_gan_lib.datasets import check_target, training_and_test
from fl_gan_lib.federation import Client, Round, federate
from fl_gan_lib.metrics import Dataset
from fl_gan_lib.models import BATCH_SIZE, AveragedGenerator, Classifier, Generator
from fl_gan_lib.recording.identity import describe_data
from fl_gan_lib.recording.recorder import Recorder, record_rounds, until_interrupted
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.seeding import turn_seed


def train_honest(
    target: str | int = 3,
    *,
    dataset: Dataset = "mnist-5k",
    rounds: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> nn.Module:
    """The global model that `run_attack` would end with if the attacker were honest: same images, weights, seeds."""
    rounds = check_rounds(rounds)
    train, _ = training_and_test(dataset)
    model, clients = build_federation(train, target, num_rounds=rounds, seed=seed, device=device)
    clients[-1] = Client(clients[-1].dataset)
    for _ in federate(model, clients, num_rounds=rounds, seed=seed):
        pass
    return model


def invert(model: nn.Module, target: int, *, num_images: int = 500, steps: int = 100, side: int = 28) -> Tensor:
    """Plain model inversion: pictures that `model` takes for the target, by gradient ascent on their pixels.

    From nearly grey pictures, with Adam, maximising the log-probability of the target (Fredrikson et al. 2015, section
    5.2, without their smoothing).

    Args:
        model: that the pictures are to persuade.
        target: the number of the class.
        num_images: how many pictures, at least 1.
        steps: of the ascent, at least 1.
        side: S, of the pictures.

    Returns:
        (num_images, 1, S, S) in [-1, 1].
    """
    num_images, steps = whole_number("num_images", num_images, 1), whole_number("steps", steps, 1)
    device = next(model.parameters()).device
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    wanted = torch.full((num_images,), target, device=device)
    pixels = (0.1 * torch.randn(num_images, 1, side, side, device=device)).requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.05)
    for _ in range(steps):
        loss = F.cross_entropy(frozen(pixels.tanh()), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pixels.tanh().detach()


def run_oracle(
    target: str | int = 3,
    *,
    dataset: Dataset = "mnist-5k",
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
    label, seed, progress = check_target(target, dataset), check_seed(seed), truth("progress", progress)
    rounds = count_active_rounds(check_rounds(rounds))
    train, _ = training_and_test(dataset)
    private = train.images_of(train.classes[label]).to(pick_device(device))
    if not len(private):
        raise ValueError(f"there is no training image of {target}: give some, or choose another target")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Classifier(len(train.classes) + 1, side=train.side).to(private.device)
        generator = AveragedGenerator(rounds * GENERATOR_STEPS, make_model=partial(Generator, train.side))
        generator.to(private.device)
    config = {"kind": "oracle", "target": label, **describe_data(dataset, train.classes)}
    config |= {"rounds": rounds, "seed": seed, "device": str(private.device)}
    num_frames = whole_number("num_frames", num_frames, 0)
    recorder = Recorder(config, private, dataset=dataset, num_frames=num_frames)
    trained = _gan_rounds(discriminator, generator, private, (label, len(train.classes)), rounds, seed)
    nothing = {"accuracy": float("nan"), "target_accuracy": float("nan")}  # there is no federation to measure
    with until_interrupted(recorder):
        for _ in record_rounds(trained, recorder, generator, lambda: nothing, progress=progress):
            pass
    return recorder.record()


def _gan_rounds(
    discriminator: nn.Module,
    generator: AveragedGenerator,
    private: Tensor,
    labels: tuple[int, int],
    num_rounds: int,
    seed: int,
) -> Iterator[Round]:
    """`labels` are those of the target and of the fakes."""
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    target, fake = labels
    wanted = torch.tensor([target] * BATCH_SIZE + [fake] * BATCH_SIZE, device=private.device)
    for number in range(1, num_rounds + 1):
        start = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(turn_seed(seed, number, 0))
            for _ in range(GENERATOR_STEPS):
                generator.step(discriminator, target)
                real = private[torch.randint(len(private), (BATCH_SIZE,))]
                loss = F.cross_entropy(discriminator(torch.cat([real, generator.draw(BATCH_SIZE)])), wanted)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        yield Round(number, None, time.perf_counter() - start, [])
