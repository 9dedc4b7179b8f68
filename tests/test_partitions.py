import numpy as np
import pytest
import torch

from fl_gan_lib.partitions import partition_by_label, partition_dirichlet, partition_iid, split_participants

LABELS = np.repeat(np.arange(10), 40)


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


def test_by_label_leaves_nobody_empty_where_a_label_has_fewer_images_than_holders():
    sizes = [len(part) for part in split_participants(torch.as_tensor(LABELS), 3, num_honest=59)]
    assert max(sizes) - min(sizes) <= 1


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
        (lambda: partition_iid(LABELS, 401), "num_clients is 401: it must be a whole number from 1 to 400"),
        (lambda: partition_iid(LABELS, 0), "num_clients is 0"),
        (lambda: partition_iid(LABELS.reshape(2, -1), 2), "labels are int64 of shape"),
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
