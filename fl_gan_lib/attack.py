"""The attack: a participant who follows the protocol, with a generator at home (Hitaj et al. 2017)."""

from __future__ import annotations

import copy
import math
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
from fl_gan_lib.federation import Client, Round, Update, accuracy, federate
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

    The average (0.995 a step, shorter at first) and a learning rate that falls to almost nothing keep the last rounds
    from swinging, as a GAN does otherwise. Both need to know nothing but how many steps there will be.

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
        self._schedule = torch.optim.lr_scheduler.LinearLR(self._optimizer, 1.0, 0.03, total_iters=total_steps)

    def step(self, discriminator: nn.Module, target: int) -> None:
        """One step that makes `discriminator` read the fakes as `target`."""
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
    algorithm 1). It holds its own images, what it received, and nothing else.

    While the injection is at its height, the global model takes real images of the target for fakes. So in the second
    half of the rounds the number of fakes falls to a tenth: the finished model reads the target again.

    Args:
        dataset: the attacker's own images, without the target.
        target: the digit to draw, 0 to 9.
        num_rounds: how many rounds the federation has announced; learning rate and injection fall over them.
        inject: False leaves out (2), the paper's passive attack.
        generator_steps: mini-batches of 64 fakes a round.
        fakes_per_image: injected fakes a round for each own image, in the first half of the rounds.
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
        fakes_per_image: float = 2 / 9,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, **client_options)
        check_digit(target)
        if len(dataset.images_of(target)):
            raise ValueError(f"the attacker holds images of its target {target}: take them out, or there is no attack")
        self.target = target
        self.num_rounds = num_rounds
        self.inject = inject
        self.generator_steps = generator_steps
        self.num_fakes = round(fakes_per_image * len(dataset))
        self.generator = AveragedGenerator(num_rounds * generator_steps)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """Train the generator on `global_model`, which stays as it is, then train locally on images and fakes."""
        discriminator = copy.deepcopy(global_model).eval().requires_grad_(False)
        for _ in range(self.generator_steps):
            self.generator.step(discriminator, self.target)
        own = self.dataset = self.dataset.to(next(discriminator.parameters()).device)
        images, labels = own.images, own.labels
        if self.inject:
            second_half = min(1.0, max(0.0, 2 * round / self.num_rounds - 1))
            fakes = self.generator.draw(max(2, math.ceil(self.num_fakes * (1 - 0.9 * second_half))))
            images = torch.cat([images, fakes])
            labels = torch.cat([labels, torch.full((len(fakes),), FAKE_LABEL, device=labels.device)])
        return self._train(global_model, images, labels)


def split_participants(
    labels: Tensor, target: int, *, num_honest: int = 1, split: str = "all-but-target", seed: int = 0
) -> list[np.ndarray]:
    """Deal the training images out to the honest clients and, last, the attacker.

    Args:
        labels: of the training images.
        target: the digit that the attacker lacks.
        num_honest: honest clients, at least 1; the first is called the victim.
        split: `"all-but-target"`: the honest clients hold all ten digits, the attacker nine. `"paper"`: the honest
            clients hold 0 to 4, the attacker 5 to 9 (Hitaj et al. 2017, MNIST experiments).
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
        seed: of the split, the weights and every round. On a CPU, the same seed, machine and number of threads give the
            same bits.
        device: `"cpu"`, `"cuda"`, ... or `"auto"`, a GPU where there is one.
        progress: show a bar, and a line for each recorded round.

    Returns:
        The record. After an interrupt (Ctrl-C, or the stop button) it reaches as far as the last recorded round.

    Raises:
        ValueError: an argument is out of range; nothing has been trained yet.
    """
    rounds = check_rounds(rounds)
    train, test = load_dataset(dataset)
    parts = split_participants(train.labels, target, num_honest=num_honest, split=split, seed=seed)
    datasets = [train.subset(part) for part in parts]
    target_test = test.subset(torch.nonzero(test.labels == target).squeeze(1))
    place = pick_device(device)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Classifier().to(place)
        attacker = GANAttacker(datasets[-1], target, num_rounds=rounds, inject=inject)
    clients = [*(Client(data) for data in datasets[:-1]), attacker]
    config = {"kind": "attack", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed}
    config |= {"num_honest": num_honest, "inject": inject, "split": split, "device": str(place)}
    return record_run(
        federate(model, clients, num_rounds=rounds, seed=seed),
        attacker.generator,
        private=datasets[0].images_of(target),
        config=config,
        evaluate=lambda: {"accuracy": accuracy(model, test), "target_accuracy": accuracy(model, target_test)},
        progress=progress,
    )


