import copy
import gc
import types
from functools import partial

import numpy as np
import pytest
import torch

from fl_gan_lib import attack
from fl_gan_lib.attack import GANAttacker, build_federation, run_attack
from fl_gan_lib.data import from_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.defences import PartialDownloadClient, PrivateMean, WithholdingClient
from fl_gan_lib.federation import Client
from fl_gan_lib.metrics import evaluate_samples
from fl_gan_lib.models import AveragedGenerator, Classifier, Generator
from fl_gan_lib.partitions import split_participants
from fl_gan_lib.recording import states
from fl_gan_lib.recording.recorder import snapshot_rounds
from fl_gan_lib.records import AttackRecord, summarise


@pytest.fixture
def own_images(tiny_dataset):
    return tiny_dataset.subset(torch.where(tiny_dataset.labels != 3)[0])


def test_the_generators_steps_leave_the_received_model_untouched(own_images):
    model = Classifier()
    before = copy.deepcopy(model.state_dict())
    GANAttacker(own_images, 3, num_rounds=2).fit(model, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


def test_the_generator_lasts_from_round_to_round(own_images):
    attacker = GANAttacker(own_images, 3, num_rounds=4, generator_steps=5)
    model = Classifier()
    attacker.fit(model, 1)
    after_one = copy.deepcopy(attacker.generator.model.state_dict())
    attacker.fit(model, 2)
    assert attacker.generator.average.n_averaged == 10
    assert not torch.equal(after_one["0.weight"], attacker.generator.model.state_dict()["0.weight"])


def test_injection_teaches_the_update_what_fake_looks_like():
    train, _ = load_dataset()
    own = train.subset(split_participants(train.labels, 3)[1])

    def fake_shares(inject: bool) -> tuple[float, float]:
        torch.manual_seed(0)
        model = Classifier()
        attacker = GANAttacker(own, 3, num_rounds=5, inject=inject, local_steps=30)
        update = attacker.fit(model, 1)
        assert update.num_examples == len(own) + (attacker.num_fakes if inject else 0)
        assert set(update.metrics) == {"loss"}, "an attacker reports no more than an honest client"
        model.load_state_dict(update.state)
        called_fake = [model(images).argmax(1) == 10 for images in (attacker.generator.draw(100), own.images)]
        return tuple(share.float().mean().item() for share in called_fake)

    fakes, real = fake_shares(inject=True)
    assert fakes > 0.9 and real < 0.1
    fakes, real = fake_shares(inject=False)
    assert fakes < 0.1 and real < 0.1


def test_in_the_last_tenth_of_the_rounds_the_attacker_does_as_an_honest_client_does(own_images):
    model = Classifier()
    attacker = GANAttacker(own_images, 3, num_rounds=20, generator_steps=1)
    examples = [attacker.fit(model, round).num_examples - len(own_images) for round in (1, 18, 19, 20)]
    assert examples == [20, 20, 0, 0]
    assert attacker.generator.average.n_averaged == 2
    states = []
    for client in (GANAttacker(own_images, 3, num_rounds=20), Client(own_images)):
        torch.manual_seed(0)
        states.append(client.fit(model, 19).state)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_the_attacker_reaches_nothing_of_the_victims():
    train, _ = load_dataset()
    model, (victim, client) = build_federation(train, 3, num_rounds=1)
    client.fit(model, 1)
    seen, todo, memory = set(), [client], set()
    while todo:
        for thing in gc.get_referents(todo.pop()):
            if id(thing) in seen or isinstance(thing, (type, types.ModuleType, types.FunctionType)):
                continue
            seen.add(id(thing))
            todo.append(thing)
            if isinstance(thing, torch.Tensor):
                memory.add(thing.untyped_storage().data_ptr())
    assert client.dataset.images.untyped_storage().data_ptr() in memory
    assert client.generator.model[0].weight.untyped_storage().data_ptr() in memory
    for dataset in (train, victim.dataset):
        assert dataset.images.untyped_storage().data_ptr() not in memory
    assert 3 not in client.dataset.labels


def test_the_two_splits():
    labels = torch.arange(10).repeat(20)
    victim, attacker = split_participants(labels, 3)
    assert set(labels[victim].tolist()) == set(range(10))
    assert set(labels[attacker].tolist()) == set(range(10)) - {3}
    victim, attacker = split_participants(labels, 3, split="paper")
    assert set(labels[victim].tolist()) == set(range(5)) and set(labels[attacker].tolist()) == set(range(5, 10))
    assert len(split_participants(labels, 3, num_honest=4)) == 5


def test_some_of_the_honest_clients_may_lack_the_target_too():
    labels = torch.arange(10).repeat(20)
    parts = split_participants(labels, 3, num_honest=4, num_without_target=2, target_images=5)
    assert [int((labels[part] == 3).sum()) for part in parts] == [5, 5, 0, 0, 0]
    assert all(set(labels[part].tolist()) >= set(range(10)) - {3} for part in parts)


def test_participants_can_be_given_fewer_images():
    labels = torch.arange(10).repeat(20)
    whole = split_participants(labels, 3)
    victim, attacker = split_participants(labels, 3, target_images=5)
    assert sum(labels[victim] == 3) == 5 and len(victim) == len(whole[0]) - 15
    assert np.array_equal(attacker, whole[1]) and set(victim) < set(whole[0])
    parts = split_participants(labels, 3, num_honest=2, images_per_client=30)
    assert [len(part) for part in parts] == [30, 30, 30]
    assert 3 not in labels[parts[-1]]


def test_another_fake_label_is_injected_where_the_model_has_ten_outputs(own_images):
    attacker = GANAttacker(own_images, 3, num_rounds=10, generator_steps=1, fake_label=0)
    labels = attacker.mix_in_fakes().labels
    assert labels.max() == 9 and sum(labels == 0) > sum(own_images.labels == 0)
    update = attacker.fit(Classifier(10), 1)
    assert update.state["9.weight"].shape == (10, 128)


def test_only_the_examples_of_the_mini_batches_are_drawn(own_images):
    attacker = GANAttacker(own_images, 3, num_rounds=10, local_steps=1, batch_size=40)
    mixed = attacker.mix_in_fakes()
    assert len(mixed.images) == len(mixed.labels) == 40 and 0 < sum(mixed.labels == 10) < 40
    mixed = GANAttacker(own_images, 3, num_rounds=10).mix_in_fakes()
    assert len(mixed) == len(own_images) + 20 and sum(mixed.labels == 10) == 20


def test_recorded_rounds_are_dense_at_first_and_end_with_the_last():
    assert snapshot_rounds(1) == [1] and snapshot_rounds(200, 1)[-1] == 200
    assert snapshot_rounds(3) == [1, 2, 3]
    rounds = snapshot_rounds(200)
    assert rounds[:4] == [1, 2, 3, 4] and rounds[-1] == 200 and 18 <= len(rounds) <= 24


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        *(({"target": target}, "target is .* it must be") for target in (10, -1, 3.0, True, "house", None, [3])),
        *(({"rounds": rounds}, "rounds is .* whole number of at least 1") for rounds in (0, 1.0, "1", True)),
        *(({"seed": seed}, "seed is .* whole number from 0 to") for seed in (-1, 0.0, None, "0")),
        *(({"inject": inject}, "inject is .* True or False") for inject in (0, "False", None)),
        ({"num_frames": 2.5}, "num_frames is 2.5"),
        ({"clients_per_round": 3}, "clients_per_round is 3: it must be a whole number from 1 to 2"),
        ({"device": "tpu-of-nobody"}, "device is 'tpu-of-nobody': use 'auto', 'cpu'"),
        ({"client_options": {"batch_size": 0}}, "batch_size is 0"),
        ({"make_attacker": partial(GANAttacker, generator_steps=0)}, "generator_steps is 0"),
        ({"make_attacker": partial(GANAttacker, fakes_per_image=-1)}, "fakes_per_image is -1"),
        ({"make_attacker": partial(GANAttacker, fake_label=3)}, "cannot be called 3, the target"),
        ({"make_attacker": partial(GANAttacker, fake_label=11)}, "fake_label is 11"),
        (
            {"make_attacker": partial(GANAttacker, make_generator=lambda: Generator(32))},
            "draws images of shape",
        ),
        ({"make_model": partial(Classifier, 10)}, "client 1 .* label of the fakes 10, and the model has 10 outputs"),
        ({"make_model": partial(Classifier, 9)}, "client 0 .* label 9, and the model has 9 outputs"),
        ({"make_model": partial(Classifier, side=32)}, "the model cannot take images of shape"),
        ({"dataset": "cifar"}, "unknown data set"),
        ({"num_honest": 0}, "num_honest is 0"),
        ({"num_honest": 2, "num_without_target": 2}, "num_without_target is 2: it must be a whole number from 0 to 1"),
        ({"num_without_target": -1}, "num_without_target is -1"),
        ({"split": "half"}, "split is 'half'"),
        ({"split": "paper", "target": 7}, "nobody but the attacker holds 7"),
        ({"target_images": 401}, "target_images is 401"),
        ({"images_per_client": 0}, "images_per_client is 0"),
        ({"make_honest": partial(PartialDownloadClient, download_fraction=0)}, "fraction is 0"),
    ],
)
def test_bad_arguments_are_refused_before_any_training(arguments, message, monkeypatch):
    monkeypatch.setattr(Client, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=message):
        run_attack(**({"rounds": 1, "progress": False} | arguments))


