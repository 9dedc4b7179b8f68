"""The attack: a participant with a generator at home, against an otherwise honest federation (Hitaj et al. 2017)."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fl_gan_lib.data import ImageDataset, check_digit
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Aggregate, Client, Update, federate
from fl_gan_lib.metrics import accuracies
from fl_gan_lib.models import FAKE_LABEL, AveragedGenerator, Classifier, Generator
from fl_gan_lib.partitions import split_participants
from fl_gan_lib.recording.checkpoints import Checkpoint
from fl_gan_lib.recording.recorder import Recorder, record_rounds, until_interrupted
from fl_gan_lib.records import AttackRecord

DEFAULT_ROUNDS = 200
GENERATOR_STEPS = 12


class GANAttacker(Client):
    """A participant who lacks a digit and makes the federation draw it.

    In each round it (1) trains its generator against the model that it received, which serves as the discriminator,
    and (2) adds fresh fakes, labelled "fake", to its own images before the local training that the protocol asks for.
    The victim's next update then has to tell fakes from real ones better, and so gives more away (Hitaj et al. 2017,
    algorithm 1). It holds its own images, what it received, and nothing else.

    While it injects, the global model takes many real images of the target for fakes. So in the last tenth of the
    rounds the attacker does what an honest client does, and its generator stays as it is: the finished model classifies
    the target correctly again.

    Args:
        dataset: the attacker's own images, without the target.
        target: the digit to draw, 0 to 9.
        num_rounds: how many rounds the federation has announced.
        inject: False leaves out (2), the paper's passive attack.
        generator_steps: mini-batches of fakes a round.
        fakes_per_image: injected fakes a round for each own image; by default as many as two classes of the attacker's
            nine have images.
        fake_label: the label of the fakes; one of the attacker's own digits where the model has no spare output.
        make_generator: see `AveragedGenerator`.
        client_options: as for `Client`.

    Raises:
        ValueError: the target is no digit, the attacker holds images of it, or `fake_label` is the target.
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
        fake_label: int = FAKE_LABEL,
        make_generator: Callable[[], nn.Module] = Generator,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, **client_options)
        check_digit(target)
        if len(dataset.images_of(target)):
            raise ValueError(f"the attacker holds images of its target {target}: take them out, or there is no attack")
        if fake_label == target:
            raise ValueError(f"the fakes cannot be called {fake_label}, the target: choose another fake_label")
        self.target = target
        self.inject = inject
        self.generator_steps = generator_steps
        self.num_fakes = round(fakes_per_image * len(dataset))
        self.fake_label = fake_label
        self.active_rounds = count_active_rounds(num_rounds)
        self.generator = AveragedGenerator(self.active_rounds * generator_steps, make_model=make_generator)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """Train the generator on `global_model`, which stays as it is, then train locally on images and fakes."""
        received = self.receive(global_model)
        examples, num_fakes = self.dataset, 0
        if round <= self.active_rounds:
            discriminator = copy.deepcopy(received).eval().requires_grad_(False)
            for _ in range(self.generator_steps):
                self.generator.step(discriminator, self.target)
            if self.inject:
                examples, num_fakes = self.mix_in_fakes(), self.num_fakes
        loss = self.train_locally(examples)
        return self.make_update(global_model, len(self.dataset) + num_fakes, loss)

    def receive(self, global_model: nn.Module) -> nn.Module:
        """As for a `Client`; the generator moves to the device of the model."""
        received = super().receive(global_model)
        self.generator.to(next(received.parameters()).device)
        return received

    def mix_in_fakes(self) -> ImageDataset:
        """The images for this round's training: drawn at random from own images and fakes, as many as are needed."""
        own = self.dataset
        # Numbers from len(own) on stand for fakes, of which only those that are picked are drawn.
        picked = torch.randperm(len(own) + self.num_fakes)[: self.local_steps * self.batch_size]
        mine = picked[picked < len(own)].to(own.labels.device)
        fakes = self.generator.draw(len(picked) - len(mine))
        fake_labels = self.label_fakes(len(fakes)).to(own.labels.device)
        return ImageDataset(torch.cat([own.images[mine], fakes]), torch.cat([own.labels[mine], fake_labels]))

    def label_fakes(self, num_fakes: int) -> Tensor:
        """The labels under which the fakes are injected: int64 of shape (num_fakes,)."""
        return torch.full((num_fakes,), self.fake_label)

    def lasting_parts(self) -> dict[str, Any]:
        """As for a `Client`, and the generator."""
        return super().lasting_parts() | {
            f"generator.{name}": part for name, part in self.generator.lasting_parts().items()
        }


