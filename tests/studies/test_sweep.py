from functools import partial

import numpy as np
import pandas as pd
import pytest

from fl_gan_lib.records import load_records
from fl_gan_lib.studies import jobs
from fl_gan_lib.studies.anatomy import SETTINGS, compare_settings
from fl_gan_lib.studies.baselines import invert
from fl_gan_lib.studies.sweep import Result, sweep
from fl_gan_lib.studies.table import compare_digits
from fl_gan_lib.studies.variants import PriorAttacker


def count_to(last: int, seed: int) -> Result:
    if last < 0:
        raise RuntimeError("interrupted")
    rows = pd.DataFrame({"round": range(1, last + 1), "score": 0.123456 * seed})
    return rows, np.full((2, 28, 28), seed, np.uint8)


def job(last: int, seed: int):
    return partial(count_to, last, seed)


def test_a_sweep_writes_the_rows_and_pictures_of_all_jobs(tmp_path):
    path = tmp_path / "table.csv"
    jobs = {("long", 1): job(3, 1), ("short", 1): job(2, 1)}
    table = sweep(jobs, ("name", "seed"), path, num_workers=2, pictures={"long": ("long", 1)})
    assert table["name"].tolist() == ["long"] * 3 + ["short"] * 2 and table["round"].tolist() == [1, 2, 3, 1, 2]
    assert pd.read_csv(path)["score"].unique() == [0.1235]
    assert list(np.load(tmp_path / "table.npz")) == ["long"]
    # Another sweep replaces the rows of its own jobs and leaves the others.
    sweep({("short", 1): job(1, 2)}, ("name", "seed"), path, num_workers=0)
    assert pd.read_csv(path)["name"].tolist() == ["long"] * 3 + ["short"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv", "table.npz"]


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path):
    path = tmp_path / "table.csv"
    jobs = {("good", 1): job(2, 1), ("bad", 1): job(-1, 1)}
    with pytest.raises(RuntimeError, match="interrupted"):
        sweep(jobs, ("name", "seed"), path, num_workers=1)
    assert not path.exists() and (tmp_path / "table.partial").exists()
    jobs = {("good", 1): job(-1, 1), ("bad", 1): job(1, 1)}  # the good one would fail if it were run again
    table = sweep(jobs, ("name", "seed"), path, num_workers=0, last_round_only=True)
    assert table["name"].tolist() == ["bad", "good", "good"] and not (tmp_path / "table.partial").exists()


def test_each_kind_of_setting_runs(tmp_path, monkeypatch):
    # All of the steps are taken where notebook 05 is run with a small size.
    monkeypatch.setattr(jobs, "invert", partial(invert, steps=3))
    monkeypatch.setattr(PriorAttacker, "prior_steps", 3)
    names = ["no injection", "up 0.1, down 0.1", "ten outputs", "inversion, honest model", "own digits first"]
    table = compare_settings(names, seeds=[5], rounds=1, path=tmp_path / "anatomy.csv", num_workers=0)
    assert set(table["setting"]) == set(names) and (table["seed"] == 5).all() and (table["round"] == 1).all()
    assert table["gap_closed"].notna().all() and table["accuracy"].between(0.05, 1).all()
    pictures = np.load(tmp_path / "anatomy.npz")
    assert set(pictures) == set(names) and all(pictures[name].shape == (10, 28, 28) for name in names)


def test_an_unknown_setting_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown settings \['nothing'\]: choose from \['default'"):
        compare_settings(["nothing"], path=tmp_path / "anatomy.csv")
    assert next(iter(SETTINGS)) == "default"


def test_the_table_compares_attack_honest_federation_and_oracle(tmp_path):
    table = compare_digits([(7, 1), (7, 0)], rounds=2, path=tmp_path / "seeds.csv", num_workers=0)
    assert table["kind"].tolist() == ["attack"] * 2 + ["honest"] * 2 + ["oracle"] * 2
    assert (table["round"] == 2).all() and (table["digit"] == 7).all()
    assert table.loc[table["kind"] != "oracle", "accuracy"].between(0.05, 1).all()
    assert table.loc[table["kind"] != "honest", "gap_closed"].notna().all()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["attack_7.npz", "oracle_7.npz", "seeds.csv"]


def test_the_passive_attack_leaves_a_record_of_its_own(tmp_path):
    compare_digits([(7, 0)], kinds=["passive"], rounds=1, path=tmp_path / "seeds.csv", num_workers=0)
    assert load_records(tmp_path, "passive")[7].config["inject"] is False
