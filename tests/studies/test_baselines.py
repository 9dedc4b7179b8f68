import numpy as np
import torch

from fl_gan_lib.attack import run_attack
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client
from fl_gan_lib.metrics import accuracy, evaluate_samples
from fl_gan_lib.models import AveragedGenerator
from fl_gan_lib.studies.baselines import invert, run_oracle, train_honest


def test_the_oracle_learns_the_digit():
    record = run_oracle(3, rounds=25, progress=False)
    last = record.metrics.iloc[-1]
    assert last["recognition"] > 0.7 and last["gap_closed"] > 0.6
    assert record.config["kind"] == "oracle" and np.isnan(last["accuracy"])


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
    assert evaluate_samples(to_uint8(pictures), 3)["gap_closed"] < 0.9