def build_federation(
    train: ImageDataset,
    target: int,
    *,
    num_rounds: int = DEFAULT_ROUNDS,
    inject: bool = True,
    seed: int = 0,
    device: str = "auto",
    make_model: Callable[[], nn.Module] = Classifier,
    make_honest: Callable[..., Client] = Client,
    make_attacker: Callable[..., GANAttacker] = GANAttacker,
    client_options: Mapping[str, Any] | None = None,
    **split_options: Any,
) -> tuple[nn.Module, list[Client]]:
    """The global model and the participants of an attack, ready for `federate`.

    Args:
        train: the images to deal out.
        target: the digit that the attacker lacks and wants, 0 to 9.
        num_rounds: how many rounds the federation announces.
        inject: whether the attacker injects its fakes (the active attack).
        seed: of the split and of the weights.
        device: `"cpu"`, `"cuda"`, ... or `"auto"`, a GPU where there is one.
        make_model: the model that the federation trains.
        make_honest: called like `Client`; for what the honest clients do to protect themselves, see `defences`.
        make_attacker: called like `GANAttacker`.
        client_options: for each participant, the attacker included, as for `Client`.
        split_options: as for `split_participants`.

    Returns:
        The model, and the clients: the honest ones and, last, the attacker. Each holds its own copy of its images.

    Raises:
        ValueError: an argument is out of range, or no honest client holds the target.
    """
    options = dict(client_options or {})
    parts = split_participants(train.labels, target, seed=seed, **split_options)
    datasets = [train.subset(part) for part in parts]
    if not any(len(dataset.images_of(target)) for dataset in datasets[:-1]):
        raise ValueError(f"no honest client holds an image of {target}: give each more images")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model().to(pick_device(device))
        attacker = make_attacker(datasets[-1], target, num_rounds=num_rounds, inject=inject, **options)
    return model, [*(make_honest(dataset, **options) for dataset in datasets[:-1]), attacker]


def run_attack(
    target: int = 3,
    *,
    dataset: str = "mnist-5k",
    rounds: int | None = None,
    num_honest: int = 1,
    inject: bool = True,
    clients_per_round: int | None = None,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    num_frames: int = 24,
    watch: Callable[[int, AttackRecord | None], None] | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> AttackRecord:
    """Run the whole attack: load the data, deal it out, train the federation, and measure what leaks.

    With a `path` the run can be interrupted at any moment, also by a crash or `kill -9`, and goes on where it was when
    it is called again with the same arguments: no more than the round in hand is lost, and the record ends in the same
    bits as without the interruption. Until it is finished, what that needs is in a file of the same name that ends in
    `.partial` (some 2 MB a client, written after each round).

    Args:
        target: the digit that the attacker lacks and wants, 0 to 9.
        dataset: `"mnist-5k"` or `"mnist"`, see `load_dataset`.
        rounds: of federated averaging; by default 200.
        num_honest: honest clients, see `split_participants`.
        inject: whether the attacker injects its fakes (the active attack).
        clients_per_round: how many participants the server draws for each round, the attacker among them or not; by
            default all take part.
        aggregate: how the server makes one model of the updates; by default `fedavg`.
        seed: of the split, the weights and every round. On a CPU, the same seed, machine and number of threads give the
            same bits.
        device: `"cpu"`, `"cuda"`, ... or `"auto"`, a GPU where there is one.
        progress: show a bar, and a line for each recorded round.
        num_frames: how many rounds to record at the most, see `recording.recorder.snapshot_rounds`.
        watch: called after each round with its number and, where the round was recorded, the record so far.
        path: the file that the record goes to, `.npz`; by default none, and the caller saves it.
        options: as for `build_federation`, for another split, model, attacker or protocol.

    Returns:
        The record. After an interrupt (Ctrl-C, or the stop button) it reaches as far as the last recorded round.

    Raises:
        ValueError: an argument is out of range, or `path` has an unfinished run with other arguments, or a damaged one;
            nothing has been trained yet.
        OSError: nothing can be written where `path` is; nothing has been trained yet. When that happens later (a full
            disk) there is a warning, and the run goes on.
        FederationError: in a round, no client has sent an update that can be used.
    """
    # NumPy's integers do not go into a record.
    rounds, target, seed = check_rounds(rounds), check_digit(target), index(seed)
    train, test = load_dataset(dataset)
    options["num_honest"] = num_honest
    model, clients = build_federation(
        train, target, num_rounds=rounds, inject=inject, seed=seed, device=device, **options
    )
    *honest, attacker = clients
    protocol = {"clients_per_round": clients_per_round, "aggregate": aggregate}
    config = {"kind": "attack", "target": target, "dataset": dataset, "rounds": rounds, "seed": seed, "inject": inject}
    config |= describe_options({name: value for name, value in protocol.items() if value is not None} | options)
    config["device"] = str(next(model.parameters()).device)
    private = torch.cat([client.dataset.images_of(target) for client in honest])
    recorder = Recorder(config, private, num_frames=num_frames)
    identity = config | {"num_frames": num_frames}
    checkpoint = Checkpoint(path, identity, model, clients, recorder) if path else nullcontext()
    with checkpoint, until_interrupted(recorder):
        trained = federate(model, clients, num_rounds=rounds, seed=seed, rounds_done=recorder.rounds_done, **protocol)
        evaluate = partial(accuracies, model, test, target)
        for number, record in record_rounds(trained, recorder, attacker.generator, evaluate, progress=progress):
            if path:
                checkpoint.save()
            if watch:
                watch(number, record)
    return recorder.record()


def describe_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they go into a record: whole numbers as they are, the rest in words that are the same everywhere."""
    return {
        name: index(value) if isinstance(value, Integral) else re.sub(r" at 0x[0-9a-f]+", "", str(value))
        for name, value in options.items()
    }


def check_rounds(rounds: int | None) -> int:
    """The number of rounds, by default 200; raises a ValueError if it is less than 1, a TypeError if not whole."""
    rounds = DEFAULT_ROUNDS if rounds is None else index(rounds)
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}: it must be at least 1")
    return rounds


def count_active_rounds(num_rounds: int) -> int:
    """In how many of the rounds the generator is trained: in all but the last tenth."""
    return num_rounds - round(num_rounds / 10)


def pick_device(device: str) -> torch.device:
    """The device of that name; for `"auto"` a CUDA GPU where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)
