import math
import re
import sys

import numpy as np
import pytest
import torch
from torch import nn

from fl_gan_lib.defences import ClipAndNoise, PrivateClient, PrivateMean, spent_epsilon
from fl_gan_lib.federation import Client, Update, federate
from fl_gan_lib.models import Classifier


def make_update(*values: float) -> Update:
    return Update({"a": torch.tensor(values[:1]), "b": torch.tensor([values[1:]])}, 1)


def flat(state: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in state.values()])


def test_a_private_client_spends_its_budget_and_no_more(tiny_dataset):
    model, client = Classifier(), PrivateClient(tiny_dataset, epsilon=8, num_rounds=3, batch_size=25, local_steps=2)
    assert client.sample_rate == 0.25 and client.spent == 0
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spent = []
    for round in (1, 2, 3):
        update = client.fit(model, round)
        spent.append(client.spent)
        assert model.state_dict().keys() == update.state.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert spent == sorted(spent) and 7.9 < spent[-1] <= 8
    assert spent[-1] == pytest.approx(spent_epsilon(client.noise_multiplier, sample_rate=0.25, steps=6, delta=1e-4))
    with pytest.raises(ValueError, match="planned for 3 rounds"):
        client.fit(model, 4)
    assert client.spent == spent[-1]


def test_a_budget_is_not_spent_again_in_another_federation(tiny_dataset):
    client = PrivateClient(tiny_dataset, epsilon=8, num_rounds=2, batch_size=25, local_steps=2)
    for _ in range(2):
        client.fit(Classifier(), 1)  # round 1, as in a federation that begins
    with pytest.raises(ValueError, match=r"planned for 2 rounds, and none is left .* make the client anew"):
        client.fit(Classifier(), 1)
    assert client.spent <= 8


@pytest.mark.parametrize(("images", "batch_size"), [(100, 99), (98, 2), (49, 1), (100, 30), (100, 100), (20, 128)])
def test_the_batch_size_is_the_expected_one(tiny_dataset, images, batch_size):
    few = tiny_dataset.subset(np.arange(images))
    options = {"epsilon": 8, "delta": 1e-3, "num_rounds": 1, "local_steps": 1}
    client = PrivateClient(few, batch_size=batch_size, **options)
    expected = min(images, batch_size)
    assert client.sample_rate * images == pytest.approx(expected)
    client.fit(Classifier(), 1)
    _, optimizer = client._private
    assert optimizer.expected_batch_size == expected  # what the noisy sum is divided by
    assert client._accountant.history == [(client.noise_multiplier, client.sample_rate, 1)]
    assert 0 < client.spent <= 8


def test_samples_have_the_expected_size_on_average(tiny_dataset, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        "fl_gan_lib.defences.privacy.descend", lambda model, optimizer, batches: sizes.append(len(batches[0][1])) or 0.0
    )
    client = PrivateClient(tiny_dataset, epsilon=8, num_rounds=1, batch_size=60, local_steps=400)
    torch.manual_seed(0)
    client.fit(Classifier(), 1)
    assert np.mean(sizes) == pytest.approx(60, abs=4 * math.sqrt(24 / 400))
    assert np.std(sizes) == pytest.approx(math.sqrt(24), rel=0.2)


