"""The attack: a participant with a generator at home, against an otherwise honest federation (Hitaj et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fl_gan_lib.arguments import check_function, check_seed, real_number, truth, whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.datasets import check_target, training_and_test
from fl_gan_lib.federation import Aggregate, Client, Update, federate
from fl_gan_lib.guards import check_generator, check_outputs, count_outputs
from fl_gan_lib.metrics import accuracies
from fl_gan_lib.models import AveragedGenerator, Classifier, Generator
from fl_gan_lib.partitions import split_participants
from fl_gan_lib.recording.checkpoints import Checkpoint
from fl_gan_lib.recording.faults import stop_at_first_faults
from fl_gan_lib.recording.identity import describe, describe_data
from fl_gan_lib.recording.recorder import Recorder, record_rounds, until_interrupted
from fl_gan_lib.records import AttackRecord

DEFAULT_ROUNDS = 200
GENERATOR_STEPS = 12


class GANAttacker(Client):
    """A participant who lacks a class and makes the federation draw it.

    In each round it (1) trains its generator against the model that it received, which serves as the discriminator,
    and (2) adds fresh fakes, labelled "fake", to its own images before the local training that the protocol asks for.
    The victim's next update then has to tell fakes from real ones better, and so gives more away (Hitaj et al. 2017,
    algorithm 1). It holds its own images, what it received, and nothing else.

    While it injects, the global model takes many real images of the target for fakes. So in the last tenth of the
    rounds the attacker does what an honest client does, and its generator stays as it is: the finished model classifies
    the target correctly again.

    Args:
        dataset: the attacker's own images, without the target.
        target: the class to draw, its name or number.
        num_rounds: how many rounds the federation has announced.
        inject: False leaves out (2), the paper's passive attack.
        generator_steps: mini-batches of fakes a round, at least 1.
        fakes_per_image: injected fakes a round for each own image; by default as many as two classes have images where
            the attacker holds nine.
        fake_label: the label of the fakes: by default the number of classes, the spare output of the model; one of the
            attacker's own classes where the model has none.
        make_generator: see `AveragedGenerator`; by default a `Generator` for images of this side.
        client_options: as for `Client`.

    Raises:
        ValueError: there is no such class, the attacker holds images of it, `fake_label` is the target, a number is out
            of range, or the generator draws other images than the data set has.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        target: str | int,
        *,
        num_rounds: int = DEFAULT_ROUNDS,
        inject: bool = True,
        generator_steps: int = GENERATOR_STEPS,
        fakes_per_image: float = 2 / 9,
        fake_label: int | None = None,
        make_generator: Callable[[], nn.Module] | None = None,
        **client_options: Any,
    ) -> None:
        super().__init__(dataset, **client_options)
        self.target = dataset.label_of(target)
        if (dataset.labels == self.target).any():
            raise ValueError(f"the attacker holds images of its target {target}: take them out, or there is no attack")
        spare = len(dataset.classes)
        self.fake_label = spare if fake_label is None else whole_number("fake_label", fake_label, 0, spare)
        if self.fake_label == self.target:
            raise ValueError(f"the fakes cannot be called {self.fake_label}, the target: choose another fake_label")
        self.inject = truth("inject", inject)
        self.generator_steps = whole_number("generator_steps", generator_steps, 1)
        fakes_per_image = real_number("fakes_per_image", fakes_per_image, least=0)
        self.num_fakes = max(round(fakes_per_image * len(dataset)), 1 if fakes_per_image else 0)
        self.active_rounds = count_active_rounds(whole_number("num_rounds", num_rounds, 1))
        make_generator = make_generator or partial(Generator, dataset.side)
        self.generator = AveragedGenerator(self.active_rounds * self.generator_steps, make_model=make_generator)
        check_generator(self.generator, dataset.side)

    def fit(self, global_model: nn.Module, round: int) -> Update:
        """Train the generator on `global_model`, which stays as it is, then train locally on images and fakes."""
        received = self.receive(global_model)
        examples, num_fakes = self.dataset, 0
        if round <= self.active_rounds:
            discriminator = self.make_discriminator(received)
            for _ in range(self.generator_steps):
                self.generator.step(discriminator, self.target)
            if self.inject:
                examples, num_fakes = self.mix_in_fakes(), self.num_fakes
        loss = self.train_locally(examples)
        return self.make_update(global_model, len(self.dataset) + num_fakes, loss)

    def make_discriminator(self, received: nn.Module) -> nn.Module:
        """What the generator trains against in this round: a frozen copy of the model that was received."""
        return copy.deepcopy(received).eval().requires_grad_(False)

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
        images, labels = torch.cat([own.images[mine], fakes]), torch.cat([own.labels[mine], fake_labels])
        return ImageDataset(images, labels)  # no names: fakes are of none of the classes

    def label_fakes(self, num_fakes: int) -> Tensor:
        """The labels under which the fakes are injected: int64 of shape (num_fakes,)."""
        return torch.full((num_fakes,), self.fake_label)

    def check_model(self, model: nn.Module) -> None:
        """As for a `Client`; the model also needs an output for the target, and for the label of the fakes."""
        super().check_model(model)
        num_outputs = count_outputs(model, self.dataset, self.batch_size)
        check_outputs(num_outputs, torch.tensor(self.target), "target")
        if self.inject:
            check_outputs(num_outputs, torch.tensor(self.fake_label), "label of the fakes")

    def lasting_parts(self) -> dict[str, Any]:
        """As for a `Client`, and the generator."""
        return super().lasting_parts() | {
            f"generator.{name}": part for name, part in self.generator.lasting_parts().items()
        }


