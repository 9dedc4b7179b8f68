import sys

import pytest

from fl_gan_lib.__main__ import main
from fl_gan_lib.records import load_records


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fl_gan_lib", *arguments])
    main()


def test_record_then_summary(monkeypatch, tmp_path, capsys):
    run(monkeypatch, "record", "--digits", "7", "--rounds", "2", "--folder", str(tmp_path))
    assert list(load_records(tmp_path)) == [7]
    capsys.readouterr()
    run(monkeypatch, "summary", str(tmp_path / "attack_7.npz"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Recovered", "How well", "How long"]
    assert "recognition" in lines[1] and "gap closed" in lines[1] and "diversity" in lines[1]


def test_an_impossible_digit_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "record", "--digits", "12")
    assert "invalid choice: 12" in capsys.readouterr().err
