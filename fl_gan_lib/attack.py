"""The attack: a participant who follows the protocol, with a generator at home (Hitaj et al. 2017)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from fl_gan_lib.data import NUM_DIGITS, ImageDataset, load_dataset, partition_by_label, to_uint8
from fl_gan_lib.federation import Client, Round, Update, accuracy, federate, turn_seed
from fl_gan_lib.metrics import check_digit, evaluate_samples
from fl_gan_lib.models import FAKE_LABEL, LATENT_DIM, Classifier, Generator
from fl_gan_lib.records import AttackRecord

DEFAULT_ROUNDS = 200
GENERATOR_STEPS = 12
BATCH_SIZE = 64
NUM_SHOWN = 20
NUM_JUDGED = 500


class AveragedGenerator:
    """A generator with its optimiser, and the running average of its weights that the pictures are drawn from.

    The average (0.995 a step, shorter at first) and a learning rate that falls to a fifth keep the last rounds from
    swinging, as a GAN does otherwise. Both need to know nothing but how many steps there will be.

    Args:
        total_steps: over which the learning rate falls.
        learning_rate: of Adam, with the betas of DCGAN (0.5, 0.999).
    """

    def __init__(self, total_steps: int, *, learning_rate: float = 1e-3) -> None:
        self.model = Generator()
        self.average = AveragedModel(
            self.model,
            avg_fn=lambda mean, new, steps: mean + (new - mean) * max(0.005, 9 / (10 + float(steps))),
            use_buffers=True,
        )
        self._optimizer = torch.optim.Adam(self.model.parameters(), lr=learning_rate, betas=(0.5, 0.999))
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._optimizer, 1.0, 0.2, total_iters=total_steps)

    def step(self, discriminator: nn.Module, target: int) -> Tensor:
        """One step that makes `discriminator` read the fakes as `target`; returns the loss before it."""
        device = next(discriminator.parameters()).device
        self.model.to(device).train()
        self.average.to(device)
        logits = discriminator(self.model(torch.randn(BATCH_SIZE, LATENT_DIM, device=device)))
        loss = F.cross_entropy(logits, torch.full((BATCH_SIZE,), target, device=device))
        self._optimizer.zero_grad()
        loss.backward()
        self._optimizer.step()
        self._schedule.step()
        self.average.update_parameters(self.model)
        return loss.detach()

    @torch.no_grad()
    def draw(self, num_images: int) -> Tensor:
        """Fakes of the generator as it stands: (num_images, 1, 28, 28) in [-1, 1]."""
        return self.model(torch.randn(num_images, LATENT_DIM, device=next(self.model.parameters()).device))

    @torch.no_grad()
    def render(self, latents: Tensor) -> np.ndarray:
        """What the averaged generator draws from `latents` (N, 100): uint8 of shape (N, 28, 28)."""
        self.average.eval()
        return to_uint8(self.average(latents.to(next(self.average.parameters()).device)))


class GANAttacker(Client):
    """A participant who lacks a digit and makes the federation draw it.

    In each round it (1) trains its generator against the model that it received, which serves as the discriminator,
    and (2) adds fresh fakes, labelled "fake", to its own images before the local training that the protocol asks for.
    The victim's next update then has to tell fakes from real ones better, and so gives more away (Hitaj et al. 2017,
    section 5 and algorithm 1). It holds its own images, what it received, and nothing else.

    Args:
        dataset: the attacker's own images, without the target.
        target: the digit to draw, 0 to 9.
        num_rounds: how many rounds the federation has announced; the generator's learning rate falls over them.
        inject: False leaves out (2), the paper's passive attack.
        generator_steps: mini-batches of 64 fakes a round.
        num_fakes: injected fakes a round.
        client_options: as for `Client`.

    Raises:
        ValueError: the target is no digit, or the attacker holds images of it.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        target: int,
        *,
        num_rounds: int = DEFAULT_ROUNDS,
        inject: bool = True,
        generator_steps: int = GENERATOR_STEPS,
        num_fakes: int = 400,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, **client_options)
        check_digit(target)
        if len(dataset.images_of(target)):
            raise ValueError(f"the attacker holds images of its target {target}: take them out, or there is no attack")
        self.target = target
        self.inject = inject
        self.generator_steps = generator_steps
        self.num_fakes = num_fakes
        self.generator = AveragedGenerator(num_rounds * generator_steps)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """Train the generator on `global_model`, which stays as it is, then train locally on images and fakes."""
        discriminator = copy.deepcopy(global_model).eval().requires_grad_(False)
        losses = [self.generator.step(discriminator, self.target) for _ in range(self.generator_steps)]
        own = self.dataset = self.dataset.to(losses[0].device)
        images, labels = own.images, own.labels
        if self.inject:
            fakes = self.generator.draw(self.num_fakes)
            images = torch.cat([images, fakes])
            labels = torch.cat([labels, torch.full((len(fakes),), FAKE_LABEL, device=labels.device)])
        update = self._train(global_model, images, labels)
        update.metrics["generator_loss"] = torch.stack(losses).mean().item()
        return update


