"""What the attack is compared with: an honest federation, and a GAN trained on the victim's own images."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.attack import (
    BATCH_SIZE,
    GENERATOR_STEPS,
    AveragedGenerator,
    check_rounds,
    pick_device,
    record_run,
    split_participants,
)
from fl_gan_lib.data import load_dataset
from fl_gan_lib.federation import Client, Round, accuracy, federate, turn_seed
from fl_gan_lib.metrics import check_digit
from fl_gan_lib.models import FAKE_LABEL, Classifier
from fl_gan_lib.records import AttackRecord


def honest_accuracy(
    target: int = 3, *, dataset: str = "mnist-5k", rounds: int | None = None, seed: int = 0, device: str = "auto"
) -> float:
    """Test accuracy of the federation of `run_attack` if the attacker were honest: same images, weights and seeds."""
    rounds = check_rounds(rounds)
    train, test = load_dataset(dataset)
    clients = [Client(train.subset(part)) for part in split_participants(train.labels, target, seed=seed)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier().to(pick_device(device))
    for _ in federate(model, clients, num_rounds=rounds, seed=seed):
        pass
    return accuracy(model, test)


def run_oracle(
    target: int = 3,
    *,
    dataset: str = "mnist-5k",
    rounds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> AttackRecord:
    """Train the same generator as an ordinary GAN on the victim's own images: the yardstick that the attack aims at.

    As many generator steps as in `run_attack` with the same `rounds`, the same averaging and learning rate, and one
    step of the discriminator (the same `Classifier`, the target against "fake") after each (Goodfellow et al. 2014,
    algorithm 1, with the non-saturating loss). Arguments, result and errors are those of `run_attack`.
    """
    check_digit(target)
    rounds = check_rounds(rounds)
    train, _ = load_dataset(dataset)
    private = train.images_of(target).to(pick_device(device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Classifier().to(private.device)
        generator = AveragedGenerator(rounds * GENERATOR_STEPS)
    config = {"kind": "oracle", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed}
    config |= {"device": str(private.device)}
    return record_run(
        _gan_rounds(discriminator, generator, private, target, rounds, seed),
        generator,
        private=private,
        config=config,
        evaluate=lambda: {"accuracy": float("nan"), "target_accuracy": float("nan")},
        progress=progress,
    )


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
