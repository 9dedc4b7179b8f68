import copy
import math
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.defences import KeyedClassifier, KeyedClient, coordinate_median
from fl_gan_lib.federation import Update, change_between
from fl_gan_lib.models import Classifier
from fl_gan_lib.recording import states
from fl_gan_lib.studies.adapted import (
    AveragingAttacker,
    BlendingAttacker,
    DistortingAttacker,
    ErrorFeedbackAttacker,
    KeyedAttacker,
    PatientAttacker,
    Scale,
    UnhurriedAttacker,
)
from fl_gan_lib.studies.detection import remembered, round_found
from fl_gan_lib.studies.gradients import inversion_of_update


@pytest.fixture
def own(tiny_dataset):
    return tiny_dataset.subset(torch.where(tiny_dataset.labels != 3)[0])


OPTIONS = {"num_rounds": 20, "generator_steps": 2}


def test_the_averaged_discriminator_lies_between_the_models_that_were_received(own):
    attacker = AveragingAttacker(own, 3, weight=0.25, **OPTIONS)
    first, second = Classifier(), Classifier()
    kept = copy.deepcopy(first.state_dict())
    attacker.receive(first)
    assert torch.equal(attacker.make_discriminator(first)[0].weight, first[0].weight)
    average = attacker.make_discriminator(attacker.receive(second))
    assert torch.allclose(average[0].weight, 0.75 * first[0].weight + 0.25 * second[0].weight)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in first.state_dict().items())
    assert not any(parameter.requires_grad for parameter in average.parameters())


def test_an_unhurried_attacker_injects_to_the_last_round(own):
    attacker, other = UnhurriedAttacker(own, 3, **OPTIONS), GANAttacker(own, 3, **OPTIONS)
    assert other.active_rounds == 18 < OPTIONS["num_rounds"] <= attacker.active_rounds == 90
    with pytest.raises(ValueError, match="longer is 0"):
        UnhurriedAttacker(own, 3, longer=0, **OPTIONS)


@pytest.mark.parametrize("width", [0.0, 1.0])
def test_a_blended_update_lies_among_honest_ones(own, width):
    attacker = BlendingAttacker(own, 3, width=width, **OPTIONS)
    model = Classifier()
    update = attacker.fit(model, 1)
    changes = [change_between(model, double.model) for double in attacker.doubles]
    honest = [torch.stack(tensors) for tensors in zip(*changes, strict=True)]
    assert len(changes) == 3 and not torch.equal(changes[0][0], changes[1][0])
    for name, tensors in zip(dict(model.named_parameters()), honest, strict=True):
        sent = update.state[name] - model.state_dict()[name]
        assert ((sent - tensors.mean(0)).abs() <= width * tensors.std(0) + 1e-6).all()


@pytest.mark.parametrize(
    "make",
    [AveragingAttacker, BlendingAttacker, partial(ErrorFeedbackAttacker, fraction=0.1)],
    ids=lambda make: str(make),
)
def test_an_attacker_that_remembers_goes_on_where_it_was(own, make):
    model = Classifier()
    attacker, again = (make(own, 3, **OPTIONS) for _ in range(2))
    attacker.fit(model, 1)
    states.load_client(states.dump(attacker.lasting_parts()), again, model)
    updates = []
    for each in (attacker, again):
        torch.manual_seed(1)
        updates.append(each.fit(model, 2))
    assert updates[0] == updates[1]


def test_a_scaled_change_moves_a_median_no_farther_than_the_others_allow():
    honest = [torch.tensor([0.1]), torch.tensor([0.2]), torch.tensor([0.3])]
    medians = []
    for factor in (1, 10):
        (sent,) = Scale(factor)([torch.tensor([0.25])])
        medians.append(coordinate_median(4)([Update({"w": each}, 1) for each in (*honest, sent)], {})["w"].item())
    assert medians[0] < medians[1] <= 0.25 + 1e-6


