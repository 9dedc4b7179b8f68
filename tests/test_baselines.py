import numpy as np

from fl_gan_lib.attack import run_attack
from fl_gan_lib.baselines import honest_accuracy, run_oracle
from fl_gan_lib.federation import Client


def test_the_oracle_learns_the_digit():
    record = run_oracle(3, rounds=25, progress=False)
    last = record.metrics.iloc[-1]
    assert last["recognition"] > 0.7 and last["gap_closed"] > 0.6
    assert record.config["kind"] == "oracle" and np.isnan(last["accuracy"])


def test_the_honest_federation_is_that_of_the_attack_with_an_honest_second_client(monkeypatch):
    from fl_gan_lib import attack

    class Honest(Client):
        def __init__(self, dataset, target, *, num_rounds, inject):
            super().__init__(dataset)
            self.generator = attack.AveragedGenerator(1)

    monkeypatch.setattr(attack, "GANAttacker", Honest)
    expected = run_attack(6, rounds=3, device="cpu", progress=False).metrics["accuracy"].iloc[-1]
    assert honest_accuracy(6, rounds=3, device="cpu") == expected