def snapshot_rounds(num_rounds: int, num_frames: int = 24) -> list[int]:
    """Which rounds a record keeps: dense at first, when the picture changes fast, and always the last one."""
    return sorted({int(round) for round in np.geomspace(1, num_rounds, num_frames).round()})


def record_run(
    rounds: Iterator[Round],
    generator: AveragedGenerator,
    *,
    private: Tensor,
    config: dict[str, Any],
    evaluate: Callable[[], dict[str, float]],
    progress: bool,
) -> AttackRecord:
    """Go through `rounds` and record what `generator` draws after some of them.

    Args:
        rounds: trains as it is iterated.
        generator: the one that the rounds train.
        private: images for the top row of the picture, (n, 1, 28, 28); the first ten are kept.
        config: goes into the record; needs `kind`, `target`, `dataset`, `rounds` and `seed`.
        evaluate: the `accuracy` of the global model as it stands, and its `target_accuracy`.
        progress: show a bar, and a line for each recorded round.
    """
    target, num_rounds = config["target"], config["rounds"]
    keep = snapshot_rounds(num_rounds)
    random = torch.Generator().manual_seed(config["seed"])
    shown = torch.randn(NUM_SHOWN, LATENT_DIM, generator=random)
    seconds = 0.0
    # One tuple a snapshot: an interrupt finds either all of it or nothing.
    snapshots: list[tuple[dict[str, float], np.ndarray, np.ndarray]] = []
    try:
        for round in tqdm(
            rounds, f"{config['kind']} on {target}", num_rounds, unit="round", leave=False, disable=not progress
        ):
            seconds += round.seconds
            if round.number not in keep:
                continue
            judged = generator.render(torch.randn(NUM_JUDGED, LATENT_DIM, generator=random))
            row = {"round": round.number, "seconds": seconds} | evaluate()
            row |= evaluate_samples(judged, target, dataset=config["dataset"])
            snapshots.append((row, generator.render(shown), judged))
            if progress:
                tqdm.write(_line(row, num_rounds))
    except KeyboardInterrupt:
        if not snapshots:
            raise
        tqdm.write(f"stopped: the record reaches as far as round {snapshots[-1][0]['round']} of {num_rounds}")
    rows, frames, judged_samples = zip(*snapshots, strict=True)
    return AttackRecord(
        samples=np.stack(frames),
        final_samples=judged_samples[-1],
        private_samples=to_uint8(private[:10]),
        rounds=np.array([row["round"] for row in rows]),
        metrics=pd.DataFrame(rows),
        config=config | {"threads": torch.get_num_threads(), "torch": torch.__version__},
    )


def _line(row: dict[str, float], num_rounds: int) -> str:
    return (
        f"round {row['round']:>3}/{num_rounds}  {row['seconds']:4.0f} s  accuracy {row['accuracy']:.3f}  "
        f"recognition {row['recognition']:.2f}  gap closed {row['gap_closed']:5.2f}  diversity {row['diversity']:.2f}"
    )


def check_rounds(rounds: int | None) -> int:
    """The number of rounds, by default 200; raises a ValueError if it is less than 1."""
    rounds = DEFAULT_ROUNDS if rounds is None else rounds
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be at least 1")
    return rounds


def pick_device(device: str) -> torch.device:
    """The device of that name; for `"auto"` a CUDA GPU where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
