"""What does not fit is named before it costs a run, and nothing is changed behind anybody's back."""

import random
import re
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fl_gan_lib import run_attack
from fl_gan_lib.attack import GANAttacker, build_federation
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8
from fl_gan_lib.defences import ClipAndNoise, KeepLargest, Krum, PrivateMean, TrimmedMean, coordinate_median
from fl_gan_lib.federation import Client, Update, fedavg, federate
from fl_gan_lib.metrics import accuracy, evaluate_samples, yardsticks
from fl_gan_lib.models import Classifier, Generator
from fl_gan_lib.studies.baselines import run_oracle


def with_batch_norm() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 11))


def states_equal(first: dict, second: dict) -> bool:
    return all(torch.equal(tensor, second[name]) for name, tensor in first.items())


@pytest.mark.parametrize("name", ["local_steps", "batch_size"])
@pytest.mark.parametrize("value", [0, -1, 2.5, 1.0, True, "8", None, [8], np.nan])
def test_a_client_refuses_what_is_no_number_of_steps_or_images(tiny_dataset, name, value):
    with pytest.raises(ValueError, match=f"{name} is {re.escape(repr(value))}: it must be a whole number"):
        Client(tiny_dataset, **{name: value})


@pytest.mark.parametrize("value", [0, -1e-3, np.nan, np.inf, "fast", None, True])
def test_a_client_refuses_what_is_no_learning_rate(tiny_dataset, value):
    with pytest.raises(ValueError, match="learning_rate is"):
        Client(tiny_dataset, learning_rate=value)


def test_a_client_needs_a_data_set(tiny_dataset):
    with pytest.raises(ValueError, match="dataset is of type tuple: a client needs an ImageDataset"):
        Client((tiny_dataset.images, tiny_dataset.labels))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: Classifier(9), "client 0 cannot take part: there is the label 9, and the model has 9 outputs, 0 to 8"),
        (lambda: Classifier(side=32), r"the model cannot take images of shape \(2, 1, 28, 28\)"),
        (lambda: nn.Flatten(0), r"the model makes \(1568,\) of 2 images: it must return logits"),
        (lambda: nn.Identity(), r"the model makes \(2, 1, 28, 28\) of 2 images"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_the_first_round(tiny_dataset, model, message, monkeypatch):
    monkeypatch.setattr(Client, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=message):
        federate(model(), [Client(tiny_dataset)], num_rounds=1)


def test_batch_norm_is_refused_where_mini_batches_have_one_image(tiny_dataset):
    for client in (Client(tiny_dataset, batch_size=1), Client(tiny_dataset.subset([0]))):
        with pytest.raises(ValueError, match=r"client 0 .* more than 1 value per channel"):
            federate(with_batch_norm(), [client], num_rounds=1)


def test_the_last_mini_batch_is_never_of_one_image(tiny_dataset):
    few = tiny_dataset.subset(range(33))
    (round,) = federate(with_batch_norm(), [Client(few)], num_rounds=1)
    assert not round.faults


def test_batch_norms_statistics_are_averaged_whatever_is_done_to_the_weights(tiny_dataset):
    counted = []
    for protect in (None, KeepLargest(0.999)):
        model = with_batch_norm()
        list(federate(model, [Client(tiny_dataset, protect=protect, local_steps=3)], num_rounds=2))
        counted.append((model[2].num_batches_tracked.item(), model[2].running_mean.abs().max().item()))
    assert counted[0][0] == counted[1][0] == 6 and counted[1][1] > 0


@pytest.mark.parametrize("make", [lambda: PrivateMean(1.0, 0.0), lambda: ClipAndNoise(1.0, 0.0)])
def test_what_would_share_statistics_unprotected_is_refused(tiny_dataset, make):
    rule = make()
    server = isinstance(rule, PrivateMean)
    clients = [Client(tiny_dataset, protect=None if server else rule) for _ in range(2)]
    with pytest.raises(ValueError, match=r"buffers 2\.running_mean"):
        federate(with_batch_norm(), clients, num_rounds=1, aggregate=rule if server else None)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda state: None, "aggregate returned is of type NoneType"),
        (lambda state: {"a": 1}, "aggregate returned is of type dict, and must be a state: tensors by name"),
        (lambda state: dict(list(state.items())[1:]), r"names or shapes of \['0.weight'\]"),
        (lambda state: state | {"0.weight": state["0.weight"][:1]}, r"names or shapes of \['0.weight'\]"),
        (lambda state: state | {"0.bias": state["0.bias"] * torch.nan}, r"NaN or infinity in \['0.bias'\]"),
    ],
)
def test_what_cannot_be_a_global_state_leaves_the_model_as_it_was(tiny_dataset, returned, message):
    model = Classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        list(federate(model, [Client(tiny_dataset)], num_rounds=1, aggregate=lambda _, state: returned(state)))
    assert states_equal(before, model.state_dict())


