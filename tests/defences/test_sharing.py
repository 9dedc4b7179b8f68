import copy

import numpy as np
import pytest
import torch
from torch import nn

from fl_gan_lib.defences import ErrorFeedbackClient, KeepLargest, PartialDownloadClient, Quantise
from fl_gan_lib.federation import Client, plus_change
from fl_gan_lib.models import Classifier


def changed(state: dict, other: dict) -> float:
    """The share of weights in which two states differ."""
    differs = torch.cat([(state[name] != other[name]).flatten() for name in state])
    return differs.float().mean().item()


def test_a_tenth_is_uploaded_the_largest_changes(tiny_dataset):
    model = Classifier()
    torch.manual_seed(0)
    whole = Client(tiny_dataset).fit(model, 1).state
    torch.manual_seed(0)
    tenth = Client(tiny_dataset, protect=KeepLargest(0.1)).fit(model, 1).state
    before = model.state_dict()
    assert changed(tenth, before) == pytest.approx(0.1, abs=0.001) and changed(whole, before) > 0.9
    sent = torch.cat([(whole[name] - before[name])[tenth[name] != before[name]].abs() for name in before])
    kept_back = torch.cat([(whole[name] - before[name])[tenth[name] == before[name]].abs() for name in before])
    assert sent.min() >= kept_back.max() * 0.999
    for name in before:
        torch.testing.assert_close(tenth[name][tenth[name] != before[name]], whole[name][tenth[name] != before[name]])


def test_a_tenth_is_downloaded_after_the_first_round_and_the_upload_is_what_was_learned(tiny_dataset):
    client = PartialDownloadClient(tiny_dataset, download_fraction=0.1, learning_rate=1e-3)
    first = Classifier()
    assert changed(client.receive(first).state_dict(), first.state_dict()) == 0
    other = Classifier()
    received = copy.deepcopy(client.receive(other).state_dict())
    assert changed(received, first.state_dict()) == pytest.approx(0.1, abs=0.001)
    update = client.fit(other, 2)
    # What the client did not download stays the server's, but for the small steps of its own training.
    assert max((update.state[name] - tensor).abs().max() for name, tensor in other.state_dict().items()) < 0.05


def test_sharing_everything_is_the_plain_protocol(tiny_dataset):
    model = Classifier()
    states = []
    options = {"download_fraction": 1.0, "protect": KeepLargest(1.0)}
    for client in (Client(tiny_dataset), PartialDownloadClient(tiny_dataset, **options)):
        torch.manual_seed(0)
        client.fit(model, 1)
        states.append(client.fit(model, 2).state)
    for name, tensor in states[0].items():
        assert (tensor - states[1][name]).abs().mean() < 1e-6


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, np.nan, np.inf, True, "0.1", None])
def test_a_fraction_out_of_range_is_refused_at_construction(tiny_dataset, fraction):
    with pytest.raises(ValueError, match=f"^fraction is {fraction!r}: .* above 0 and at most 1"):
        KeepLargest(fraction)
    with pytest.raises(ValueError, match=f"^download_fraction is {fraction!r}: .* above 0 and at most 1"):
        PartialDownloadClient(tiny_dataset, download_fraction=fraction)


@pytest.mark.parametrize("number", [np.float64, torch.tensor])
def test_settings_may_come_from_numpy_or_torch(tiny_dataset, number):
    assert repr(KeepLargest(number(0.25))) == repr(KeepLargest(0.25))
    assert PartialDownloadClient(tiny_dataset, download_fraction=number(0.25)).download == KeepLargest(0.25)
    assert repr(Quantise(np.int64(3))) == repr(Quantise(torch.tensor(3))) == repr(Quantise(3))


def with_batch_norm() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 11))


def buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@pytest.mark.parametrize("protect", [None, KeepLargest(0.1)])
def test_statistics_are_downloaded_and_uploaded_whole(tiny_dataset, protect):
    client = PartialDownloadClient(tiny_dataset, download_fraction=0.1, protect=protect, local_steps=2)
    client.fit(with_batch_norm(), 1)
    other = with_batch_norm()
    other(tiny_dataset.images + 3)  # has statistics of its own
    kept = buffers(other)
    received = buffers(client.receive(other))
    assert all(torch.equal(received[name], buffer) for name, buffer in kept.items())
    update = client.fit(other, 2)
    trained = buffers(client.model)
    assert trained["2.num_batches_tracked"] == 3
    assert all(torch.equal(update.state[name], buffer) for name, buffer in trained.items())
    assert all(torch.equal(buffer, kept[name]) for name, buffer in other.named_buffers())


def test_a_changed_state_takes_the_buffers_of_the_model_that_is_named():
    model, trained = with_batch_norm(), with_batch_norm()
    trained(torch.randn(5, 1, 28, 28))
    change = [torch.ones_like(parameter) for parameter in model.parameters()]
    assert plus_change(model, change)["2.num_batches_tracked"] == 0
    state = plus_change(model, change, buffers_of=trained)
    assert state["2.num_batches_tracked"] == 1 and torch.equal(state["2.running_mean"], trained[2].running_mean)
    torch.testing.assert_close(state["1.bias"], model[1].bias.detach() + 1)
    state["2.running_mean"].zero_()
    assert trained[2].running_mean.abs().sum() > 0  # a copy


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_quantised_numbers_lie_on_a_grid_and_keep_their_mean(bits):
    torch.manual_seed(0)
    change = [torch.randn(50), torch.zeros(3)]
    sent = [Quantise(bits)(change) for _ in range(2000)]
    assert all(len(torch.stack([tensors[0] for tensors in sent])[:, place].unique()) <= 2 for place in range(50))
    steps = 2 ** (bits - 1) - 1
    places = sent[0][0] / change[0].abs().max() * steps
    torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-4)
    assert places.abs().max() <= steps + 1e-4 and len(places.round().unique()) <= 2 * steps + 1
    step = change[0].abs().max() / steps
    assert (torch.stack([tensors[0] for tensors in sent]).mean(0) - change[0]).abs().max() < 0.06 * step
    assert sent[0][1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("bits", [1, 0, -2, 33, 4.0, True, "4", None, np.nan])
def test_too_few_or_too_many_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits is {bits!r}: it must be a whole number from 2 to 32"):
        Quantise(bits)


def test_what_has_not_changed_is_sent_as_zero_in_any_number_of_bits():
    for bits in range(2, 33):
        zeros, small = Quantise(bits)([torch.zeros(3), torch.full((3,), 1e-38)])
        assert zeros.tolist() == [0, 0, 0] and small.isfinite().all()


def test_what_is_held_back_is_sent_later(tiny_dataset):
    client = ErrorFeedbackClient(tiny_dataset, fraction=0.01)
    model = Classifier()
    client.fit(model, 1)
    unsent = [tensor.clone() for tensor in client.protect.unsent]
    change = [torch.zeros_like(tensor) for tensor in unsent]
    sent = client.protect(change)
    whole = sum(tensor.abs().sum() for tensor in unsent)
    left = sum(tensor.abs().sum() for tensor in client.protect.unsent)
    assert 0 < left < whole, "with nothing new to send, the largest of what was held back is sent"
    for total, part, rest in zip(unsent, sent, client.protect.unsent, strict=True):
        assert torch.allclose(total, part + rest)