def split_participants(
    labels: Tensor, target: int, *, num_honest: int = 1, split: str = "all-but-target", seed: int = 0
) -> list[np.ndarray]:
    """Deal the training images out to the honest clients and, last, the attacker.

    Args:
        labels: of the training images.
        target: the digit that the attacker lacks.
        num_honest: honest clients, at least 1; the first is called the victim.
        split: `"all-but-target"`: the honest clients hold all ten digits, the attacker nine. `"paper"`: the honest
            clients hold 0 to 4, the attacker 5 to 9 (Hitaj et al. 2017, section 6).
        seed: of the shuffle.

    Returns:
        num_honest + 1 index arrays.

    Raises:
        ValueError: an argument is out of range, or the split leaves nobody with the target.
    """
    check_digit(target)
    if num_honest < 1:
        raise ValueError(f"num_honest is {num_honest}: somebody must hold the target, so it must be at least 1")
    holdings = {
        "all-but-target": (range(NUM_DIGITS), set(range(NUM_DIGITS)) - {target}),
        "paper": (range(5), range(5, NUM_DIGITS)),
    }
    if split not in holdings:
        raise ValueError(f"unknown split {split!r}: use one of {', '.join(map(repr, holdings))}")
    honest, attacker = holdings[split]
    if target not in honest:
        raise ValueError(f"in the split {split!r} nobody but the attacker holds {target}: choose one of {list(honest)}")
    return partition_by_label(labels, num_honest + 1, [honest] * num_honest + [attacker], seed=seed)


