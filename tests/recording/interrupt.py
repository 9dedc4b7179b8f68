"""Ends runs of the attack at random moments, with kill -9 and Ctrl-C, and goes on.

python tests/recording/interrupt.py 50
"""

import os
import random
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm.auto import tqdm

from fl_gan_lib.attack import run_attack
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord

RUN = {"rounds": 8, "num_frames": 4, "progress": False, "device": "cpu"}


def same(one: AttackRecord, other: AttackRecord) -> bool:
    """Bit for bit, but for the seconds."""
    pixels = [np.array_equal(getattr(one, name), getattr(other, name)) for name in ("samples", "final_samples")]
    numbers = [record.metrics.drop(columns="seconds").to_csv() for record in (one, other)]
    return all(pixels) and numbers[0] == numbers[1]


def start(run: Callable[[], object]) -> int:
    """In a process of its own: torch, the images and the judge are there already."""
    process = os.fork()
    if process == 0:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        try:
            run()
        except KeyboardInterrupt:
            pass
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return process


def wait_for_a_moment(process: int, folder: Path, seconds: float, rng: random.Random) -> bool:
    """Let a random time pass, three times `seconds` at most, and every other time wait until a file is being written.

    Returns:
        Whether the process is still running.
    """
    deadline = time.monotonic() + rng.uniform(0, 3 * seconds)
    writing = rng.random() < 0.5
    while time.monotonic() < deadline or (writing and not list(folder.glob(".*.tmp"))):
        if os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return False
        time.sleep(0.001)
    return True


def main(num_kills: int) -> None:
    torch.set_num_threads(1)
    tqdm.set_lock(threading.RLock())  # its own is shared by forked processes: one that is killed would keep it
    rng = random.Random(0)
    uninterrupted = run_attack(3, **RUN)
    begin = time.monotonic()
    run_attack(3, **RUN)
    seconds = (time.monotonic() - begin) / RUN["rounds"]
    counts = dict.fromkeys(("kill -9", "Ctrl-C", "while writing", "rounds lost at a time", "finished"), 0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, log = folder / "attack_3.npz", folder / "log"
        while counts["kill -9"] + counts["Ctrl-C"] < num_kills or not counts["finished"]:
            done = round_of(path)
            process = start(partial(run_attack, 3, path=path, watch=partial(append, log), **RUN))
            enough = counts["kill -9"] + counts["Ctrl-C"] == num_kills
            if not enough and wait_for_a_moment(process, folder, seconds, rng):
                way = rng.choice(("kill -9", "Ctrl-C"))
                counts["while writing"] += bool(list(folder.glob(".*.tmp")))
                os.kill(process, signal.SIGKILL if way == "kill -9" else signal.SIGINT)
                counts[way] += 1
            if os.WEXITSTATUS(os.waitpid(process, 0)[1]):
                sys.exit("a run has failed: see above")
            announced = [int(line) for line in log.read_text(encoding="utf-8").split()] if log.exists() else []
            if announced and announced[0] != done + 1:
                sys.exit(f"it went on with round {announced[0]}, and round {done} was in the file")
            record = AttackRecord.load(path) if path.exists() else None
            if record and record.rounds[-1] == RUN["rounds"] and not path.with_suffix(".partial").exists():
                if not same(record, uninterrupted):
                    sys.exit("the record has other bits than that of the run without an interruption")
                counts["finished"] += 1
                path.unlink()
            elif announced:
                lost = announced[-1] - round_of(path)
                counts["rounds lost at a time"] = max(counts["rounds lost at a time"], lost)
            log.unlink(missing_ok=True)
    print(counts)
    if counts["rounds lost at a time"] > 1:
        sys.exit("more than a round was lost")


def append(log: Path, round: int, _record: AttackRecord | None) -> None:
    with log.open("a", encoding="utf-8") as file:
        print(round, file=file)


def round_of(path: Path) -> int:
    """The round after which the unfinished run would go on."""
    unfinished = path.with_suffix(".partial")
    return files.unpack(unfinished.read_bytes())[0]["round"] if unfinished.exists() else 0


if __name__ == "__main__":
    main(int(sys.argv[1]))
