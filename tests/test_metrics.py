import numpy as np
import pytest
import torch

from fl_gan_lib import judge
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.metrics import accuracy, evaluate_samples, frechet_distance, load_judge, yardsticks


@pytest.fixture(scope="module")
def mnist_5k():
    return load_dataset("mnist-5k")


def test_the_judge_can_read(mnist_5k):
    assert accuracy(load_judge("mnist-5k"), mnist_5k[1]) >= 0.96


def test_the_judge_is_kept_for_other_processes_and_a_damaged_one_is_trained_again(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(judge.JUDGE_RECIPE, "steps", 1)
    monkeypatch.setattr(judge, "_judges", {})
    train, _ = load_dataset()
    few = train.subset(range(200))
    trained = load_judge(few).state_dict()
    (kept,) = (tmp_path / ".cache" / "fl_gan_lib").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1000])
    judge._judges.clear()
    again = load_judge(few).state_dict()
    assert kept.read_bytes() == whole
    monkeypatch.setattr(judge, "_train_judge", lambda _: pytest.fail("it is trained again"))
    judge._judges.clear()
    loaded = load_judge(few).state_dict()
    assert all(torch.equal(trained[name], other[name]) for other in (again, loaded) for name in trained)


@pytest.mark.needs_mnist
def test_the_judge_of_all_of_mnist_can_read():
    assert accuracy(load_judge("mnist"), load_dataset("mnist")[1]) >= 0.985


def test_frechet_distance_matches_the_closed_form():
    # Diagonal Gaussians: |m1 - m2|^2 + sum (s1 - s2)^2.
    random = torch.Generator().manual_seed(0)
    base = torch.randn(200_000, 3, generator=random, dtype=torch.float64)
    moved = base * torch.tensor([2.0, 1.0, 1.0]) + torch.tensor([0.0, 3.0, 0.0])
    assert frechet_distance(moved, base) == pytest.approx(1 + 9, rel=0.02)
    assert frechet_distance(base, base) == pytest.approx(0, abs=1e-3)


def test_real_images_score_one_another_digit_zero(mnist_5k):
    train, test = mnist_5k
    real = to_uint8(torch.cat([train.images_of(3), test.images_of(3)]))
    other = to_uint8(torch.cat([train.images_of(8), test.images_of(8)]))
    scores, wrong = evaluate_samples(real, 3), evaluate_samples(other, 3)
    assert scores["recognition"] > 0.98 and wrong["recognition"] < 0.02
    assert scores["gap_closed"] == pytest.approx(1, abs=0.02) and wrong["gap_closed"] == pytest.approx(0, abs=1e-6)
    assert scores["diversity"] == pytest.approx(1, abs=0.01)


def test_the_bias_of_few_images_is_allowed_for(mnist_5k):
    train, _ = mnist_5k
    few = evaluate_samples(to_uint8(train.images_of(3)[:100]), 3)
    assert few["frechet_distance"] > 10
    assert few["gap_closed"] == pytest.approx(1, abs=0.02)
    assert yardsticks(3, "mnist-5k").real_distance(250) > yardsticks(3, "mnist-5k").real_distance(500)


def test_noise_and_collapse_are_seen(mnist_5k):
    train, _ = mnist_5k
    noise = np.random.default_rng(0).integers(0, 256, (100, 28, 28), dtype=np.uint8)
    assert evaluate_samples(noise, 3)["gap_closed"] < 0.6
    collapsed = np.repeat(to_uint8(train.images_of(3)[:1]), 100, axis=0)
    scores = evaluate_samples(collapsed, 3)
    assert scores["recognition"] == 1
    assert scores["diversity"] < 0.01
    assert scores["gap_closed"] < 0.95


def test_copies_of_training_images_show_in_the_membership_gap(mnist_5k):
    train, _ = mnist_5k
    assert evaluate_samples(to_uint8(train.images_of(3)), 3)["membership_gap"] < 0.85
    fresh = evaluate_samples(to_uint8(train.images_of(5)), 3)["membership_gap"]
    assert fresh == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("samples", "target", "message"),
    [
        (np.zeros((5, 28, 28)), 3, "must be uint8"),
        (np.zeros((5, 1, 28, 28), np.uint8), 3, "shape"),
        (np.zeros((1, 28, 28), np.uint8), 3, "n >= 2"),
        (np.zeros((5, 28, 28), np.uint8), 10, "the target is 10"),
    ],
)
def test_bad_samples_are_refused(samples, target, message):
    with pytest.raises(ValueError, match=message):
        evaluate_samples(samples, target)
