import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from fl_gan_lib.studies.scale import compare_draws, compare_engines


def test_both_engines_are_measured_on_the_same_work(tmp_path):
    table = compare_engines([2], rounds=2, repeats=1, path=tmp_path / "engines.csv").set_index("engine")
    assert table.index.tolist() == ["Flower", "federate"]
    assert (table[["first_round", "round"]] > 0).all(axis=None)
    assert table.loc["Flower", "round"] < table.loc["Flower", "first_round"], "the first round starts the workers"
    assert 4 * 738_000 < table.loc["Flower", "bytes"] < 4 * 745_000
    assert len((tmp_path / "engines.csv").read_text(encoding="utf-8").splitlines()) == 3


def test_draws_are_run_by_how_many_and_how_long(tmp_path):
    table = compare_draws([(2, 2), (10, 1)], seeds=[0], path=tmp_path / "draws.csv", num_workers=1)
    assert table.groupby(["drawn", "rounds"])["round"].max().to_dict() == {(2, 2): 2, (10, 1): 1}
