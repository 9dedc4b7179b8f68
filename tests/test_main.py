import sys

import pandas as pd
import pytest

from fl_gan_lib.__main__ import main, summarise
from fl_gan_lib.records import load_records


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fl_gan_lib", *arguments])
    main()


def test_record_then_summary(monkeypatch, tmp_path, capsys):
    run(monkeypatch, "record", "--digits", "7", "--rounds", "2", "--folder", str(tmp_path))
    assert list(load_records(tmp_path)) == [7]
    run(monkeypatch, "pictures", "--folder", str(tmp_path), "--images", str(tmp_path / "img"))
    assert (tmp_path / "img" / "emergence.png").stat().st_size > 1000
    capsys.readouterr()
    run(monkeypatch, "summary", str(tmp_path / "attack_7.npz"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Not recovered", "How well", "How long"]
    assert "recognition" in lines[1] and "gap closed" in lines[1] and "diversity" in lines[1]


def test_the_summary_calls_a_readable_digit_recovered(record):
    record.metrics["recognition"] = 1.0
    assert summarise(record).startswith("Recovered: what a 3 looks like")
    record.metrics["gap_closed"] = 0.5
    assert summarise(record).startswith("Not recovered")


def test_the_table_has_a_row_for_each_digit_seed_and_kind(monkeypatch, tmp_path):
    path = tmp_path / "seeds.csv"
    run(monkeypatch, "table", "--digits", "7", "--seeds", "1", "--rounds", "2", "--csv", str(path))
    table = pd.read_csv(path)
    assert table["kind"].tolist() == ["attack", "oracle"]
    assert (table["digit"] == 7).all() and (table["seed"] == 1).all() and (table["round"] == 2).all()
    assert table["honest_accuracy"].between(0.1, 1).all() and table["gap_closed"].notna().all()


def test_an_impossible_digit_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "record", "--digits", "12")
    assert "invalid choice: 12" in capsys.readouterr().err