def test_a_patient_attacker_injects_in_some_rounds_only(own):
    attacker = PatientAttacker(own, 3, first_round=3, every=2, **OPTIONS)
    counts = [attacker.fit(Classifier(), round).num_examples for round in range(1, 6)]
    assert counts == [len(own), len(own), len(own), len(own) + attacker.num_fakes, len(own)]


def test_a_distorting_attacker_distorts_its_fakes_and_not_its_images(own):
    attacker = DistortingAttacker(own, 3, **OPTIONS)
    attacker.receive(Classifier())
    mixed = attacker.mix_in_fakes()
    images = mixed.images[mixed.labels != attacker.fake_label]
    distances = torch.cdist(images.flatten(1), own.images.flatten(1)).min(1).values
    assert torch.allclose(distances, torch.zeros(len(images)), atol=0.05)
    before = copy.deepcopy(attacker.generator.model[0].weight)
    attacker.fit(Classifier(), 1)
    assert not torch.equal(before, attacker.generator.model[0].weight), "a gradient goes through the distortion"


@pytest.mark.parametrize("learning", [False, True])
def test_an_attacker_without_the_key_makes_no_use_of_it(own, learning):
    drawn = []
    for true_key in (0.0, 1.0):
        torch.manual_seed(0)
        model = KeyedClassifier(key_size=16)
        model.keys[:, 3] = true_key
        attacker = KeyedAttacker(own, 3, learning=learning, **OPTIONS)
        attacker.fit(model, 1)
        drawn.append(attacker.generator.render(torch.ones(2, 100)))
    assert (drawn[0] == drawn[1]).all()


def test_keys_are_not_shared_and_a_client_comes_near_to_those_of_its_classes(tiny_dataset):
    torch.manual_seed(0)
    model = KeyedClassifier(key_size=32)
    update = KeyedClient(tiny_dataset, local_steps=30).fit(model, 1)
    assert not any("keys" in name for name in update.state)
    trained = copy.deepcopy(model)
    trained.load_state_dict(update.state)
    cosines = [each(tiny_dataset.images).gather(1, tiny_dataset.labels[:, None]).mean() for each in (model, trained)]
    assert model(tiny_dataset.images).abs().max() <= 1 + 1e-5
    assert cosines[1] > cosines[0] + 0.2


def test_the_gradient_of_one_image_gives_it_back():
    rows, (true, found) = inversion_of_update(0, num_images=1, steps=200)
    row = rows.iloc[0]
    assert row["error"] < 0.05 < row["other_error"] and row["closer"] == 0
    assert np.abs(true.astype(float) - found).mean() < 40 and true.std() > 40


def test_of_an_honest_update_no_image_comes_back():
    rows, pictures = inversion_of_update(0, num_images=64, local_steps=8, steps=200)
    row = rows.iloc[0]
    assert row["error"] > row["other_error"], "any other image of the digit is nearer"
    assert 0.2 < row["closer"] < 0.8, "what is found tells the image from others of its digit"
    assert pictures.shape == (16, 28, 28)


def test_a_server_that_remembers_finds_who_stands_out_on_average():
    values = {0: [0, 2, 0, 2], 1: [1, 1, 1, 1], 2: [1, 0, 1, 0], 3: [3, 0, 3, 3]}
    rows = [(round + 1, client, value) for client in values for round, value in enumerate(values[client])]
    seen = pd.DataFrame(rows, columns=["round", "client", "norm"])
    scores = remembered(seen, "norm")
    assert scores.shape == (4, 4) and (scores.idxmax(axis=1) == 3).all()
    assert scores.loc[1, 3] == pytest.approx((3 - 2 / 3) / np.std([0, 1, 1], ddof=1), rel=1e-3)
    assert round_found(scores, 3, threshold=2) == 1 and round_found(scores, 1, threshold=2) == math.inf
    assert remembered(seen, "norm", window=1).loc[2].idxmax() == 0
    lowest = remembered(seen.rename(columns={"norm": "cosine"}), "cosine")
    assert lowest.loc[4].idxmax() == 2