def test_numbers_of_numpy_go_into_the_record(tmp_path):
    record = run_attack(np.int64(3), rounds=np.int32(1), seed=np.int64(0), progress=False, path=tmp_path / "a.npz")
    assert AttackRecord.load(tmp_path / "a.npz").config == record.config


@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_a_generator_that_goes_on_is_on_the_federations_device_before_its_optimiser_is(own_images, monkeypatch):
    saved = states.dump(trained(own_images).lasting_parts())
    attacker, steps = GANAttacker(own_images, 3, num_rounds=2), []
    monkeypatch.setattr(AveragedGenerator, "to", lambda _, device: steps.append(device.type))
    monkeypatch.setattr(torch.optim.Adam, "load_state_dict", lambda *_: steps.append("load"))
    states.load_client(saved, attacker, Classifier().to("meta"))
    assert steps == ["meta", "load", "load"]


def trained(own_images) -> GANAttacker:
    attacker = GANAttacker(own_images, 3, num_rounds=2)
    attacker.fit(Classifier(), 1)
    return attacker


def test_an_attacker_who_holds_the_target_is_refused(tiny_dataset):
    with pytest.raises(ValueError, match="holds images of its target 3"):
        GANAttacker(tiny_dataset, 3)


def test_fakes_called_the_target_are_refused(own_images):
    with pytest.raises(ValueError, match="cannot be called 3, the target"):
        GANAttacker(own_images, 3, fake_label=3)


