import math
import sys

import pytest
import torch

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
        ({"epsilon": 0}, "epsilon is 0: it must be above 0"),
        ({"epsilon": -1}, "epsilon is -1"),
        ({"epsilon": math.nan}, "epsilon is nan"),
        ({"epsilon": 1, "max_grad_norm": 0}, "max_grad_norm is 0"),
        ({"epsilon": 1, "num_rounds": 0}, "num_rounds is 0"),
        ({"epsilon": 1, "delta": 0}, r"delta is 0: it must be above 0 and below 1 / 100"),
        ({"epsilon": 1, "delta": 0.01}, "delta is 0.01"),
    ],
)
def test_an_impossible_budget_is_refused_at_construction(tiny_dataset, settings, message):
    with pytest.raises(ValueError, match=message):
        PrivateClient(tiny_dataset, **{"num_rounds": 3} | settings)


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
@pytest.mark.parametrize(("max_norm", "noise", "name"), [(0, 1, "max_norm"), (-1, 1, "max_norm"), (1, -1, "noise")])
def test_an_impossible_clip_or_noise_is_refused_at_construction(make, max_norm, noise, name):
    with pytest.raises(ValueError, match=name):
        make(max_norm, noise)


def test_the_accountant_knows_the_gaussian_mechanism():
    # Once, without sampling: rho-zCDP with rho = 1 / (2 z^2), so epsilon is at most rho + 2 sqrt(rho log(1/delta)).
    rho = 1 / (2 * 4**2)
    assert 0 < spent_epsilon(4, sample_rate=1, steps=1, delta=1e-5) < rho + 2 * math.sqrt(rho * math.log(1e5))
    assert spent_epsilon(4, sample_rate=1, steps=50, delta=1e-5) > spent_epsilon(4, sample_rate=1, steps=5, delta=1e-5)
    with pytest.raises(ValueError, match="noise_multiplier is 0"):
        spent_epsilon(0, sample_rate=1, steps=1, delta=1e-5)