def test_an_aggregation_may_go_through_the_updates_twice_and_write_into_what_it_gets(tiny_dataset):
    def running_mean(updates, state):
        for number, update in enumerate(updates, 1):
            for name, tensor in state.items():
                tensor.copy_(update.state[name]) if number == 1 else tensor.add_((update.state[name] - tensor) / number)
        return state

    def by_examples(updates, state):
        total = sum(update.num_examples for update in updates)
        for update in updates:
            for name in update.state:
                update.state[name].mul_(update.num_examples / total)
        return {name: sum(update.state[name] for update in updates) for name in state}

    def run(aggregate):
        torch.manual_seed(0)
        model = Classifier()
        clients = [Client(tiny_dataset.subset(range(start, 100, 4))) for start in range(4)]
        list(federate(model, clients, num_rounds=2, aggregate=aggregate))
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    plain = run(None)
    for aggregate in (running_mean, by_examples):
        torch.testing.assert_close(run(aggregate), plain, atol=1e-5, rtol=0)


def test_clients_that_have_trained_begin_no_other_federation(tiny_dataset):
    model, clients = Classifier(), [Client(tiny_dataset, local_steps=1)]
    list(federate(model, clients, num_rounds=1))
    with pytest.raises(ValueError, match=r"client 0 has trained in another federation.*make new clients"):
        federate(Classifier(), clients, num_rounds=1)
    assert next(federate(model, clients, num_rounds=2, rounds_done=1)).number == 2


@pytest.mark.parametrize("draw", [lambda: np.random.rand(), random.random, lambda: torch.rand(()).item()])
def test_a_client_that_draws_random_numbers_of_any_kind_is_repeatable(tiny_dataset, draw):
    drawn = []

    class Drawing(Client):
        def train_locally(self, dataset):
            drawn.append(draw())
            return super().train_locally(dataset)

    def outside():
        return np.random.rand(), random.random(), torch.rand(()).item()

    model = Classifier()
    np.random.seed(1), random.seed(1), torch.manual_seed(1)
    expected = outside()
    np.random.seed(1), random.seed(1), torch.manual_seed(1)
    list(federate(model, [Drawing(tiny_dataset), Drawing(tiny_dataset)], num_rounds=2))
    assert outside() == expected, "the caller's random numbers are as they were"
    list(federate(model, [Drawing(tiny_dataset), Drawing(tiny_dataset)], num_rounds=2))
    assert drawn[:4] == drawn[4:] and len(set(drawn)) == 4