def test_same_seed_same_bits_and_the_record_can_be_judged_again():
    torch.manual_seed(1)
    first = run_attack(4, rounds=3, device="cpu", progress=False)
    torch.manual_seed(2)
    second = run_attack(4, rounds=3, device="cpu", progress=False)
    assert np.array_equal(first.samples, second.samples)
    assert np.array_equal(first.final_samples, second.final_samples)
    assert first.metrics.drop(columns="seconds").equals(second.metrics.drop(columns="seconds"))
    other_seed = run_attack(4, rounds=3, seed=1, device="cpu", progress=False)
    assert not np.array_equal(first.samples, other_seed.samples)

    assert first.rounds.tolist() == first.metrics["round"].tolist() == [1, 2, 3]
    assert first.samples.shape == (3, 20, 28, 28) and first.final_samples.shape == (500, 28, 28)
    scores = evaluate_samples(first.final_samples, 4)
    assert scores == pytest.approx(first.metrics.iloc[-1][list(scores)].to_dict())
    assert first.target == 4 and first.config["seed"] == 0


def test_an_interrupt_leaves_a_record_of_the_rounds_so_far(monkeypatch, capsys):
    federate = attack.federate

    def interrupted(*args, **kwargs):
        for round in federate(*args, **kwargs):
            if round.number == 3:
                raise KeyboardInterrupt
            yield round

    monkeypatch.setattr(attack, "federate", interrupted)
    record = run_attack(3, rounds=20, progress=False)
    assert record.rounds.tolist() == [1, 2]
    assert "as far as round 2 of 20" in capsys.readouterr().out


