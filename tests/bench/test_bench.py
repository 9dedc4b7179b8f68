import re

import numpy as np
import pandas as pd
import pytest
from bench import COLUMNS, SMOKE, _replace_rows, alternate, bench, measure_gpu


def test_sides_are_measured_in_turn():
    turns = []
    sides = {name: lambda name=name: turns.append(name) or len(turns) for name in ("ours", "other")}
    assert alternate(sides, 3)["other"].tolist() == [2, 4, 6]
    assert turns == ["ours", "other"] * 3


def test_a_small_size_of_everything_leaves_tables_and_a_picture(tmp_path):
    script = tmp_path / "original" / "script.py"
    script.parent.mkdir()
    (script.parent / "its_module.py").write_text("ROUNDS = 15", encoding="utf-8")
    script.write_text(
        "import its_module, time; time.sleep(its_module.ROUNDS / 15); open('left_behind', 'w')", encoding="utf-8"
    )
    table = bench(tmp_path, images=tmp_path, original=script, size=SMOKE)

    rows = table.set_index("what")
    start, peak, package = rows["ours"].iloc[:3]
    assert 0.1 < start < 30 and 20 < peak < 500 and 0.01 < package < 1000
    assert rows.loc["a round, 2 clients of 2,000 images", "ratio"] > 0.5
    assert rows.loc["peak memory, 20 clients against 2", "ours"] > 100, "in MB, and torch alone is more"
    first = rows.loc["the first recognisable digit, from nothing"]
    assert first["other"] > 1 and np.isnan(first["ours"]), "one round leaves no digit"
    assert pd.read_csv(tmp_path / "bench.csv")["what"].tolist() == table["what"].tolist()
    page = (tmp_path / "bench.md").read_text(encoding="utf-8")
    assert re.search(r"\d+ cores, \d+ threads of torch, .*torch \d", page)
    assert page.count("\n| ") == len(table) + 2
    assert (tmp_path / "bench.png").stat().st_size > 10_000
    assert sorted(path.name for path in script.parent.iterdir() if path.name != "__pycache__") == [
        "its_module.py",
        "script.py",
    ]


def test_a_measurement_replaces_its_own_rows_and_leaves_the_others(tmp_path):
    old = pd.DataFrame([{"what": what, "ours": 1.0, "unit": "s"} for what in ("a", "b", "c")], columns=COLUMNS)
    old.to_csv(tmp_path / "bench.csv", index=False)
    new = pd.DataFrame([{"what": what, "ours": 2.0, "unit": "s"} for what in ("d", "b")], columns=COLUMNS)
    table = _replace_rows(tmp_path / "bench.csv", new)
    assert table["what"].tolist() == ["a", "b", "c", "d"] and table["ours"].tolist() == [1, 2, 1, 2]


def test_what_cannot_be_measured_is_said_at_once(tmp_path):
    with pytest.raises(ValueError, match=r"unknown measurements \['speed'\]: choose from \['start'"):
        bench(tmp_path, images=tmp_path, only=["speed"])
    with pytest.raises(FileNotFoundError, match="name the file that is to be run"):
        bench(tmp_path, images=tmp_path, only=["attack"], original=tmp_path / "nothing.py")
    assert not list(tmp_path.iterdir())


def test_a_gpu_is_watched_while_it_attacks(tmp_path, monkeypatch):
    # Stands in for the GPU's own program; the attack itself is a real one, on the CPU where there is no GPU.
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 40\necho 80\nexec sleep 600\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    seconds, busy = measure_gpu(SMOKE)
    assert seconds["ours"] > 1 and busy["ours"] == 60


def test_without_a_gpu_there_is_no_line(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert measure_gpu(SMOKE) == []