def run_attack(
    target: int = 3,
    *,
    dataset: str = "mnist-5k",
    rounds: int | None = None,
    num_honest: int = 1,
    inject: bool = True,
    split: str = "all-but-target",
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> AttackRecord:
    """Run the whole attack: load the data, deal it out, train the federation, and measure what leaks.

    Args:
        target: the digit that the attacker lacks and wants, 0 to 9.
        dataset: `"mnist-5k"` or `"mnist"`, see `data.load_dataset`.
        rounds: of federated averaging; by default 200.
        num_honest, split: see `split_participants`.
        inject: whether the attacker injects its fakes (the active attack).
        seed: of the split, the weights and every round. Same seed, machine and thread count: the same bits.
        device: `"cpu"`, `"cuda"`, ... or `"auto"`, a GPU where there is one.
        progress: show a bar, and a line for each recorded round.

    Returns:
        The record. After an interrupt (Ctrl-C, or the stop button) it reaches as far as the last recorded round.

    Raises:
        ValueError: an argument is out of range; nothing has been trained yet.
    """
    rounds = _check_rounds(rounds)
    train, test = load_dataset(dataset)
    parts = split_participants(train.labels, target, num_honest=num_honest, split=split, seed=seed)
    datasets = [train.subset(part) for part in parts]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier().to(_pick_device(device))
        attacker = GANAttacker(datasets[-1], target, num_rounds=rounds, inject=inject)
    clients = [*(Client(data) for data in datasets[:-1]), attacker]
    config = {"kind": "attack", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed}
    config |= {"num_honest": num_honest, "inject": inject, "split": split}
    return _record(
        federate(model, clients, num_rounds=rounds, seed=seed),
        attacker.generator,
        private=datasets[0].images_of(target),
        config=config,
        evaluate=lambda: accuracy(model, test),
        progress=progress,
    )


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
    step of the discriminator (the same `Classifier`, the target against "fake") before each (Goodfellow et al. 2014,
    algorithm 1, with the non-saturating loss). Arguments, result and errors are those of `run_attack`.
    """
    check_digit(target)
    rounds = _check_rounds(rounds)
    train, _ = load_dataset(dataset)
    private = train.images_of(target).to(_pick_device(device))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        discriminator = Classifier().to(private.device)
        generator = AveragedGenerator(rounds * GENERATOR_STEPS)
    return _record(
        _gan_rounds(discriminator, generator, private, target, rounds, seed),
        generator,
        private=private,
        config={"kind": "oracle", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed},
        evaluate=lambda: float("nan"),
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


def recorded_rounds(num_rounds: int, num_frames: int = 24) -> list[int]:
    """Which rounds a record keeps: dense at first, when the picture changes fast, and always the last one."""
    return sorted({int(round) for round in np.geomspace(1, num_rounds, num_frames).round()})


def _record(
    rounds: Iterator[Round],
    generator: AveragedGenerator,
    *,
    private: Tensor,
    config: dict[str, Any],
    evaluate: Callable[[], float],
    progress: bool,
) -> AttackRecord:
    target, num_rounds = config["target"], config["rounds"]
    keep = recorded_rounds(num_rounds)
    random = torch.Generator().manual_seed(config["seed"])
    shown = torch.randn(NUM_SHOWN, LATENT_DIM, generator=random)
    seconds, judged = 0.0, np.empty(0)
    frames: list[np.ndarray] = []
    rows: list[dict[str, float]] = []
    try:
        for round in tqdm(rounds, f"{config['kind']} on {target}", num_rounds, unit="round", disable=not progress):
            seconds += round.seconds
            if round.number not in keep:
                continue
            judged = generator.render(torch.randn(NUM_JUDGED, LATENT_DIM, generator=random))
            row = {"round": round.number, "seconds": seconds, "accuracy": evaluate()}
            row |= evaluate_samples(judged, target, dataset=config["dataset"])
            frames.append(generator.render(shown))
            rows.append(row)
            if progress:
                tqdm.write(_line(row, num_rounds))
    except KeyboardInterrupt:
        if not rows:
            raise
        tqdm.write(f"stopped: the record reaches as far as round {rows[-1]['round']} of {num_rounds}")
    return AttackRecord(
        samples=np.stack(frames),
        final_samples=judged,
        private_samples=to_uint8(private[:10]),
        rounds=np.array([row["round"] for row in rows]),
        metrics=pd.DataFrame(rows),
        config=config | {"threads": torch.get_num_threads(), "device": str(private.device), "torch": torch.__version__},
    )


def _line(row: dict[str, float], num_rounds: int) -> str:
    return (
        f"round {row['round']:>3}/{num_rounds}  {row['seconds']:4.0f} s  accuracy {row['accuracy']:.3f}  "
        f"recognition {row['recognition']:.2f}  gap closed {row['gap_closed']:5.2f}  diversity {row['diversity']:.2f}"
    )


def _check_rounds(rounds: int | None) -> int:
    rounds = DEFAULT_ROUNDS if rounds is None else rounds
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be at least 1")
    return rounds


def _pick_device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
