from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from fl_gan_lib import judge, metrics
from fl_gan_lib.data import ImageDataset, to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.judge import load_judge
from fl_gan_lib.metrics import accuracy, anchor_samples, evaluate_samples, frechet_distance, tstr, yardsticks
from fl_gan_lib.records import AttackRecord

RUNS = Path(__file__).parents[1] / "notebooks" / "runs"


@pytest.fixture(scope="module")
def mnist_5k():
    return load_dataset("mnist-5k")


def test_the_judge_can_read(mnist_5k):
    train, test = mnist_5k
    assert accuracy(load_judge(train), test) >= 0.96


def test_the_judge_is_kept_for_other_processes_and_a_damaged_one_is_trained_again(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(judge, "_judges", {})
    train, _ = load_dataset()
    few = train.subset(range(200))
    trained = load_judge(few, steps=1).state_dict()
    (kept,) = (tmp_path / ".cache" / "fl_gan_lib").iterdir()
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1000])
    judge._judges.clear()
    again = load_judge(few, steps=1).state_dict()
    assert kept.read_bytes() == whole
    monkeypatch.setattr(judge, "train_judge", lambda *_, **__: pytest.fail("it is trained again"))
    judge._judges.clear()
    loaded = load_judge(few, steps=1).state_dict()
    assert all(torch.equal(trained[name], other[name]) for other in (again, loaded) for name in trained)


@pytest.mark.needs_mnist
def test_the_judge_of_all_of_mnist_can_read():
    train, test = load_dataset("mnist")
    assert accuracy(load_judge(train), test) >= 0.985


def test_frechet_distance_matches_the_closed_form():
    # Diagonal Gaussians: |m1 - m2|^2 + sum (s1 - s2)^2.
    random = torch.Generator().manual_seed(0)
    base = torch.randn(200_000, 3, generator=random, dtype=torch.float64)
    moved = base * torch.tensor([2.0, 1.0, 1.0]) + torch.tensor([0.0, 3.0, 0.0])
    assert frechet_distance(moved, base) == pytest.approx(1 + 9, rel=0.02)
    assert frechet_distance(base, base) == pytest.approx(0, abs=1e-3)


@pytest.fixture(scope="module")
def samples(mnist_5k):
    """By name, fakes of a 3 of every kind that a number must put where it belongs."""
    train, _ = mnist_5k
    rng = np.random.default_rng(1)
    board = 255 * (np.indices((28, 28)).sum(0) % 2)
    stripes = AttackRecord.load(RUNS / "attack_3.npz")
    assert stripes.rounds[0] == 1
    return anchor_samples(3) | {
        "stripes of round 1": np.tile(stripes.samples[0], (25, 1, 1)),
        "a checkerboard": np.clip(board + rng.normal(0, 20, (500, 28, 28)), 0, 255).astype(np.uint8),
        "one image again and again": np.repeat(to_uint8(train.images_of(3)[:1]), 400, axis=0),
        "the attack": stripes.final_samples,
    }


@pytest.fixture(scope="module")
def scores(samples):
    return pd.DataFrame({name: evaluate_samples(images, 3) for name, images in samples.items()}).T


WITHOUT_THE_CLASS = ["noise", "stripes of round 1", "a checkerboard", "another class"]


def test_the_probe_puts_everything_where_it_belongs(scores):
    probe = scores["probe"]
    assert (probe[WITHOUT_THE_CLASS] <= 0.1).all()
    assert probe["real images"] > 0.92
    assert probe["one image again and again"] < 0.5 * probe["real images"]
    assert probe["the attack"] > 0.95 * probe["real images"]


def test_noise_fails_the_probe_on_every_digit():
    for digit in range(10):
        anchors = yardsticks(digit, "mnist-5k").probe.anchors
        assert anchors["noise"] <= 0.1 and anchors["real images"] > 0.85
        assert anchors["another class"] < 0.6 * anchors["real images"], "the most alike are a 4 and a 9"


def test_tstr_puts_everything_where_it_belongs(samples):
    values = {name: tstr(images, 3, seeds=[0]) for name, images in samples.items()}
    assert all(values[name] <= (0.3 if name == "another class" else 0.1) for name in WITHOUT_THE_CLASS)
    assert values["real images"] > 0.94
    assert values["the attack"] > 0.94 * values["real images"]
    assert values["one image again and again"] < 0.5


