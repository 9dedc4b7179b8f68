from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from fl_gan_lib import metrics
from fl_gan_lib.defences import DropoutClient, KeepLargest, PrivateClient
from fl_gan_lib.judge import train_judge
from fl_gan_lib.records import load_records
from fl_gan_lib.studies import baselines, jobs
from fl_gan_lib.studies.anatomy import SETTINGS
from fl_gan_lib.studies.baselines import invert
from fl_gan_lib.studies.defences import DEFENCES
from fl_gan_lib.studies.detection import ATTACKERS
from fl_gan_lib.studies.jobs import attack_job, compare
from fl_gan_lib.studies.sweep import Result, fingerprint, sweep
from fl_gan_lib.studies.table import CONFIRMED, KINDS, compare_digits, confirm_on_mnist, follow_rounds
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
    sweep({("short", 1): job(1, 2)}, ("name", "seed"), path, num_workers=1)
    assert pd.read_csv(path)["name"].tolist() == ["long"] * 3 + ["short"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["table.csv", "table.npz"]


def fail(*_arguments):
    raise AssertionError("this job is done already")


def interrupted(path, *done):
    """A sweep that ends after these jobs."""
    with pytest.raises(RuntimeError, match="interrupted"):
        sweep(dict(done) | {("last", 1): job(-1, 1)}, ("name", "seed"), path, num_workers=1)


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path, monkeypatch):
    path = tmp_path / "table.csv"
    interrupted(path, (("good", 1), job(2, 1)))
    unfinished = tmp_path / "table.unfinished.csv"
    assert not path.exists() and pd.read_csv(unfinished)["name"].tolist() == ["good", "good"]
    fail.__qualname__ = "count_to"
    jobs = {("good", 1): partial(fail, 2, 1), ("last", 1): job(1, 1)}
    table = sweep(jobs, ("name", "seed"), path, num_workers=1, last_round_only=True)
    assert table["name"].tolist() == ["good", "good", "last"] and not unfinished.exists()
    assert table["parameters"].tolist() == [fingerprint(job(2, 1))] * 2 + [fingerprint(job(1, 1))]
    # A finished sweep that is started again repeats everything.
    assert sweep({("good", 1): job(1, 1)}, ("name", "seed"), path, num_workers=1)["round"].tolist() == [1, 1]


def test_rows_of_other_parameters_are_not_taken_over_and_those_of_other_jobs_are_kept(tmp_path):
    path, unfinished = tmp_path / "table.csv", tmp_path / "table.unfinished.csv"
    interrupted(path, (("good", 1), job(1, 1)), (("other", 1), job(2, 1)))
    table = sweep({("good", 1): job(3, 1)}, ("name", "seed"), path, num_workers=1)
    assert table["round"].tolist() == [1, 2, 3]
    assert pd.read_csv(unfinished)["name"].tolist() == ["other", "other"]


def test_a_fingerprint_depends_on_all_parameters_and_on_nothing_else(tmp_path):
    """Nested partials, defaults, dataclasses, classes; not where the results go, nor in which module a class is."""
    plain = partial(attack_job, 3, 0, rounds=5)
    same = [
        partial(plain, folder=tmp_path),
        partial(partial(attack_job, rounds=5), 3, 0),
        partial(plain, kind="attack"),
    ]
    assert {fingerprint(each) for each in same} == {fingerprint(plain)}
    private = [partial(plain, make_honest=partial(PrivateClient, epsilon=epsilon)) for epsilon in (1, 8)]
    protected = [partial(plain, client_options={"protect": KeepLargest(part)}) for part in (0.1, 0.2)]
    others = [partial(attack_job, 4, 0, rounds=5), partial(plain, rounds=6), partial(plain, inject=False)]
    made = [plain, *others, *private, *protected, partial(plain, make_honest=DropoutClient)]
    assert len({fingerprint(each) for each in made}) == len(made)
    for nameless in (lambda: None, partial(plain, make_honest=lambda: None), partial(plain, watch=object())):
        with pytest.raises(ValueError, match="could not be known again in another process: give it a name"):
            fingerprint(nameless)


def test_all_jobs_of_the_studies_are_different_and_can_be_known_again():
    for settings in (SETTINGS, DEFENCES, ATTACKERS, {name: job for name, (job, _) in KINDS.items()}):
        made = {name: fingerprint(partial(run, 3, 0)) for name, run in settings.items()}
        assert len(set(made.values())) == len(made)


def test_jobs_in_processes_of_their_own_have_one_thread(tmp_path):
    jobs = {(place,): partial(count_threads, place) for place in range(2)}
    assert sweep(jobs, ("place",), tmp_path / "threads.csv", num_workers=2)["threads"].tolist() == [1, 1]