class PicturesOnly(nn.Module):
    """A model that fails on a mini-batch of no images, as many do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(784, 11)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images)
        return self.linear(images.reshape(len(images), -1))


@pytest.mark.parametrize("make_model", [Classifier, PicturesOnly])
def test_an_empty_sample_is_a_step_like_any_other(tiny_dataset, make_model):
    few = tiny_dataset.subset(np.arange(20))
    client = PrivateClient(few, epsilon=8, delta=1e-3, num_rounds=3, batch_size=1, local_steps=16)
    rounds = list(federate(make_model(), [client], num_rounds=3))  # about every third sample is empty
    assert all(0 < round.client_metrics[0]["loss"] < 100 for round in rounds)
    assert client._accountant.history == [(client.noise_multiplier, 1 / 20, 48)]


def test_where_all_samples_are_empty_there_is_noise_and_no_loss(tiny_dataset, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.ones(*size))  # nothing is drawn
    client = PrivateClient(tiny_dataset, epsilon=8, num_rounds=1, local_steps=2)
    model = Classifier()
    update = client.fit(model, 1)
    assert update.metrics["loss"] == 0 and client._accountant.history[0][2] == 2
    assert all((update.state[name] != tensor).any() for name, tensor in model.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in update.state.values())


def test_a_loss_that_is_not_finite_is_not_hidden(tiny_dataset, monkeypatch):
    losses = iter([1.0, math.nan])
    monkeypatch.setattr("fl_gan_lib.defences.privacy.descend", lambda *_: next(losses))
    client = PrivateClient(tiny_dataset, epsilon=8, num_rounds=1, local_steps=2)
    assert math.isnan(client.fit(Classifier(), 1).metrics["loss"])


def test_a_smaller_budget_means_more_noise(tiny_dataset):
    noise = [PrivateClient(tiny_dataset, epsilon=epsilon, num_rounds=5).noise_multiplier for epsilon in (1, 8, 50)]
    assert noise[0] > noise[1] > noise[2] > 0
    assert PrivateClient(tiny_dataset, epsilon=math.inf, num_rounds=5).noise_multiplier == 0


@pytest.mark.filterwarnings("error")
def test_without_noise_and_clipping_it_is_ordinary_training(tiny_dataset):
    # Where the expected batch is all the images, Poisson sampling leaves nothing to chance.
    options = {"batch_size": 100, "local_steps": 3, "learning_rate": 1e-3}
    client = PrivateClient(tiny_dataset, epsilon=math.inf, max_grad_norm=1e6, num_rounds=1, **options)
    model = Classifier()
    private, plain = (each.fit(model, 1).state for each in (client, Client(tiny_dataset, **options)))
    for name, tensor in plain.items():
        # On average over the weights: where a gradient is nearly 0, Adam's first step is the sign of its rounding.
        assert (private[name] - tensor).abs().mean() < 1e-5


def test_the_gradient_of_each_image_is_clipped(tiny_dataset):
    def change(max_grad_norm: float) -> torch.Tensor:
        torch.manual_seed(0)
        model = Classifier()
        options = {"epsilon": math.inf, "num_rounds": 1, "batch_size": 100, "local_steps": 1, "learning_rate": 1.0}
        client = PrivateClient(tiny_dataset, max_grad_norm=max_grad_norm, **options)
        client.receive(model)
        client.optimizer = torch.optim.SGD(client.model.parameters(), lr=1.0)
        return flat(client.fit(model, 1).state) - flat(model.state_dict())

    assert change(0.01).norm() <= 0.01 * 1.001
    assert change(1e6).norm() > 0.1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *(
            ({"epsilon": epsilon}, f"epsilon is {epsilon!r}: .* above 0")
            for epsilon in (0, -1, math.nan, True, "8", None)
        ),
        ({"epsilon": 0.01}, "epsilon is 0.01: too little for 12 steps with delta 0.0001"),
        ({"epsilon": 1e20}, r"epsilon is 1e\+20: .* at most 1e\+06 \(or math.inf"),
        *(
            ({"epsilon": epsilon, "max_grad_norm": norm}, f"max_grad_norm is {norm!r}: .* take a plain Client")
            for epsilon in (1, math.inf)
            for norm in (0, -1, math.nan, math.inf, True, "1", None)
        ),
        *(
            ({"epsilon": 1, "num_rounds": rounds}, f"num_rounds is {rounds!r}: .*")
            for rounds in (0, 1.0, True, "3", None)
        ),
        *(
            ({"epsilon": 1, "delta": delta}, f"delta is {delta!r}: .* above 0 and below 1 / 100")
            for delta in (0, 0.01, 0.5, 2, -1, math.nan, math.inf, True, "0.001", None)
        ),
    ],
)
def test_an_impossible_budget_is_refused_at_construction(tiny_dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        PrivateClient(tiny_dataset, **{"num_rounds": 3} | settings)


@pytest.mark.parametrize("number", [np.float64, torch.tensor])
def test_settings_may_come_from_numpy_or_torch(tiny_dataset, number):
    settings = {"epsilon": 8.0, "delta": 0.001, "max_grad_norm": 0.5}
    plain = PrivateClient(tiny_dataset, num_rounds=3, **settings)
    given = {name: number(value) for name, value in settings.items()}
    client = PrivateClient(tiny_dataset, num_rounds=torch.tensor(3), **given)
    assert client.noise_multiplier == pytest.approx(plain.noise_multiplier, rel=1e-3)
    for make in (ClipAndNoise, PrivateMean):
        assert repr(make(number(0.5), number(1))) == repr(make(0.5, 1.0))
    assert spent_epsilon(number(2.0), sample_rate=number(0.25), steps=np.int64(5), delta=number(0.25)) == spent_epsilon(
        2.0, sample_rate=0.25, steps=5, delta=0.25
    )


def test_without_opacus_it_says_how_to_get_it(tiny_dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants.utils", None)
    with pytest.raises(ImportError, match=r"pip install -e '\.\[defences\]'"):
        PrivateClient(tiny_dataset, epsilon=1, num_rounds=1)


def test_a_change_is_clipped_only_if_it_is_too_large():
    change = [torch.tensor([3.0]), torch.tensor([[4.0]])]
    clipped = ClipAndNoise(1.0, 0)(change)
    assert torch.cat([tensor.flatten() for tensor in clipped]).tolist() == pytest.approx([0.6, 0.8])
    assert ClipAndNoise(10.0, 0)(change) == change
    assert ClipAndNoise(1.0, 0)([torch.zeros(3)])[0].tolist() == [0, 0, 0]


def test_the_noise_of_a_client_is_that_many_times_the_clip():
    torch.manual_seed(0)
    (noisy,) = ClipAndNoise(0.5, 3.0)([torch.zeros(100_000)])
    assert noisy.std().item() == pytest.approx(1.5, rel=0.02)


def test_the_private_mean_clips_each_client_and_weighs_all_alike():
    state = {"a": torch.tensor([1.0]), "b": torch.tensor([[1.0]])}
    updates = [make_update(1 + 30, 1 + 40), Update(make_update(1 + 0.3, 1).state, 999)]
    mean = PrivateMean(max_norm=1.0, noise_multiplier=0)(updates, state)
    assert flat(mean).tolist() == pytest.approx([1 + (0.6 + 0.3) / 2, 1 + (0.8 + 0) / 2])


def test_the_noise_on_the_mean_falls_with_the_number_of_clients():
    state = {"w": torch.zeros(100_000)}
    for number in (1, 10):
        torch.manual_seed(0)
        noisy = PrivateMean(0.5, 2.0)([Update(state, 1)] * number, state)["w"]
        assert noisy.std().item() == pytest.approx(1.0 / number, rel=0.02)


def test_the_noise_is_the_same_with_the_same_seed(tiny_dataset):
    def train(seed: int) -> torch.Tensor:
        torch.manual_seed(0)
        model = Classifier()
        clients = [Client(tiny_dataset, local_steps=1)]
        for _ in federate(model, clients, num_rounds=2, aggregate=PrivateMean(1.0, 0.1), seed=seed):
            torch.rand(3)  # what the caller does in between does not matter
        return flat(model.state_dict())

    assert torch.equal(train(5), train(5)) and not torch.equal(train(5), train(6))


@pytest.mark.parametrize("make", [ClipAndNoise, PrivateMean])
def test_an_impossible_clip_or_noise_is_refused_at_construction(make):
    for max_norm in (0, -1, math.inf, math.nan, True, "1", None):
        with pytest.raises(
            ValueError, match=f"max_norm is {max_norm!r}: .*finite number above 0 .*leave the defence out"
        ):
            make(max_norm, 0.0)
    for noise in (-1, math.inf, math.nan, False, "0", None):
        with pytest.raises(ValueError, match=f"noise_multiplier is {noise!r}: .*at least 0"):
            make(1.0, noise)


def test_the_private_mean_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no update to average"):
        PrivateMean(1.0, 0)([], {"w": torch.zeros(1)})


def with_layer(layer: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), layer, nn.ReLU(), nn.Linear(8, 11))


def checks(dataset, monkeypatch) -> dict[str, object]:
    """All that can look at a model before the training; a plain client has nothing against any."""
    monkeypatch.setattr(Client, "check_model", lambda self, model: None, raising=False)
    private = PrivateClient(dataset, epsilon=8, num_rounds=1)
    return {"client": ClipAndNoise(1.0, 1.0), "server": PrivateMean(1.0, 1.0), "DP-SGD": private}


def test_statistics_that_no_noise_covers_are_refused(tiny_dataset, monkeypatch):
    model = with_layer(nn.BatchNorm1d(8))
    for check in checks(tiny_dataset, monkeypatch).values():
        with pytest.raises(ValueError, match=r"2\.running_mean, 2\.running_var, .* unprotected\. Take GroupNorm"):
            check.check_model(model)


@pytest.mark.parametrize("layer", [nn.GroupNorm(2, 8), nn.Identity()])
def test_a_model_without_statistics_is_taken_in_any_mode(tiny_dataset, monkeypatch, layer):
    for check in checks(tiny_dataset, monkeypatch).values():
        for model in (with_layer(layer), with_layer(layer).eval(), Classifier()):
            training = model.training
            check.check_model(model)
            assert model.training == training


def test_dp_sgd_takes_no_layer_that_mixes_images(tiny_dataset, monkeypatch):
    *others, private = checks(tiny_dataset, monkeypatch).values()
    for affine in (True, False):  # without parameters Opacus itself takes it
        model = with_layer(nn.BatchNorm1d(8, affine=affine, track_running_stats=False))
        for check in others:
            check.check_model(model)  # it has no statistics to send
        with pytest.raises(ValueError, match=r"batch norm in 2: .* GroupNorm"):
            private.check_model(model)
    with pytest.raises(ValueError, match=r"Opacus cannot train privately: .*DPLSTM"):
        private.check_model(nn.LSTM(3, 3))


def test_a_private_client_refuses_batch_norm_without_a_federation_before_any_step(tiny_dataset):
    client = PrivateClient(tiny_dataset, epsilon=8, num_rounds=1)
    with pytest.raises(ValueError, match="GroupNorm"):
        client.fit(with_layer(nn.BatchNorm1d(8)), 1)
    assert client.spent == 0


def test_the_accountant_knows_the_gaussian_mechanism():
    # Once, without sampling: rho-zCDP with rho = 1 / (2 z^2), so epsilon is at most rho + 2 sqrt(rho log(1/delta)).
    rho = 1 / (2 * 4**2)
    assert 0 < spent_epsilon(4, sample_rate=1, steps=1, delta=1e-5) < rho + 2 * math.sqrt(rho * math.log(1e5))
    assert spent_epsilon(4, sample_rate=1, steps=50, delta=1e-5) > spent_epsilon(4, sample_rate=1, steps=5, delta=1e-5)


def test_the_numerical_accountant_is_the_tighter_one():
    # Participants for epsilon 8 in 60 rounds, delta n^-1.1, and the noise that 41 have at a noise multiplier of 1.
    for accountant, number in (("rdp", 153), ("prv", 139)):
        spent = [
            spent_epsilon(n / 41, sample_rate=1, steps=60, delta=n**-1.1, accountant=accountant)
            for n in (number - 1, number)
        ]
        assert spent[1] <= 8 < spent[0]
    with pytest.raises(ValueError, match="choose 'rdp' or 'prv'"):
        spent_epsilon(1.0, sample_rate=1, steps=1, delta=0.1, accountant="gdp")
    with pytest.raises(ValueError, match=r"noise_multiplier.*at least 0\.1"):
        spent_epsilon(0.01, sample_rate=1, steps=1, delta=0.1, accountant="prv")


def test_an_epsilon_is_never_negative(tiny_dataset):
    assert spent_epsilon(100.0, sample_rate=1.0, steps=1, delta=0.01) == 0
    few = tiny_dataset.subset(np.arange(2))
    client = PrivateClient(few, epsilon=0.1, delta=0.49, num_rounds=1)
    client._accountant.history = [(100.0, 1.0, 1)]
    assert client.spent == 0


def test_without_noise_no_epsilon_is_small_enough(tiny_dataset):
    client = PrivateClient(tiny_dataset, epsilon=math.inf, num_rounds=1)
    client.fit(Classifier(), 1)
    assert client.spent == math.inf


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("noise_multiplier", (0, -1, 1e-200, 1e200, math.inf, math.nan, True, "1", None)),
        ("sample_rate", (0, -0.1, 1.5, math.inf, math.nan, True, "1", None)),
        ("steps", (0, -1, 2.0, math.inf, math.nan, True, "1", None)),
        ("delta", (0, -0.1, 1, 1.5, math.inf, math.nan, True, "0.1", None)),
    ],
)
def test_no_epsilon_is_computed_of_what_is_out_of_range(name, wrong):
    right = {"noise_multiplier": 1.0, "sample_rate": 0.01, "steps": 10, "delta": 1e-5}
    for value in wrong:
        with pytest.raises(ValueError, match=re.escape(f"{name} is {value!r}: ")):
            spent_epsilon(**right | {name: value})
    for value in (1e-6, 1e6):
        assert 0 <= spent_epsilon(**right | {"noise_multiplier": value}) < math.inf