def test_tstr_is_the_median_over_the_seeds_and_the_same_again(samples, monkeypatch):
    monkeypatch.setattr(metrics, "train_judge", partial(judge.train_judge, steps=1))
    each = [tstr(samples["the attack"], 3, seeds=[seed]) for seed in (3, 4, 5)]
    assert tstr(samples["the attack"], 3, seeds=(5, 3, 4)) == np.median(each) and len(set(each)) > 1
    with pytest.raises(ValueError, match="seeds is empty: give at least one"):
        tstr(samples["the attack"], 3, seeds=())


def test_no_classifier_behind_the_probe_has_seen_the_class(mnist_5k, monkeypatch):
    shown = {}

    def load(data, *, seed, **_):
        shown[seed] = data
        return judge.Judge().eval().requires_grad_(False)

    monkeypatch.setattr(metrics, "load_judge", load)
    metrics.make_probe(3, mnist_5k)
    assert set(shown) == {0, 1, 2}, "three networks, from different starts"
    assert all(len(data) == 3600 and (data.labels != 3).all() for data in shown.values())


def dataset_of(counts, side=16):
    """Random images, so many of each class."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    random = torch.Generator().manual_seed(0)
    return ImageDataset(torch.rand(len(labels), 1, side, side, generator=random) * 2 - 1, labels, ("a", "b", "c"))


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ((60, 60, 60), (49, 60, 60), "49 held-out images of the target"),
        ((60, 60, 60), (60, 20, 20), "40 held-out images of the other classes"),
        ((60, 60, 0), (60, 60, 60), "fewer than two other classes"),
        ((0, 60, 60), (60, 60, 60), "no training image of the target"),
        ((60, 60, 60), (50, 50, 50), ""),
    ],
)
def test_what_cannot_be_measured_is_not_measured(train, test, reason, monkeypatch):
    monkeypatch.setattr(metrics, "load_judge", lambda data, **_: judge.Judge(3, 16).eval().requires_grad_(False))
    pair = dataset_of(train), dataset_of(test)
    real = yardsticks("a", pair)
    assert reason in real.unmeasured and bool(reason) == bool(real.unmeasured)
    samples = to_uint8(pair[1].images_of("a"))
    scores = evaluate_samples(samples, "a", dataset=pair)
    assert np.isnan([scores[name] for name in ("probe", "frechet_distance", "copy_ratio")]).all() == bool(reason)
    anchors = {"noise", "another class", "real images"}
    assert real.probe is None if reason else set(real.probe.anchors) == anchors
    if reason:
        assert np.isnan(tstr(samples, "a", dataset=pair, seeds=[0]))


def test_features_are_kept_for_each_judge_and_for_images_in_any_layout():
    judges = [[judge.Judge(3, 16).eval().requires_grad_(False)] for _ in range(2)]
    images = dataset_of((300, 300)).images.transpose(2, 3)
    for one in (*judges, *judges):
        assert torch.equal(judge.kept_features(one, images), judge.features_of(one, images))


def test_recognition_diversity_and_distance_put_everything_where_it_belongs(scores):
    recognition, diversity, distance = scores["recognition"], scores["diversity"], scores["frechet_distance"]
    assert recognition["real images"] > 0.98 and recognition["another class"] < 0.02
    assert recognition["one image again and again"] == 1
    assert diversity["one image again and again"] < 0.01 and diversity["real images"] == pytest.approx(1, abs=0.05)
    assert distance["real images"] < distance["the attack"] < 0.2 * distance[WITHOUT_THE_CLASS].min()
    assert scores.loc["noise", "frechet_real"] < 20 < scores.loc["noise", "frechet_other"]


def test_the_bias_of_few_images_is_allowed_for(mnist_5k):
    train, _ = mnist_5k
    few = evaluate_samples(to_uint8(train.images_of(3)[:100]), 3)
    assert few["frechet_distance"] == pytest.approx(few["frechet_real"], rel=0.5) and few["frechet_distance"] > 10
    assert yardsticks(3, "mnist-5k").real_distance(250) > yardsticks(3, "mnist-5k").real_distance(500)


def test_copies_show_in_the_copy_ratio_and_nothing_else_does(scores, mnist_5k):
    ratio = scores["copy_ratio"]
    assert ratio["real images"] < 0.85, "they are the training images themselves"
    assert (ratio[["noise", "another class", "the attack"]] - 1).abs().max() < 0.1, "1 says that there are no copies"
    train, _ = mnist_5k
    rng = np.random.default_rng(0)
    three = train.images_of(3)
    for _ in range(5):  # the null: images that are among nobody's
        places = torch.from_numpy(rng.permutation(len(three)))
        fresh, members = three[places[:100]], three[places[100:]]
        assert evaluate_samples(to_uint8(fresh), 3, members=members)["copy_ratio"] == pytest.approx(1, abs=0.06)


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
