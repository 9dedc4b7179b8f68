import copy

import numpy as np
import pytest
import torch

from fl_gan_lib.defences import KeepLargest, PartialDownloadClient, Quantise
from fl_gan_lib.federation import Client
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


@pytest.mark.parametrize("fraction", [0, -0.1, 1.5, np.nan])
def test_a_fraction_out_of_range_is_refused_at_construction(tiny_dataset, fraction):
    for make in (KeepLargest, lambda fraction: PartialDownloadClient(tiny_dataset, download_fraction=fraction)):
        with pytest.raises(ValueError, match=f"fraction is {fraction}: it must be above 0"):
            make(fraction)


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


def test_too_few_bits_are_refused():
    with pytest.raises(ValueError, match="bits is 1: it must be at least 2"):
        Quantise(1)
