import copy

import pytest
import torch
from torch import nn

from fl_gan_lib.models import LATENT_DIM, Classifier
from fl_gan_lib.studies.variants import (
    HedgingAttacker,
    LeakyClassifier,
    MLPGenerator,
    PriorAttacker,
    StridedClassifier,
)


def test_shapes_and_ranges_are_those_of_the_attacks_own_networks():
    images = MLPGenerator()(torch.randn(5, LATENT_DIM))
    assert images.shape == (5, 1, 28, 28) and images.abs().max() <= 1
    for classifier in (LeakyClassifier(), StridedClassifier(), StridedClassifier(leaky=False)):
        assert classifier(images).shape == (5, 11)
    kinds = [type(layer) for layer in LeakyClassifier()]
    assert nn.Tanh not in kinds and [kind for kind in kinds if kind is not nn.LeakyReLU] == [
        type(layer) for layer in Classifier() if not isinstance(layer, nn.Tanh)
    ]


@pytest.fixture
def attacker(tiny_dataset, monkeypatch):
    monkeypatch.setattr(PriorAttacker, "prior_steps", 3)
    own = tiny_dataset.subset(torch.where(tiny_dataset.labels != 3)[0])
    return PriorAttacker(own, 3, num_rounds=20, generator_steps=2)


def test_the_prior_is_learned_once_before_the_attack_and_leaves_the_received_model_untouched(attacker):
    model = Classifier()
    before, drawn = copy.deepcopy(model.state_dict()), copy.deepcopy(attacker.generator.model[0].weight)
    attacker._learn_to_draw(copy.deepcopy(model))
    assert not torch.equal(drawn, attacker.generator.model[0].weight)
    assert attacker.generator.average.n_averaged == 0, "the average begins with the attack"
    calls = []
    attacker._learn_to_draw = calls.append
    for round in (1, 2):
        attacker.fit(model, round)
    assert len(calls) == 1 and attacker.generator.average.n_averaged == 4
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_the_hedging_attacker_calls_every_other_fake_the_target(tiny_dataset):
    own = tiny_dataset.subset(torch.where(tiny_dataset.labels != 3)[0])
    attacker = HedgingAttacker(own, 3, num_rounds=20, generator_steps=2)
    attacker.fit(Classifier(), 1)
    mixed = attacker.mix_in_fakes()
    images, labels = mixed.images, mixed.labels
    fake, hedged = (labels == 10).sum().item(), (labels == 3).sum().item()
    assert fake + hedged == attacker.num_fakes == 20 and fake == hedged == 10
    assert len(images) == len(labels) == 110
