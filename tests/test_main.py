import ipaddress
import sys

import pandas as pd
import pytest

from fl_gan_lib.__main__ import main
from fl_gan_lib.records import load_records, summarise


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fl_gan_lib", *arguments])
    main()


def test_records_then_pictures_then_summary(monkeypatch, tmp_path, capsys):
    path = str(tmp_path / "seeds.csv")
    arguments = ("--digits", "7", "--seeds", "0", "--kinds", "attack", "--rounds", "2", "--workers", "1", "--csv", path)
    run(monkeypatch, "table", *arguments)
    assert list(load_records(tmp_path)) == [7]
    run(monkeypatch, "pictures", "--folder", str(tmp_path), "--images", str(tmp_path / "img"))
    assert (tmp_path / "img" / "emergence.png").stat().st_size > 1000
    assert (tmp_path / "img" / "emergence.gif").stat().st_size > 1000
    capsys.readouterr()
    run(monkeypatch, "summary", str(tmp_path / "attack_7.npz"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["Not recovered", "How well", "How long"]
    assert all(word in lines[1] for word in ("probe", "noise 0.0", "real images 0.9", "diversity"))


def test_the_summary_calls_a_readable_digit_recovered(record):
    assert summarise(record).startswith("Recovered: what the class 3 looks like")
    record.metrics["probe"] = 0.71  # 0.8 of the real images' 0.9 is 0.72
    assert summarise(record).startswith("Not recovered")
    record.metrics["probe"] = float("nan")
    assert summarise(record).startswith("Not judged")


def test_without_seeds_the_table_is_of_thirty_four_attacks(monkeypatch):
    jobs = {}
    monkeypatch.setattr("fl_gan_lib.studies.table.sweep", lambda given, *_, **__: jobs.update(given))
    run(monkeypatch, "table")
    cases = {(digit, seed) for kind, digit, seed in jobs if kind == "attack"}
    assert len(cases) == 34 and (3, 4) in cases and (9, 3) in cases and (1, 3) not in cases
    assert sum(kind == "oracle" for kind, _, _ in jobs) == 30 and sum(kind == "passive" for kind, _, _ in jobs) == 10


def test_the_anatomy_runs_the_named_settings(monkeypatch, tmp_path):
    path = tmp_path / "anatomy.csv"
    arguments = ("--settings", "no injection", "--seeds", "1", "--rounds", "1", "--workers", "1", "--csv", str(path))
    run(monkeypatch, "anatomy", *arguments)
    assert pd.read_csv(path)["setting"].tolist() == ["no injection"]


def test_the_defences_and_the_attackers_run_by_name(monkeypatch, tmp_path):
    path = tmp_path / "defences.csv"
    names = ("--settings", "2 bits a number", "small updates")
    options = ("--digits", "7", "--seeds", "1", "--rounds", "1", "--workers", "1", "--csv", str(path))
    run(monkeypatch, "defences", *names, *options)
    assert pd.read_csv(path)["defence"].tolist() == ["2 bits a number"]
    assert set(pd.read_csv(tmp_path / "detection.csv")["attacker"]) == {"small updates"}


def test_an_impossible_digit_is_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, "table", "--digits", "12")
    assert "invalid choice: 12" in capsys.readouterr().err


def test_keys_for_a_campus_are_made_by_a_command(monkeypatch, tmp_path, capsys):
    x509 = pytest.importorskip("cryptography.x509", reason="Flower is not installed: pip install -e '.[flower]'")
    run(monkeypatch, "keys", str(tmp_path / "keys"), "--hosts", "10.0.0.1", "campus.example", "--nodes", "3")
    assert "Keys for 3 nodes" in capsys.readouterr().out
    certificate = x509.load_pem_x509_certificate((tmp_path / "keys" / "server.crt").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names][:2] == [ipaddress.ip_address("10.0.0.1"), "campus.example"]
