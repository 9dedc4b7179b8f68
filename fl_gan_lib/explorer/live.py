"""A real attack in a process of its own: whoever shows it stays responsive, and needs no torch."""

from __future__ import annotations

import _thread
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fl_gan_lib.records import AttackRecord


def start_attack(
    target: str | int,
    path: str | Path,
    *,
    dataset: str = "mnist-5k",
    rounds: int = 200,
    report: Callable[[dict[str, Any]], None],
) -> Callable[[], None]:
    """Start `run_attack` in another process, which saves its record to `path` after each recorded round.

    The process leaves a core to the caller, and stops when the caller ends, however that happens. Only one runs at a
    time in a folder of records.

    Args:
        target: the class, its name or number.
        path: of the record.
        dataset: by name.
        rounds: of the attack.
        report: called from another thread, at first, after each round and at the end, with `running` (bool), `round`
            (None before the first), `rounds`, `message` (in words), and after a round `saved` (bool, whether there is
            more in the record).

    Returns:
        A function that stops the attack; the record reaches as far as the last recorded round.

    Raises:
        OSError: this computer can start no further process.
    """
    command = [sys.executable, "-m", "fl_gan_lib", "live", f"--rounds={rounds}", f"--dataset={dataset}"]
    command += ["--", str(target), str(Path(path).expanduser())]
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"},
    )
    stopped = threading.Event()

    def follow() -> None:
        progress = {"running": True, "round": None, "rounds": rounds}
        report(progress | {"message": "Preparing: the judge learns to classify real images (some ten seconds) ..."})
        last_line, kept = "", None
        for line in process.stdout:
            try:
                news = json.loads(line)
            except json.JSONDecodeError:
                news = None
            if not isinstance(news, dict):
                last_line = line.strip() or last_line
                continue
            kept = news["round"] if news["saved"] else kept
            report(progress | news | {"message": f"Training: round {news['round']} of {rounds}."})
        failed = process.wait() != 0 and not stopped.is_set()
        if failed:
            message = f"The attack did not run: {last_line}"
        elif kept is None:
            message = "Stopped before the first round: there is no record."
        else:
            verb = "Stopped" if stopped.is_set() else "Finished"
            message = f"{verb}: the record reaches round {kept} of {rounds}, and is in {path}."
        report({"running": False, "round": kept or 0, "rounds": rounds if kept else 0, "message": message})

    def stop() -> None:
        stopped.set()
        process.stdin.close()

    threading.Thread(target=follow, daemon=True).start()
    return stop


def attack_live(target: str, path: Path, *, rounds: int, dataset: str) -> None:
    """The other end of `start_attack`: a line of JSON for each round, and the record saved as it grows."""
    # A demo in the background of a script (`make demo &`) passes on that interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_name("live.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        sys.exit("another live attack is running on this computer: wait until it has ended, or stop it")
    from fl_gan_lib.attack import run_attack

    def watch(round: int, record: AttackRecord | None) -> None:
        if record is not None:
            record.save(path)
        print(json.dumps({"round": round, "saved": record is not None}), flush=True)

    def interrupt_when_the_input_ends() -> None:
        sys.stdin.read()
        _thread.interrupt_main()

    threading.Thread(target=interrupt_when_the_input_ends, daemon=True).start()
    run_attack(target, dataset=dataset, rounds=rounds, progress=False, watch=watch)
