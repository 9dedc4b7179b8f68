"""A real attack in its process: what it says, how it stops. One process for all tests that can share it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from fl_gan_lib.explorer.live import LiveAttacks
from fl_gan_lib.records import AttackRecord


class News:
    """What `LiveAttacks` reports, and a way to wait for some of it."""

    def __init__(self) -> None:
        self.all: list[dict] = []
        self.arrived = threading.Condition()

    def __call__(self, news: dict) -> None:
        with self.arrived:
            self.all.append(json.loads(json.dumps(news)))
            self.arrived.notify_all()

    def wait(self, wanted) -> dict:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(map(wanted, self.all)), timeout=240), self.all
            return next(filter(wanted, self.all))


def ended(news: dict) -> bool:
    return news.get("running") is False


@pytest.fixture(scope="module")
def attacks() -> Iterator[LiveAttacks]:
    attacks = LiveAttacks(lambda news: attacks.told(news))
    yield attacks
    attacks.close()


@pytest.fixture
def news(attacks) -> News:
    attacks.told = News()
    return attacks.told


def test_it_tells_of_each_round_and_leaves_a_record(attacks, news, tmp_path):
    path = tmp_path / "live_5.npz"
    assert attacks.start(title="on 5", target="5", rounds=3, path=str(path))
    assert not attacks.start(title="on 6", target="6", rounds=3)
    end = news.wait(ended)
    assert end["message"] == f"Finished at round 3 of 3. The record is in {path}."
    assert [one["round"] for one in news.all] == [0, 1, 2, 3, 3]
    assert [frame["round"] for frame in attacks.state["frames"]] == [1, 2, 3]
    first = news.wait(lambda one: one.get("round") == 1)
    assert first["private"].startswith("data:image/png") and [name for name, _ in first["anchors"]]
    record = AttackRecord.load(path)
    assert record.target == 5 and record.rounds.tolist() == [1, 2, 3]


def test_it_stops_when_it_is_told_and_can_start_again(attacks, news):
    attacks.start(title="on 5", target="5", rounds=200)
    news.wait(lambda one: one.get("round") == 2)
    attacks.stop()
    attacks.stop()
    reached = news.wait(ended)["message"]
    assert reached.startswith("Stopped at round") and len(attacks.state["frames"]) >= 2
    attacks.told = again = News()
    attacks.start(title="on nothing", target="11", rounds=3)
    assert "The attack did not run: the target is '11'" in again.wait(ended)["message"]
    attacks.clear()
    assert not attacks.state["frames"] and not attacks.state["running"]


def test_an_attack_on_drawings_shows_none_of_them_and_writes_nothing(attacks, news):
    drawn = np.random.default_rng(0).integers(0, 256, (8, 28, 28), dtype=np.uint8)
    cache = os.path.expanduser("~/.cache/fl_gan_lib")
    before = set(os.listdir(cache)) if os.path.isdir(cache) else set()
    attacks.start(title="on a secret", drawings=drawn.tobytes(), rounds=2)
    news.wait(ended)
    assert not any("private" in one for one in news.all)
    frames = [one["frame"] for one in news.all if "frame" in one]
    assert [frame["round"] for frame in frames] == [1, 2] and all(0 <= frame["probe"] <= 1 for frame in frames)
    assert (set(os.listdir(cache)) if os.path.isdir(cache) else set()) == before


def test_whatever_the_process_prints_is_no_end_of_the_news(monkeypatch):
    news, popen = News(), subprocess.Popen
    code = "print('5'); print('null'); print('[1]'); input(); print('no room'); raise SystemExit(1)"
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", code], **options))
    attacks = LiveAttacks(news)
    attacks.start(title="on 5", target="5")
    assert news.wait(ended)["message"] == "The attack has ended: no room"


def test_what_comes_late_from_an_attack_that_was_cleared_is_not_told(monkeypatch):
    news, popen = News(), subprocess.Popen
    code = """import json, sys
for order in map(json.loads, sys.stdin):
    if order["do"] == "stop":
        print(json.dumps({"number": 1, "news": {"round": 7, "frame": {}}}), flush=True)
    elif order["number"] > 1:
        print(json.dumps({"number": order["number"], "news": {"running": False}}), flush=True)"""
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", code], **options))
    attacks = LiveAttacks(news)
    attacks.start(title="on a secret", drawings=b"")
    attacks.clear()
    attacks.start(title="on 5", target="5")
    news.wait(lambda one: one == {"running": False})
    assert not any(one.get("round") == 7 for one in news.all) and not attacks.state["frames"]
    attacks.close()


def test_a_process_that_cannot_be_started_leaves_all_as_it_was(monkeypatch):
    def fail(*_, **__):
        raise OSError("no memory for another process")

    monkeypatch.setattr(subprocess, "Popen", fail)
    attacks = LiveAttacks(News())
    for _ in range(2):
        with pytest.raises(OSError, match="no memory"):
            attacks.start(title="on 5", target="5")
        attacks.stop()
    assert not attacks.state["running"]


def test_it_ends_when_whoever_started_it_is_killed():
    code = """import time; from fl_gan_lib.explorer.live import LiveAttacks
attacks = LiveAttacks(lambda news: print(news.get("round"), flush=True))
attacks.start(title="", target="5"); time.sleep(300)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert "1\n" in starter.stdout
        training = psutil.Process(starter.pid).children()
        starter.kill()
    ended, running = psutil.wait_procs(training, timeout=60)
    assert ended and not running