def build_federation(
    train: ImageDataset,
    target: str | int,
    *,
    num_rounds: int = DEFAULT_ROUNDS,
    inject: bool = True,
    seed: int = 0,
    device: str = "auto",
    make_model: Callable[[], nn.Module] | None = None,
    make_honest: Callable[..., Client] = Client,
    make_attacker: Callable[..., GANAttacker] = GANAttacker,
    client_options: Mapping[str, Any] | None = None,
    **split_options: Any,
) -> tuple[nn.Module, list[Client]]:
    """The global model and the participants of an attack, ready for `federate`.

    Args:
        train: the images to deal out.
        target: the class that the attacker lacks and wants, its name or number.
        num_rounds: how many rounds the federation announces.
        inject: whether the attacker injects its fakes (the active attack).
        seed: of the split and of the weights.
        device: `"cpu"`, `"cuda"`, ... or `"auto"`, a GPU where there is one.
        make_model: makes the model that the federation trains; by default a `Classifier` for these images, with an
            output for each class and one for "fake".
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
    label, seed = train.label_of(target), check_seed(seed)
    make_model = make_model or partial(Classifier, len(train.classes) + 1, side=train.side)
    parts = split_participants(train.labels, label, num_classes=len(train.classes), seed=seed, **split_options)
    datasets = [train.subset(part) for part in parts]
    if not any((dataset.labels == label).any() for dataset in datasets[:-1]):
        raise ValueError(f"no honest client holds an image of {target}: give each more images")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make_model().to(pick_device(device))
        attacker = make_attacker(datasets[-1], target, num_rounds=num_rounds, inject=inject, **options)
    return model, [*(make_honest(dataset, **options) for dataset in datasets[:-1]), attacker]


def run_attack(
    target: str | int = 3,
    *,
    dataset: str | tuple[ImageDataset, ImageDataset] = "mnist-5k",
    rounds: int | None = None,
    num_honest: int = 1,
    inject: bool = True,
    clients_per_round: int | None = None,
    aggregate: Aggregate | None = None,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    num_frames: int = 24,
    quick: bool = False,
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
        target: the class that the attacker lacks and wants: its name, or else its number.
        dataset: a name, see `load_dataset`; or a training and a test set of your own, for instance
            `ImageDataset.from_folder(path).split()`.
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
        quick: before the last round, measure the probe alone (a second a recorded round less).
        watch: called after each round with its number and, where the round was recorded, the record so far.
        path: the file that the record goes to, `.npz`; by default none, and the caller saves it.
        options: as for `build_federation`, for another split, model, attacker or protocol.

    Returns:
        The record. After an interrupt (Ctrl-C, or the stop button) it reaches as far as the last recorded round.

    Raises:
        ValueError: an argument is out of range, or `path` has an unfinished run with other arguments, or a damaged one,
            or something else than a shorter record of the same run; nothing has been trained yet. Or a client fails
            in the first round: then it has a mistake in it.
        OSError: nothing can be written where `path` is; nothing has been trained yet. When that happens later (a full
            disk) there is a warning, and the run goes on.
        FederationError: in a round, no client has sent an update that can be used.
    """
    rounds, seed, inject = check_rounds(rounds), check_seed(seed), truth("inject", inject)
    progress, num_frames = truth("progress", progress), whole_number("num_frames", num_frames, 0)
    makers = {name: value for name, value in options.items() if name.startswith("make_")}
    for name, value in ({"aggregate": aggregate, "watch": watch} | makers).items():
        check_function(name, value)
    if isinstance(options.get("make_model"), nn.Module):
        raise ValueError("make_model is a model: give a function that makes it, for instance lambda: Classifier(11)")
    label = check_target(target, dataset)
    train, test = training_and_test(dataset)
    options["num_honest"] = num_honest
    model, clients = build_federation(
        train, target, num_rounds=rounds, inject=inject, seed=seed, device=device, **options
    )
    *honest, attacker = clients
    protocol = {"clients_per_round": clients_per_round, "aggregate": aggregate}
    config = {"kind": "attack", "target": label, **describe_data(dataset, train.classes)}
    config |= {"rounds": rounds, "seed": seed, "inject": inject}
    config |= {name: describe(value) for name, value in (protocol | options).items() if value is not None}
    config["device"] = str(next(model.parameters()).device)
    private = torch.cat([client.dataset.images_of(train.classes[label]) for client in honest])
    recorder = Recorder(config, private, dataset=dataset, num_frames=num_frames, quick=truth("quick", quick))
    identity = config | {"num_frames": num_frames} | ({"quick": True} if quick else {})
    checkpoint = nullcontext() if path is None else Checkpoint(path, identity, model, clients, recorder)
    with checkpoint, until_interrupted(recorder):
        trained = federate(model, clients, num_rounds=rounds, seed=seed, rounds_done=recorder.rounds_done, **protocol)
        trained = stop_at_first_faults(trained)
        evaluate = partial(accuracies, model, test, label)
        for number, record in record_rounds(trained, recorder, attacker.generator, evaluate, progress=progress):
            if path is not None:
                checkpoint.save()
            if watch:
                watch(number, record)
    return recorder.record()


def check_rounds(rounds: int | None) -> int:
    """The number of rounds, by default 200; raises a ValueError if it is no whole number, or less than 1."""
    return DEFAULT_ROUNDS if rounds is None else whole_number("rounds", rounds, 1)


def count_active_rounds(num_rounds: int) -> int:
    """In how many of the rounds the generator is trained: in all but the last tenth."""
    return num_rounds - round(num_rounds / 10)


def pick_device(device: str) -> torch.device:
    """The device of that name, checked; for `"auto"` a CUDA GPU where there is one, else the CPU."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device is {device!r}: use 'auto', 'cpu', or another that torch has here ({reason})"
        ) from error
