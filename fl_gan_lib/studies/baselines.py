"""What the attack is compared with: an honest federation, model inversion, and a GAN on the victim's own images."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import check_seed, truth, whole_number
from fl_gan_lib.attack import GENERATOR_STEPS, build_federation, check_rounds, count_active_rounds, pick_device
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets import check_target, training_and_test
from fl_gan_lib.federation import Client, Round, federate
from fl_gan_lib.judge import train_judge
from fl_gan_lib.metrics import Dataset, frechet_distance
from fl_gan_lib.models import BATCH_SIZE, LATENT_DIM, AveragedGenerator, Classifier, Generator
from fl_gan_lib.partitions import split_participants
from fl_gan_lib.recording.identity import describe_data
from fl_gan_lib.recording.recorder import NOT_MEASURED, Recorder, record_rounds, snapshot_rounds, until_interrupted
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.seeding import turn_seed

PATIENCE = 60  # rounds without an improvement, after which the oracle stops


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


def invert_with_generator(model: nn.Module, target: int, *, num_images: int = 500, steps: int = 1080) -> np.ndarray:
    """Model inversion with the attack's generator: it is trained against `model`, which stays as it is.

    The same generator, optimiser, average and number of steps as in an attack of 100 rounds; all that is missing is a
    model that answers.

    Args:
        model: that the pictures are to persuade; of images of 28 x 28.
        target: the number of the class.
        num_images: how many pictures, at least 1.
        steps: of the generator, at least 1.

    Returns:
        uint8 of shape (num_images, 28, 28).
    """
    num_images, steps = whole_number("num_images", num_images, 1), whole_number("steps", steps, 1)
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    generator = AveragedGenerator(steps)
    generator.to(next(frozen.parameters()).device)
    for _ in range(steps):
        generator.step(frozen, target)
    return generator.render(torch.randn(num_images, LATENT_DIM))


def memorise(images: Tensor, *, num_images: int = 500, steps: int = 1500, seed: int = 0) -> Tensor:
    """What a generator draws that has learned single images by heart: the positive control for the copy ratio.

    Each image gets a latent vector of its own, and the generator learns to draw the one from the other, pixel by pixel
    (as in Bojanowski et al. 2018, with fixed vectors).

    Args:
        images: to be memorised, (m, 1, S, S) in [-1, 1], m >= 2.
        num_images: how many pictures to draw, each from the vector of an image picked at random.
        steps: of the generator, with 32 images each.
        seed: of everything.

    Returns:
        (num_images, 1, S, S) in [-1, 1].
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, latents = Generator(images.shape[-1]), torch.randn(len(images), LATENT_DIM)
        optimizer = torch.optim.Adam(generator.parameters(), lr=3e-3)
        for _ in range(steps):
            batch = torch.randint(len(images), (BATCH_SIZE,))
            loss = F.mse_loss(generator(latents[batch]), images[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        picked = torch.randint(len(images), (num_images,))
        with torch.no_grad():
            return generator.eval()(latents[picked])


def run_oracle(
    target: str | int = 3,
    *,
    dataset: Dataset = "mnist-5k",
    all_classes: bool = False,
    rounds: int | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> AttackRecord:
    """Train the same generator as an ordinary GAN by somebody who has the victim's images: what an attacker aims at.

    At most as many generator steps as in `run_attack` with the same `rounds` (whose last tenth trains no generator),
    the same averaging and learning rate, and one step of the discriminator (the same `Classifier`) after each
    (Goodfellow et al. 2014, algorithm 1, with the non-saturating loss).

    The owner stops early. It keeps a fifth of its images of the target apart, and looks at its fakes in the first
    rounds and then in every tenth. It keeps those that are nearest to the images apart: by the Fréchet distance of
    features of a network that it has trained on its other images. After sixty rounds without an improvement it stops.
    The record ends with the fakes that it keeps.

    Args:
        all_classes: the discriminator learns to tell all of the victim's classes apart, and fakes, as the federation's
            does; by default it learns the target against "fake", on which all its capacity goes.
        target, dataset, rounds, seed, device, progress: as for `run_attack`.

    Returns:
        The record, errors as of `run_attack`; also a ValueError if there are fewer than five training images of the
        target.
    """
    label, seed, progress = check_target(target, dataset), check_seed(seed), truth("progress", progress)
    all_classes = truth("all_classes", all_classes)
    rounds = count_active_rounds(check_rounds(rounds))
    device = pick_device(device)
    train = training_and_test(dataset)[0].to(torch.device("cpu"))
    victim, _ = split_participants(train.labels, label, num_classes=len(train.classes), seed=seed)
    own = train.subset(victim)
    private = own.images_of(train.classes[label])
    if len(private) < 5:
        raise ValueError(f"there are {len(private)} training images of {target}: give five, or choose another target")
    apart, rest = private.split([number := max(2, len(private) // 5), len(private) - number])
    others = own.subset(own.labels != label)
    critic = train_judge(_labelled(others, rest, label), seed=seed)
    wanted = critic.features(apart)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Classifier(len(train.classes) + 1, side=train.side).to(device)
        generator = AveragedGenerator(rounds * GENERATOR_STEPS, make_model=partial(Generator, train.side))
        generator.to(device)
    config = {"kind": "oracle", "target": label, **describe_data(dataset, train.classes)}
    config |= {"rounds": rounds, "seed": seed, "all_classes": all_classes, "device": str(device)}
    recorder = Recorder(config, rest, dataset=dataset)
    recorder.rounds = sorted({*snapshot_rounds(rounds), *range(10, rounds, 10)})
    real = (rest.to(device), others.to(device) if all_classes else None)
    trained = _gan_rounds(discriminator, generator, *real, label, rounds, seed)
    kept, smallest = None, float("inf")
    with until_interrupted(recorder):
        for number, record in record_rounds(trained, recorder, generator, lambda: NOT_MEASURED, progress=progress):
            if record is None:
                continue
            distance = frechet_distance(critic.features(from_uint8(record.final_samples)), wanted)
            if kept is None or distance < smallest:
                kept, smallest = record, distance
            elif number - kept.rounds[-1] >= PATIENCE:
                break
    return kept or recorder.record()


def _labelled(others: ImageDataset, images: Tensor, label: int) -> ImageDataset:
    labels = torch.cat([others.labels, torch.full((len(images),), label)])
    return ImageDataset(torch.cat([others.images, images]), labels, others.classes)


def _gan_rounds(
    discriminator: nn.Module,
    generator: AveragedGenerator,
    private: Tensor,
    others: ImageDataset | None,
    target: int,
    num_rounds: int,
    seed: int,
) -> Iterator[Round]:
    """`private` are images of the target; with `others`, the discriminator also learns these, as many in each step."""
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-3)
    fake = discriminator[-1].out_features - 1
    wanted = torch.tensor([target] * BATCH_SIZE + [fake] * BATCH_SIZE, device=private.device)
    for number in range(1, num_rounds + 1):
        start = time.perf_counter()
        with torch.random.fork_rng():
            torch.manual_seed(turn_seed(seed, number, 0))
            for _ in range(GENERATOR_STEPS):
                generator.step(discriminator, target)
                images = torch.cat([private[torch.randint(len(private), (BATCH_SIZE,))], generator.draw(BATCH_SIZE)])
                labels = wanted
                if others is not None:
                    batch = torch.randint(len(others), (BATCH_SIZE,))
                    images = torch.cat([images, others.images[batch]])
                    labels = torch.cat([labels, others.labels[batch]])
                loss = F.cross_entropy(discriminator(images), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        yield Round(number, None, time.perf_counter() - start, [])
