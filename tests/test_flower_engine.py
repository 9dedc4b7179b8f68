"""The attack on Flower's own engine, simulated and deployed: the same pictures and numbers as in one process."""

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from fl_gan_lib.attack import run_attack
from fl_gan_lib.flower_keys import make_keys
from fl_gan_lib.flower_local import deploy, simulate
from fl_gan_lib.records import AttackRecord

SMALL = {"rounds": 2, "local_steps": 2}


@pytest.fixture(scope="module")
def expected() -> AttackRecord:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield run_attack(3, rounds=2, client_options={"local_steps": 2}, device="cpu", progress=False)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("engine", [simulate, deploy])
def test_the_engine_ends_in_the_same_bits_as_one_process(engine, expected, tmp_path):
    log = "\n".join(engine(tmp_path, num_nodes=2, **SMALL))
    assert "round 2/2" in log
    record = AttackRecord.load(tmp_path / "attack_3.npz")
    for name in ("samples", "final_samples", "private_samples", "rounds"):
        assert np.array_equal(getattr(record, name), getattr(expected, name)), name
    same = [column for column in expected.metrics if column != "seconds"]
    pd.testing.assert_frame_equal(record.metrics[same], expected.metrics[same])


def test_a_run_that_fails_says_why(tmp_path):
    with pytest.raises(RuntimeError, match="the target is 12: it must be a digit"):
        list(simulate(tmp_path, target=12))


def test_keys_are_made_once_and_are_readable_for_nobody_else(tmp_path):
    folder = make_keys(tmp_path / "keys", num_nodes=3)
    assert {path.name for path in folder.iterdir()} == {
        "ca.crt",
        "server.crt",
        "server.key",
        *(f"node_{number}{end}" for number in range(3) for end in ("", ".pub")),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    with pytest.raises(FileExistsError, match="take another folder"):
        make_keys(folder)
    with pytest.raises(ValueError, match="at least one"):
        make_keys(tmp_path / "others", num_nodes=0)