def test_more_honest_clients_and_the_papers_split_run():
    record = run_attack(2, rounds=2, num_honest=3, split="paper", inject=False, progress=False)
    assert record.config["num_honest"] == 3 and record.config["split"] == "paper"
    assert len(record.rounds) == 2


def test_the_copy_ratio_is_of_the_images_that_the_honest_clients_really_hold():
    few = run_attack(3, rounds=1, target_images=10, progress=False)
    assert few.metrics["copy_ratio"].iloc[-1] == pytest.approx(
        evaluate_samples(few.final_samples, 3, members=from_uint8(few.private_samples))["copy_ratio"], abs=1e-3
    )
    assert few.config["target_images"] == 10


@pytest.mark.needs_mnist
def test_all_of_mnist_runs():
    record = run_attack(9, dataset="mnist", rounds=2, progress=False)
    assert record.config["dataset"] == "mnist" and record.metrics["frechet_other"].iloc[0] > 100


def test_thirty_rounds_already_show_the_digit():
    last = run_attack(3, rounds=30, progress=False).metrics.iloc[-1]
    assert last["recognition"] > 0.9
    assert last["probe"] > 0.8
    assert last["copy_ratio"] > 0.9


def test_a_watcher_gets_each_round_and_the_record_so_far():
    seen = []
    record = run_attack(3, rounds=3, num_frames=2, progress=False, watch=lambda *news: seen.append(news))
    assert [(round, so_far and so_far.rounds.tolist()) for round, so_far in seen] == [(1, [1]), (2, None), (3, [1, 3])]
    assert np.array_equal(seen[-1][1].final_samples, record.final_samples)


def test_clients_and_server_may_defend_themselves_and_the_record_says_how():
    record = run_attack(
        5,
        rounds=1,
        device="cpu",
        progress=False,
        make_honest=partial(WithholdingClient, target=5),
        aggregate=PrivateMean(max_norm=0.5, noise_multiplier=0.1),
    )
    assert record.config["aggregate"] == "PrivateMean(max_norm=0.5, noise_multiplier=0.1)"
    assert "WithholdingClient" in record.config["make_honest"]
    assert record.metrics["target_accuracy"].item() == 0
    _, clients = build_federation(load_dataset()[0], 5, make_honest=partial(WithholdingClient, target=5))
    assert isinstance(clients[0], WithholdingClient) and isinstance(clients[1], GANAttacker)


class Late(Client):
    def fit(self, global_model, round):
        if round > 1:
            raise KeyError("the disk of this client")
        return super().fit(global_model, round)


@pytest.mark.filterwarnings("ignore:left out")
def test_a_client_that_is_left_out_later_leaves_a_trace_in_the_record(tmp_path):
    options = {"make_honest": Late, "num_frames": 2, "progress": False, "device": "cpu", "path": tmp_path / "late.npz"}

    def stop(number: int, record: AttackRecord | None) -> None:
        if number == 3:
            raise KeyError("stopped")

    with pytest.raises(KeyError, match="stopped"):
        run_attack(3, rounds=4, watch=stop, **options)
    record = run_attack(3, rounds=4, **options)
    assert record.config["left_out"] == {"0": 3}
    assert summarise(AttackRecord.load(options["path"])).endswith(
        "Client 0 was left out in 3 rounds: its updates could not be used."
    )


class Counting(Client):
    turns = 0

    def lasting_parts(self):
        return super().lasting_parts() | {"turns": self.turns}


def test_what_cannot_be_saved_is_refused_before_anything_is_trained(tmp_path):
    with pytest.raises(ValueError, match="lasting_parts names turns, of type int, which has no state_dict"):
        run_attack(3, rounds=1, make_honest=Counting, progress=False, path=tmp_path / "counting.npz")
    assert not list(tmp_path.glob("counting.*"))
