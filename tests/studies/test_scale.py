from functools import partial

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from fl_gan_lib.studies import scale
from fl_gan_lib.studies.scale import (
    DEFENCES,
    compare_crowds,
    compare_deployed_secrets,
    compare_draws,
    compare_engines,
    compare_parts,
    flower_job,
    secret_job,
)


def test_the_engines_are_measured_on_the_same_work(tmp_path):
    # A deployment is timed in the same way, and it runs in the test of a secret.
    options = {"rounds": 2, "repeats": 1, "most_deployed": 0}
    table = compare_engines([(2, 2)], path=tmp_path / "engines.csv", **options).set_index("engine")
    assert table.index.tolist() == ["simulation", "federate"]
    assert (table[["first_round", "round"]] > 0).all(axis=None)
    assert table.loc["simulation", "round"] < table.loc["simulation", "first_round"], "the first round starts workers"
    assert table["bytes"].drop("federate").between(4 * 738_000, 4 * 745_000).all()
    assert len((tmp_path / "engines.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_flowers_own_defences_are_run_on_its_simulation(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "DEFENCES", {"SecAgg+": DEFENCES["SecAgg+"]})
    monkeypatch.setattr(scale, "flower_job", partial(flower_job, num_nodes=3))
    table = compare_parts([3], rounds=2, path=tmp_path / "flower.csv")
    last = table.groupby("defence").tail(1).set_index("defence")
    assert last[["tstr", "probe", "accuracy"]].notna().all(axis=None)
    assert np.load(tmp_path / "flower.npz")["SecAgg+"].shape == (10, 28, 28)


def test_a_secret_is_drawn_over_the_network_and_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "secret_job", partial(secret_job, rounds=2, local_steps=2))
    table = compare_deployed_secrets(["house"], path=tmp_path / "campus.csv")
    assert table["round"].tolist() == [1, 2] and table[["probe", "accuracy"]].notna().all(axis=None)
    assert (table["since_start"].diff().dropna() > 0).all() and (table["since_start"] > table["seconds"]).all()
    assert np.load(tmp_path / "campus.npz")["house"].shape == (50, 28, 28), "ten drawings, and ten fakes of four rounds"


def test_a_crowd_is_measured_with_its_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "DATASET", "mnist-5k")
    (row,) = compare_crowds([(20, 3)], per_round=10, path=tmp_path / "crowds.csv").to_dict("records")
    assert row["participants"] == 20 and row["memory"] > 200 and 0 <= row["turns"] <= 3


def test_draws_are_run_by_how_many_and_how_long(tmp_path):
    table = compare_draws([(2, 2), (10, 1)], seeds=[0], path=tmp_path / "draws.csv", num_workers=1)
    assert table.groupby(["drawn", "rounds"])["round"].max().to_dict() == {(2, 2): 2, (10, 1): 1}
