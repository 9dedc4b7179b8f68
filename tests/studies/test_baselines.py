from functools import partial

import numpy as np
import torch

from fl_gan_lib.attack import run_attack
from fl_gan_lib.data import from_uint8, to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client
from fl_gan_lib.judge import train_judge
from fl_gan_lib.metrics import accuracy, evaluate_samples
from fl_gan_lib.models import AveragedGenerator
from fl_gan_lib.studies import baselines
from fl_gan_lib.studies.baselines import invert, invert_with_generator, memorise, run_oracle, train_honest


def test_the_oracle_learns_the_digit(monkeypatch):
    monkeypatch.setattr(baselines, "train_judge", partial(train_judge, steps=1))
    for all_classes in (False, True):
        record = run_oracle(3, rounds=30, all_classes=all_classes, progress=False)
        last = record.metrics.iloc[-1]
        assert last["recognition"] > 0.7 and last["probe"] > 0.7
        assert record.config["kind"] == "oracle" and np.isnan(last["accuracy"])


def test_the_oracle_stops_early_and_keeps_the_best_by_images_that_it_did_not_train_on(monkeypatch):
    distances = iter([5.0, 4.0, 1.0, 2.0, 3.0, 0.5])  # of rounds 1, 2, 10, 20, 30, 40: it is gone before the last
    compared = []

    def distance(features, other):
        compared.append(len(other))
        return next(distances)

    monkeypatch.setattr(baselines, "PATIENCE", 20)
    monkeypatch.setattr(baselines, "frechet_distance", distance)
    monkeypatch.setattr(baselines, "snapshot_rounds", lambda _: [1, 2])
    monkeypatch.setattr(baselines, "train_judge", partial(train_judge, steps=1))
    record = run_oracle(3, rounds=60, progress=False)
    assert record.rounds.tolist() == [1, 2, 10] and record.config["rounds"] == 54
    assert set(compared) == {80} and next(distances) == 0.5


def test_an_oracle_that_is_interrupted_keeps_what_there_is(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(baselines, "frechet_distance", interrupt)
    monkeypatch.setattr(baselines, "train_judge", partial(train_judge, steps=1))
    assert run_oracle(3, rounds=3, progress=False).rounds.tolist() == [1]


def test_a_generator_inverts_a_model_that_stays_as_it_is():
    model = train_honest(3, rounds=5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    pictures = invert_with_generator(model, 3, num_images=50, steps=60)
    assert pictures.shape == (50, 28, 28) and pictures.dtype == np.uint8
    assert (model.eval()(from_uint8(pictures)).argmax(1) == 3).float().mean() > 0.9
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_what_is_learned_by_heart_shows_in_the_copy_ratio():
    images = load_dataset()[0].images_of(3)[:100]
    copies = memorise(images, steps=400)
    assert copies.shape == (500, 1, 28, 28)
    assert evaluate_samples(to_uint8(copies), 3, members=images)["copy_ratio"] < 0.6


def test_the_honest_federation_is_that_of_the_attack_with_an_honest_second_client():
    class Honest(Client):
        def __init__(self, dataset, target, *, num_rounds, inject):
            super().__init__(dataset)
            self.generator = AveragedGenerator(1)

    record = run_attack(6, rounds=3, device="cpu", progress=False, make_attacker=Honest)
    model = train_honest(6, rounds=3, device="cpu")
    assert accuracy(model, load_dataset()[1]) == record.metrics["accuracy"].iloc[-1]


def test_inversion_pleases_the_model_and_leaves_it_as_it_is():
    model = train_honest(3, rounds=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(0)
    pictures = invert(model, 3, num_images=100)
    assert pictures.shape == (100, 1, 28, 28) and pictures.abs().max() <= 1
    assert (model.eval()(pictures).argmax(1) == 3).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert evaluate_samples(to_uint8(pictures), 3)["probe"] < 0.4
