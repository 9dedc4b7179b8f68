import numpy as np
import pytest
import torch
from scipy.stats import trim_mean

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.defences import AugmentingClient, DropoutClient, Krum, TrimmedMean, WithholdingClient, coordinate_median
from fl_gan_lib.federation import Client, Update
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
    with pytest.raises(ValueError, match="every is 0"):
        WithholdingClient(tiny_dataset, 4, every=0)
    only = ImageDataset(tiny_dataset.images[:5], torch.full((5,), 4))
    with pytest.raises(ValueError, match="nothing but images of 4"):
        WithholdingClient(only, 4)


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
        (lambda: TrimmedMean(4, 2), "num_trimmed is 2: .* of 4 clients, so at most 1"),
        (lambda: TrimmedMean(10, 11), "num_trimmed is 11"),
        (lambda: TrimmedMean(10, 0), "num_trimmed is 0"),
        (lambda: coordinate_median(2), "2 clients"),
        (lambda: Krum(4, 1), "Krum against 1 hostile clients needs at least 5 clients, and there are 4"),
        (lambda: Krum(10, 4), "at least 11"),
        (lambda: Krum(10, -1), "num_malicious is -1"),
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
    with pytest.raises(ValueError, match="needs at least 5 clients, and there are 4"):
        Krum(5, 1)(updates_of(values), {})


def test_krum_chooses_no_huge_update_in_a_crowd():
    values = np.random.default_rng(0).normal(size=(30, 50)).astype(np.float32)
    values[7] = 3e38
    assert flat(Krum(30, 1)(updates_of(values), {})).max() < 10