class WithoutFloat64(TorchDispatchMode):
    """Imitates a device that has no float64, such as a Mac's GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if any(torch.is_tensor(leaf) and leaf.dtype == torch.float64 for leaf in tree_leaves(out)):
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return out


@pytest.mark.parametrize("aggregate", [None, TrimmedMean(3, 1)])
def test_a_round_needs_no_float64(tiny_dataset, aggregate):
    own = tiny_dataset.subset(tiny_dataset.labels != 3)
    clients = [Client(tiny_dataset), Client(tiny_dataset), GANAttacker(own, 3, num_rounds=2)]
    with WithoutFloat64():
        (round,) = federate(Classifier(), clients, num_rounds=1, aggregate=aggregate)
    assert not round.faults


def test_equal_updates_are_equal():
    state = {"w": torch.ones(3)}
    assert Update(state, 2) == Update({"w": torch.ones(3)}, 2) != Update(state, 3)
    assert Update(state, 2) != Update({"v": torch.ones(3)}, 2) and Update(state, 2) != Update({"w": torch.zeros(3)}, 2)


def power_cut(*_):
    raise RuntimeError("power cut")


def local_client(steps: int):
    return lambda dataset, **options: Client(dataset, local_steps=steps, **options)


class Patient(Client):
    def train_locally(self, dataset):
        return super().train_locally(dataset)


class Hasty(Client):
    def train_locally(self, dataset):
        self.local_steps = 1
        return super().train_locally(dataset)


Hasty.__qualname__ = "Patient"  # as when a cell is edited and run again


class Loud(Client):
    steps = 2

    def train_locally(self, dataset):
        self.local_steps = self.steps
        return super().train_locally(dataset)


class Louder(Loud):
    steps = 3


Louder.__qualname__ = "Loud"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"make_honest": lambda data, **options: Client(data, local_steps=2, **options)}, {}),
        ({"make_honest": local_client(2)}, {"make_honest": local_client(3)}),
        ({"make_honest": Patient}, {"make_honest": Hasty}),
        ({"make_honest": Loud}, {"make_honest": Louder}),
        ({"make_honest": partial(Client, local_steps=2)}, {"make_honest": partial(Client, local_steps=3)}),
        (
            {"aggregate": lambda updates, state: updates[0].state},
            {"aggregate": lambda updates, state: updates[-1].state},
        ),
        ({"client_options": {"local_steps": 2}}, {"client_options": {"local_steps": 3}}),
        ({"client_options": {"protect": KeepLargest(0.1)}}, {"client_options": {"protect": KeepLargest(0.2)}}),
    ],
)
def test_an_interrupted_run_does_not_go_on_with_another_option(first, second, tmp_path):
    run = partial(run_attack, 3, rounds=2, num_frames=1, progress=False, device="cpu", path=tmp_path / "attack_3.npz")
    with pytest.raises(RuntimeError, match="power cut"):
        run(watch=power_cut, **first)
    with pytest.raises(ValueError, match="another run, which is unfinished"):
        run(**second)
    with pytest.raises(RuntimeError, match="power cut"):
        run(watch=power_cut, **first)


def test_a_finished_record_is_not_replaced_by_a_shorter_one(tmp_path, monkeypatch):
    run = partial(run_attack, 3, num_frames=1, progress=False, device="cpu", path=tmp_path / "attack_3.npz")
    run(rounds=2)
    whole = (tmp_path / "attack_3.npz").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(Client, "fit", lambda *_: pytest.fail("training has begun"))
        with pytest.raises(ValueError, match=r"is a record of 2 rounds, and this run would end after 1: give another"):
            run(rounds=1)
    assert (tmp_path / "attack_3.npz").read_bytes() == whole
    assert run(rounds=3).rounds[-1] == 3


def test_options_may_be_numpys_or_torchs_and_paths_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = "meine 'Läufe' \"1\""
    options = {
        "num_honest": np.int64(2),
        "clients_per_round": torch.tensor(3),
        "inject": np.bool_(True),
        "num_frames": np.int32(1),
        "seed": torch.tensor(0),
        "client_options": {"local_steps": np.int64(1), "batch_size": torch.tensor(8)},
    }
    record = run_attack(np.int64(3), rounds=torch.tensor(2), progress=False, path=f"~/{folder}/attack_3.npz", **options)
    assert (tmp_path / folder / "attack_3.npz").exists()
    assert record == type(record).load(f"~/{folder}/attack_3.npz")
    assert record.config["clients_per_round"] == 3 and record.config["inject"] is True


@pytest.mark.parametrize("side", range(16, 65, 4))
def test_networks_and_an_attack_take_any_side(side):
    labels = torch.arange(40) % 4
    pictures = torch.rand(40, 1, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    dataset = ImageDataset(pictures, labels, ("a", "b", "c", "d"))
    model, clients = build_federation(dataset, "c", num_rounds=2, device="cpu", client_options={"local_steps": 1})
    (round,) = federate(model, clients, num_rounds=1)
    assert not round.faults
    assert clients[-1].generator.render(torch.randn(2, 100)).shape == (2, side, side)
    assert model(pictures).shape == (40, 5) and clients[-1].fake_label == 4
    layers = [*model, *Generator(side)]
    assert sum(isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) for layer in layers) == (6 if side >= 48 else 4)


@pytest.mark.parametrize("names", [("1", "2", "3"), ("2", "0", "1"), ("10", "b", "0")])
def test_classes_that_are_called_by_numbers_are_not_confused(names):
    labels = torch.arange(60) % 3
    noise = torch.rand(60, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.2
    pair = ImageDataset(noise + labels.view(-1, 1, 1, 1) * 0.8 - 1, labels, names).split()
    for number, name in enumerate(names):
        record = run_attack(name, dataset=pair, rounds=1, num_frames=1, progress=False)
        oracle = run_oracle(name, dataset=pair, rounds=1, progress=False)
        own = to_uint8(pair[0].images_of(name))
        for each in (record, oracle):
            assert each.target == number and each.target_name == name
            assert {image.tobytes() for image in each.private_samples} <= {image.tobytes() for image in own}
        assert yardsticks(name, pair).target == number
        assert torch.equal(yardsticks(name, pair).members, pair[0].images[pair[0].labels == number].flatten(1))
        assert evaluate_samples(own, name, dataset=pair)["recognition"] == 1


def test_a_client_is_not_there_twice(tiny_dataset):
    with pytest.raises(ValueError, match=r"a client is there twice: make each one anew"):
        federate(Classifier(), [Client(tiny_dataset)] * 2, num_rounds=1)


@pytest.mark.parametrize("change", [lambda change: change[1:], lambda change: [tensor.mean() for tensor in change]])
def test_what_protect_returns_has_the_shapes_that_it_was_given(tiny_dataset, change):
    with pytest.raises(ValueError, match="protect returned differs from the parameters"):
        Client(tiny_dataset, local_steps=1, protect=change).fit(Classifier(), 1)


@pytest.mark.parametrize("examples", [0, -1, np.nan, np.inf, True, 0.5, "3", None])
def test_an_average_needs_numbers_of_examples(examples):
    with pytest.raises(ValueError, match="num_examples of update 1 is"):
        fedavg([Update({"w": torch.ones(2)}, 1), Update({"w": torch.ones(2)}, examples)])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (torch.full((3, 1, 28, 28), 255.0), "values from 255 to 255"),
        (torch.zeros(3, 1, 16, 16), r"members are of shape \(3, 1, 16, 16\)"),
        (torch.zeros(0, 1, 28, 28), r"members are of shape \(0, 1, 28, 28\)"),
        (np.zeros((3, 1, 28, 28)), "type ndarray"),
    ],
)
def test_members_are_images_of_the_victims(members, message):
    with pytest.raises(ValueError, match=message):
        evaluate_samples(np.zeros((5, 28, 28), np.uint8), 3, members=members)


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 16, 16)), np.zeros((2, 1, 16, 16), np.uint8), [[1]], torch.zeros(2, 16, 16)]
)
def test_grey_values_are_bytes(pixels):
    with pytest.raises(ValueError, match=r"pixels are .*: they must be grey values, uint8 of shape"):
        from_uint8(pixels)


def test_bytes_are_no_mask_and_no_indices(tiny_dataset):
    for marked in ((tiny_dataset.labels == 3).to(torch.uint8), (tiny_dataset.labels == 3).numpy().astype(np.uint8)):
        with pytest.raises(ValueError, match=r"indices are torch.uint8 of shape \(100,\): give whole numbers"):
            tiny_dataset.subset(marked)
    assert tiny_dataset.subset(np.array([3], np.uint16)).labels.tolist() == [3]


def test_nothing_but_a_record_of_the_same_run_is_replaced(tmp_path, monkeypatch):
    path = tmp_path / "attack_3.npz"
    run = partial(run_attack, num_frames=1, progress=False, device="cpu", path=path)
    run(3, rounds=1)
    whole = path.read_bytes()
    monkeypatch.setattr(Client, "fit", lambda *_: pytest.fail("training has begun"))
    for target, options, message in (
        (5, {}, "target is 3 there and 5 here"),
        (3, {"seed": 1}, "seed is 0 there and 1 here"),
        (3, {"inject": False}, "inject is True there and False here"),
    ):
        with pytest.raises(ValueError, match=f"is a record of another run .{message}.: give another path"):
            run(target, rounds=2, **options)
        assert path.read_bytes() == whole
    np.savez(path, mine=np.arange(3))
    whole = path.read_bytes()
    with pytest.raises(ValueError, match="not a readable attack record"):
        run(3, rounds=1)
    assert path.read_bytes() == whole
    path.unlink(), path.mkdir()
    with pytest.raises(ValueError, match="cannot be read"):
        run(3, rounds=1)
    for wrong in ("", 5, ["a.npz"], True, tmp_path / "attack_3"):
        with pytest.raises(ValueError, match=r"path is .* must (be the name of a file that ends|end) in \.npz"):
            run_attack(3, rounds=1, progress=False, path=wrong)


@pytest.mark.parametrize("name", ["aggregate", "watch", "make_model", "make_honest", "make_attacker"])
@pytest.mark.parametrize("value", [5, "fedavg", [max]])
def test_what_cannot_be_called_is_refused_before_any_training(name, value, monkeypatch):
    monkeypatch.setattr(Client, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}: it must be a function")):
        run_attack(3, rounds=1, progress=False, **{name: value})


@pytest.mark.filterwarnings("ignore:left out")
def test_a_client_with_a_mistake_in_it_ends_the_run_in_its_first_round():
    class Unclamped(Client):
        def train_locally(self, dataset):
            return super().train_locally(ImageDataset(dataset.images * 2, dataset.labels, dataset.classes))

    with pytest.raises(ValueError, match=r"round 1, client 0: images have values from -2 to 2.*mend the client"):
        run_attack(3, rounds=3, progress=False, make_honest=Unclamped)


def test_an_attacker_with_few_images_injects_at_least_one_fake(tiny_dataset):
    few = tiny_dataset.subset([0, 1])
    assert GANAttacker(few, 3, num_rounds=2).num_fakes == 1
    assert GANAttacker(few, 3, num_rounds=2, fakes_per_image=0).num_fakes == 0


def test_data_sets_and_records_are_shown_in_a_line(tiny_dataset, record):
    assert repr(tiny_dataset) == "ImageDataset(100 images, 28 x 28, 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)"
    assert repr(record) == "AttackRecord(attack on 3, round 5 of 5)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"aggregate": fedavg},
            r"aggregate is fedavg, and it is called with \(updates, state\), which it does not take",
        ),
        ({"aggregate": coordinate_median}, "aggregate is coordinate_median, .* does not take"),
        ({"aggregate": Krum}, "aggregate is the class Krum, .*: make an instance"),
        ({"aggregate": coordinate_median(3)}, "aggregate is made for 3 clients, and 2 take part in a round"),
        ({"evaluate": accuracy}, "evaluate is accuracy, .* does not take"),
        ({"model": Classifier}, "the model is the class Classifier: make one of it"),
        ({"clients": [Client]}, "client 0 is the class Client"),
        ({"clients": [3]}, "client 0 is of type int: make a Client"),
        ({"clients": 3}, "clients is of type int: give a list"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(tiny_dataset, changes, message):
    given = {"model": Classifier(), "clients": [Client(tiny_dataset) for _ in range(2)], "num_rounds": 1} | changes
    with pytest.raises(ValueError, match=message):
        federate(given.pop("model"), given.pop("clients"), **given)
