import os
import signal
import subprocess
import sys
import threading

import pytest
from filelock import FileLock

from fl_gan_lib.explorer.live import start_attack
from fl_gan_lib.records import AttackRecord


class Reports:
    """What `start_attack` reports, and a way to wait for some of it."""

    def __init__(self) -> None:
        self.all: list[dict] = []
        self.arrived = threading.Condition()

    def __call__(self, report: dict) -> None:
        with self.arrived:
            self.all.append(report)
            self.arrived.notify_all()

    def wait(self, wanted) -> dict:
        with self.arrived:
            assert self.arrived.wait_for(lambda: any(map(wanted, self.all)), timeout=120), self.all
            return next(filter(wanted, self.all))


def ended(report: dict) -> bool:
    return not report["running"]


def test_it_reports_each_round_and_leaves_a_record(tmp_path):
    path, reports = tmp_path / "live" / "attack_5.npz", Reports()
    start_attack(5, path, rounds=3, report=reports)
    end = reports.wait(ended)
    assert end["message"] == f"Finished: the record reaches round 3 of 3, and is in {path}."
    assert [report["round"] for report in reports.all] == [None, 1, 2, 3, 3]
    record = AttackRecord.load(path)
    assert record.target == 5 and record.rounds.tolist() == [1, 2, 3]


def test_only_one_runs_at_a_time_and_stopped_it_leaves_the_record_so_far(tmp_path):
    path, reports, refused = tmp_path / "attack_5.npz", Reports(), Reports()
    # As in the background of a script; the attack inherits it.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    stop = start_attack(5, path, rounds=200, report=reports)
    signal.signal(signal.SIGINT, handler)
    reports.wait(lambda report: report.get("saved") and report["round"] >= 2)
    start_attack(6, tmp_path / "attack_6.npz", rounds=1, report=refused)
    message = refused.wait(ended)["message"]
    assert message.startswith("The attack did not run: another live attack is running on this computer")
    stop()
    stop()
    end = reports.wait(ended)
    rounds = AttackRecord.load(path).rounds
    assert 2 <= rounds[-1] < 200 and f"Stopped: the record reaches round {rounds[-1]} of 200" in end["message"]


def test_whatever_the_process_prints_is_no_end_of_the_reports(tmp_path, monkeypatch):
    reports, popen = Reports(), subprocess.Popen
    code = "print('5'); print('null'); print('[1]'); print('no room'); raise SystemExit(1)"
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: popen([sys.executable, "-c", code], **options))
    start_attack(5, tmp_path / "attack_5.npz", report=reports)
    assert reports.wait(ended)["message"] == "The attack did not run: no room"


@pytest.mark.skipif(os.name == "nt", reason="kills a process the Unix way")
def test_it_stops_when_whoever_started_it_is_killed(tmp_path):
    path = tmp_path / "attack_5.npz"
    code = f"""import time; from fl_gan_lib.explorer.live import start_attack
start_attack(5, {str(path)!r}, rounds=200, report=lambda report: print(report["round"], flush=True)); time.sleep(300)"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as starter:
        assert "1" in map(str.strip, starter.stdout)
        starter.kill()
    with FileLock(tmp_path / "live.lock", timeout=30):  # the attack holds it as long as it runs
        assert AttackRecord.load(path).rounds[-1] < 200
