import numpy as np
import pytest
import torch
from scipy.stats import trim_mean
from torch import nn

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.defences import AugmentingClient, DropoutClient, Krum, TrimmedMean, WithholdingClient, coordinate_median
from fl_gan_lib.federation import Client, Update, federate
from fl_gan_lib.models import Classifier


def fit(client: Client, round: int = 1) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model = Classifier()
    torch.manual_seed(1)
    return client.fit(model, round).state


def equal(state: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def updates_of(values: np.ndarray) -> list[Update]:
    """An update for each row of `values`."""
    return [Update({"a": torch.tensor(row[:2]), "b": torch.tensor(row[2:]).reshape(1, -1)}, 1) for row in values]


def flat(state: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.cat([tensor.flatten() for tensor in state.values()]).numpy()


def test_withheld_images_are_not_trained_on_and_then_they_are(tiny_dataset):
    without = ImageDataset(*(part[tiny_dataset.labels != 4] for part in (tiny_dataset.images, tiny_dataset.labels)))
    assert equal(fit(WithholdingClient(tiny_dataset, 4)), fit(Client(without)))
    assert equal(fit(WithholdingClient(tiny_dataset, 4, every=3), round=2), fit(Client(without)))
    assert equal(fit(WithholdingClient(tiny_dataset, 4, every=3), round=3), fit(Client(tiny_dataset)))


def test_nothing_to_train_on_is_refused_at_construction(tiny_dataset):
    for every in (0, -1, 2.0, True, "2", np.nan):
        with pytest.raises(ValueError, match=rf"every is {every!r}: .*at least 1 \(or None"):
            WithholdingClient(tiny_dataset, 4, every=every)
    for target in (10, -1, 4.0, True, "house", None):
        with pytest.raises(ValueError, match=f"target is {target!r}: it must be"):
            WithholdingClient(tiny_dataset, target)
    only = ImageDataset(tiny_dataset.images[:5], torch.full((5,), 4))
    with pytest.raises(ValueError, match="nothing but images of it"):
        WithholdingClient(only, 4)


@pytest.mark.parametrize("number", [np.int64, torch.tensor])
def test_settings_may_come_from_numpy_or_torch(tiny_dataset, number):
    client = WithholdingClient(tiny_dataset, number(4), every=number(3))
    assert (client.target, client.every) == (4, 3) and type(client.target) is type(client.every) is int
    # Their words go into records and file names, and must not depend on whose numbers they are.
    assert repr(TrimmedMean(number(7), number(2))) == repr(TrimmedMean(7, 2))
    assert repr(coordinate_median(number(7))) == repr(coordinate_median(7))
    assert repr(Krum(number(7), number(2))) == repr(Krum(7, 2))


def test_augmented_images_are_others_each_time_and_stay_in_range(tiny_dataset, monkeypatch):
    seen = []
    monkeypatch.setattr(
        Client, "train_locally", lambda _, dataset: seen.append((dataset.images, dataset.labels)) or 0.0
    )
    client = AugmentingClient(tiny_dataset, local_steps=2, batch_size=10)
    for _ in range(2):
        client.fit(Classifier(), 1)
    (first, labels), (second, _) = seen
    assert first.shape == (20, 1, 28, 28) and labels.shape == (20,)
    assert first.min() >= -1 and first.max() <= 1 and not torch.equal(first, second)
    originals = {image.numpy().tobytes() for image in tiny_dataset.images}
    assert not any(image.numpy().tobytes() in originals for image in first)


def test_dropout_is_for_the_local_training_only(tiny_dataset):
    client = DropoutClient(tiny_dataset, local_steps=2)
    assert not equal(fit(client), fit(Client(tiny_dataset, local_steps=2)))
    model, images = client.model, tiny_dataset.images
    assert not torch.equal(model.train()(images), model(images))
    plain = Classifier().eval()
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(model.eval()(images), plain(images))
    fit(client)
    assert sum(len(layer._forward_pre_hooks) for layer in model.modules()) == 2


@pytest.mark.parametrize("num_trimmed", [1, 2])
def test_the_trimmed_mean_is_that_of_scipy(num_trimmed):
    values = np.random.default_rng(0).normal(size=(7, 5))
    mean = TrimmedMean(7, num_trimmed)(updates_of(values), {})
    np.testing.assert_allclose(flat(mean), trim_mean(values, (num_trimmed + 0.1) / 7, axis=0))


@pytest.mark.parametrize("num_clients", [3, 4, 9, 10])
def test_the_median_is_that_of_numpy_whatever_one_client_sends(num_clients):
    values = np.random.default_rng(0).normal(size=(num_clients, 5))
    median = coordinate_median(num_clients)
    np.testing.assert_allclose(flat(median(updates_of(values), {})), np.median(values, axis=0))
    values[0] = 1e9
    assert np.abs(flat(median(updates_of(values), {}))).max() < 10


def test_krum_takes_the_update_with_the_nearest_neighbours():
    values = np.random.default_rng(0).normal(size=(8, 5))
    values[3] += 100
    squared = ((values[:, None] - values[None]) ** 2).sum(2)
    scores = np.sort(squared, axis=1)[:, 1 : 8 - 2 - 2 + 1].sum(1)  # n - f - 2 = 4 others
    chosen = flat(Krum(8, 2)(updates_of(values), {}))
    np.testing.assert_array_equal(chosen, values[scores.argmin()])
    assert scores.argmax() == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrimmedMean(4, 2), "num_trimmed is 2: .* from 1 to 1 .* of 4 clients"),
        (lambda: TrimmedMean(4, 1.0), "num_trimmed is 1.0: .* whole number"),
        (lambda: TrimmedMean(4, True), "num_trimmed is True"),
        (lambda: TrimmedMean("4", 1), "num_clients is '4'"),
        (lambda: TrimmedMean(np.nan, 1), "num_clients is nan"),
        (lambda: TrimmedMean(10, 11), "num_trimmed is 11"),
        (lambda: TrimmedMean(10, 0), "num_trimmed is 0"),
        (lambda: coordinate_median(2), "num_clients is 2: .* at least 3"),
        (lambda: coordinate_median(3.0), "num_clients is 3.0"),
        (lambda: Krum(4, 1), "num_clients is 4: .* at least 5 .* the 1 of num_malicious"),
        (lambda: Krum(10, 4), "at least 11"),
        (lambda: Krum(10, -1), "num_malicious is -1"),
        (lambda: Krum(10, 1.5), "num_malicious is 1.5"),
        (lambda: Krum(None, 1), "num_clients is None"),
    ],
)
def test_an_impossible_aggregation_is_refused_at_construction(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_robust_aggregation_goes_on_without_a_client_as_long_as_it_can():
    values = np.array([[0.0] * 3, [1.0] * 3, [5.0] * 3, [600.0] * 3])
    for aggregate in (TrimmedMean(5, 1), coordinate_median(5)):
        assert (flat(aggregate(updates_of(values), {})) == 3).all()
    with pytest.raises(ValueError, match="2 updates can be used: a trimmed mean needs at least 3"):
        TrimmedMean(5, 1)(updates_of(values[:2]), {})
    assert flat(Krum(6, 1)(updates_of(np.insert(values, 1, 2, axis=0)), {})).max() <= 2
    with pytest.raises(ValueError, match=r"4 updates can be used: Krum .* needs at least 5"):
        Krum(5, 1)(updates_of(values), {})


def test_krum_chooses_no_huge_update_in_a_crowd():
    values = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    values[7] = 3e38
    assert flat(Krum(30, 1)(updates_of(values), {})).max() < 10


def test_without_any_update_a_robust_rule_says_so():
    for aggregate in (TrimmedMean(5, 1), coordinate_median(5), Krum(5, 1)):
        with pytest.raises(ValueError, match="0 updates can be used"):
            aggregate([], {})


def counted(weight: float, count: int) -> Update:
    """Of a model with a single weight, and with the counter of batch norm."""
    return Update({"weight": torch.tensor(weight), "num_batches_tracked": torch.tensor(count)}, 1)


def test_of_whole_numbers_the_trimmed_mean_is_rounded():
    huge = 2**40  # which float32 cannot tell from its neighbours
    updates = [counted(float(k), count) for k, count in enumerate((0, huge + 1, huge + 3, huge + 4, 2**60))]
    mean = TrimmedMean(5, 1)(updates, {})
    assert mean["num_batches_tracked"].dtype == torch.int64 and mean["num_batches_tracked"] == huge + 3
    assert mean["weight"].dtype == torch.float32 and mean["weight"] == 2
    assert coordinate_median(5)(updates, {})["num_batches_tracked"] == huge + 3


def test_krum_does_not_look_at_counters():
    updates = [counted(weight, count) for weight, count in ((1.0, 7), (1.1, 900), (1.2, 70), (9.0, 7), (9.9, 7))]
    chosen = Krum(5, 1)(updates, {})
    assert chosen["weight"] == torch.tensor(1.1) and chosen["num_batches_tracked"] == 900


@pytest.mark.parametrize("aggregate", [TrimmedMean(5, 1), coordinate_median(5), Krum(5, 1)])
def test_a_robust_rule_takes_a_model_with_batch_norm(tiny_dataset, aggregate):
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 4), nn.BatchNorm1d(4), nn.Linear(4, 11))
    (round,) = federate(
        model, [Client(tiny_dataset, local_steps=2) for _ in range(5)], num_rounds=1, aggregate=aggregate
    )
    assert len(round.client_metrics) == 5
    assert model[2].num_batches_tracked.dtype == torch.int64 and model[2].num_batches_tracked > 0
    assert (model[2].running_var > 0).all()