def count_threads(place: int) -> Result:
    return pd.DataFrame({"round": [1], "threads": [torch.get_num_threads()]}), np.zeros((0, 28, 28), np.uint8)


def test_each_kind_of_setting_runs(tmp_path, monkeypatch):
    # All of the steps are taken where notebook 05 is run with a small size.
    monkeypatch.setattr(jobs, "invert", partial(invert, steps=3))
    monkeypatch.setattr(PriorAttacker, "prior_steps", 3)
    names = ["no injection", "up 0.1, down 0.1", "ten outputs", "inversion, honest model", "own digits first"]
    names += ["generator, before the quiet rounds", "learned by heart", "strided tanh"]
    table = compare(
        SETTINGS, "setting", names, digits=[3], rounds=1, seeds=[0], path=tmp_path / "anatomy.csv", num_workers=1
    )
    assert set(table["setting"]) == set(names) and (table["seed"] == 0).all() and (table["round"] == 1).all()
    assert table["probe"].notna().all() and table["tstr"].isna().all(), "a quick look does without"
    assert table.loc[table["setting"] != "learned by heart", "accuracy"].between(0.05, 1).all()
    pictures = np.load(tmp_path / "anatomy.npz")
    assert set(pictures) == set(names) and all(pictures[name].shape == (10, 28, 28) for name in names)

    # Runs of another digit or seed leave the pictures as they are.
    for digit, seed in ((6, 0), (3, 1)):
        options = {"digits": [digit], "seeds": [seed], "rounds": 1, "num_workers": 1}
        compare(SETTINGS, "setting", ["no injection"], path=tmp_path / "anatomy.csv", **options)
    assert np.array_equal(np.load(tmp_path / "anatomy.npz")["no injection"], pictures["no injection"])


def test_an_unknown_setting_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown names \['nothing'\]: choose from \['default'"):
        compare(SETTINGS, "setting", ["nothing"], digits=[3], path=tmp_path / "anatomy.csv")
    assert next(iter(SETTINGS)) == "default"


def test_the_table_compares_the_attack_with_all_its_anchors(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "train_judge", partial(train_judge, steps=1))
    monkeypatch.setattr(baselines, "train_judge", partial(train_judge, steps=1))
    table = compare_digits([7], seeds=[0], rounds=5, path=tmp_path / "seeds.csv", num_workers=1)
    assert table["kind"].tolist() == sorted(KINDS) and (table["digit"] == 7).all()
    federations = ["attack", "class held back", "honest", "passive"]
    assert table.loc[table["kind"].isin(federations), "accuracy"].between(0.05, 1).all()
    assert table.loc[table["kind"] != "honest", ["probe", "tstr"]].notna().all(axis=None)
    kinds = ["attack", "class_held_back_200_rounds", "oracle", "passive"]
    assert sorted(file.name for file in tmp_path.iterdir()) == [*(f"{kind}_7.npz" for kind in kinds), "seeds.csv"]
    assert load_records(tmp_path, "passive")[7].config["inject"] is False
    for name, least, most in (("noise", 0, 0.1), ("real images", 0.7, 1)):
        assert table.set_index("kind").loc[name, ["probe", "tstr"]].between(least, most).all()
    held_back = load_records(tmp_path, "class_held_back_200_rounds")[7]
    assert held_back.metrics["target_accuracy"].iloc[-1] == 0 and "tstr" in held_back.metrics


@pytest.mark.needs_mnist
def test_the_recorded_runs_are_judged_on_all_of_mnists_test_images(tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "train_judge", partial(train_judge, steps=1))
    table = confirm_on_mnist("notebooks/runs", digits=[3], path=tmp_path / "mnist_test.csv", num_workers=1)
    table = table.set_index("kind")
    assert set(table.index) == {"real images", *CONFIRMED}
    assert table.loc["attack", "probe"] > 0.9 * table.loc["real images", "probe"] > 5 * table.loc["passive", "probe"]
    assert table.loc["passive", "tstr"] < 0.1 < 0.8 < table.loc["attack", "tstr"]


def test_every_round_is_followed(tmp_path):
    table = follow_rounds(seeds=[0], rounds=3, path=tmp_path / "every_round.csv", num_workers=1)
    assert table["round"].tolist() == [1, 2, 3] * 2 and set(table["kind"]) == {"attack", "honest"}
    bias = table.groupby("kind")["spare_bias"].last()
    assert bias["attack"] > bias["honest"], "the attacker alone teaches the spare output"
