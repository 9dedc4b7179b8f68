"""Real attacks in a process of their own: whoever shows them stays responsive, and needs no torch.

The process is started once and runs one attack after another. What it says about them are lines of JSON that a browser
can show as they are (`live.js`), so nothing is written to a disk.
"""

from __future__ import annotations

import _thread
import base64
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

ROUNDS = 200
ROUNDS_ON_DRAWINGS = 100
SECRET = "secret"  # the class of the drawings: they have no other name where they are attacked

News = dict[str, Any]


class LiveAttacks:
    """Runs attacks, one at a time, in another process, which leaves a core to the caller.

    Args:
        report: called from another thread with news, a part of `state`: at the start of an attack all of it, after each
            round what has changed, and where the round was recorded a new `frame`.

    Attributes:
        state: the attack that runs, or the last one: `title`, `running`, `round` and `rounds`, `message` (in words),
            `time` (of the last round, seconds since 1970), `frames` (a list: `round`, `png`, `side`, `probe` or None,
            `sentence`), and where they may be seen the victim's images, `private`. At first there are no frames, and
            nothing is running.
    """

    def __init__(self, report: Callable[[News], None]) -> None:
        self.state = _nothing()
        self._report = report
        self._process: subprocess.Popen | None = None
        self._number = 0  # of the attack: what is late from one that was cleared is not told
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Have all ready that an attack on drawings needs, so that it begins at once.

        Raises:
            OSError: this computer can start no further process.
        """
        with self._lock:
            self._open()
            self._send({"do": "prepare"})

    def start(self, *, title: str, rounds: int = ROUNDS, **what: Any) -> bool:
        """Start an attack, if none is running; whether it was started.

        Args:
            title: of the attack, for all who look.
            rounds: of federated averaging.
            what: `target` and `dataset`, and perhaps `path` for the record; or `drawings`, uint8 (n, 28, 28) as bytes.

        Raises:
            OSError: as for `prepare`.
        """
        if drawings := what.pop("drawings", None):
            what["drawings"] = base64.b64encode(drawings).decode()
        with self._lock:
            if self.state["running"]:
                return False
            self._open()
            self._number += 1
            self.state = {"title": title, "running": True, "round": 0, "rounds": rounds, "frames": []}
            self._tell(self.state | {"message": "Preparing ..."})
            self._send({"do": "attack", "number": self._number, "rounds": rounds} | what)
        return True

    def stop(self) -> None:
        """Stop the attack that runs, if there is one; its frames stay."""
        with self._lock:
            self._stop()

    def clear(self) -> None:
        """Stop the attack that runs, and forget what it has drawn."""
        with self._lock:
            self._stop()
            self._number += 1
            self.state = _nothing()
            self._report(self.state)

    def close(self) -> None:
        """End the process, and with it the attack."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    # `_open` to `_tell` are called with the lock.

    def _open(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        threads = str(max(1, (os.cpu_count() or 2) - 1))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fl_gan_lib", "live"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"OMP_NUM_THREADS": threads, "PYTHONIOENCODING": "utf-8"},
        )
        threading.Thread(target=self._follow, args=[self._process], daemon=True).start()

    def _stop(self) -> None:
        if self.state["running"]:
            self._send({"do": "stop"})

    def _send(self, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it has ended: `_follow` says so
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _tell(self, news: News) -> None:
        """Report it; what was reported before stays as it is, as it may not have been sent yet."""
        changed = {name: value for name, value in news.items() if name != "frame"}
        if "frame" in news:
            changed["frames"] = [*self.state["frames"], news["frame"]]
        self.state = self.state | changed
        self._report(news)

    def _follow(self, process: subprocess.Popen) -> None:
        last_line = ""
        for line in process.stdout:
            try:
                said = json.loads(line)
                number, news = said["number"], said["news"]
            except (ValueError, TypeError, KeyError):
                last_line = line.strip() or last_line  # a warning, or why it has ended
                continue
            with self._lock:
                if number == self._number:
                    self._tell(news)
        process.wait()
        with self._lock:
            if process is self._process and self.state["running"]:
                self._tell({"running": False, "message": f"The attack has ended: {last_line}"[:300]})


def _nothing() -> News:
    return {"title": "", "running": False, "message": "No attack is running.", "frames": []}


def run_attacks() -> None:
    """The other end of `LiveAttacks`: orders on the standard input, news on the standard output."""
    # A demo in the background of a script (`make demo &`) passes on that interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    orders: queue.Queue[dict[str, Any] | None] = queue.Queue()
    busy = threading.Event()
    wanted: int | None = None  # the attack that was ordered last, unless it was stopped

    def stop() -> None:
        nonlocal wanted
        ordered, wanted = wanted, None
        if ordered is not None and busy.is_set():  # a second interrupt would end the process
            _thread.interrupt_main()

    def listen() -> None:
        nonlocal wanted
        for line in sys.stdin:
            order = json.loads(line)
            if order["do"] == "stop":
                stop()
            else:
                wanted = order.get("number", wanted)
                orders.put(order)
        orders.put(None)  # the caller has ended
        stop()

    threading.Thread(target=listen, daemon=True).start()
    while (order := orders.get()) is not None:
        if order.pop("do") == "prepare":
            _prepare()
            continue
        number = order.pop("number")
        say = partial(_say, number)
        try:
            import fl_gan_lib.attack  # noqa: F401 - before it can be interrupted: torch cannot be imported twice

            busy.set()
            if number != wanted:
                raise KeyboardInterrupt
            _run(say, **order)
        except KeyboardInterrupt:
            say(running=False, message="Stopped before the first round.")
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            say(running=False, message=f"The attack did not run: {error}")
        finally:
            busy.clear()


def _say(number: int, **news: Any) -> None:
    print(json.dumps({"number": number, "news": news}), flush=True)


def _prepare() -> None:
    """What an attack on drawings needs before its first round is the same for all of them."""
    import numpy as np

    from fl_gan_lib.datasets.drawings import drawings
    from fl_gan_lib.drawn import FEWEST, SIDE
    from fl_gan_lib.metrics import make_probe

    pictures = np.random.default_rng(0).integers(0, 256, (FEWEST, SIDE, SIDE), dtype=np.uint8)
    dataset = drawings(pictures, SECRET)
    make_probe(SECRET, dataset)


def _run(
    say: Callable[..., None],
    rounds: int,
    target: str = SECRET,
    dataset: Any = "mnist-5k",
    drawings: str | None = None,
    path: str | None = None,
) -> None:
    import numpy as np

    from fl_gan_lib.attack import run_attack
    from fl_gan_lib.explorer.page import anchors_of, as_png, describe
    from fl_gan_lib.records import AttackRecord

    if drawings is not None:
        from fl_gan_lib.datasets.drawings import drawings as class_of
        from fl_gan_lib.drawn import SIDE

        pictures = np.frombuffer(base64.b64decode(drawings), np.uint8).reshape(-1, SIDE, SIDE)
        dataset = class_of(pictures, SECRET)

    def watch(round: int, record: AttackRecord | None) -> None:
        news: News = {"round": round, "message": f"Training: round {round} of {rounds}.", "time": time.time()}
        if record is not None:
            probe = float(record.metrics["probe"].iloc[-1])
            news["frame"] = {
                "round": round,
                "png": as_png(record.samples[-1:, :20]),
                "side": record.samples.shape[-1],
                "probe": None if np.isnan(probe) else float(np.round(probe, 4)),
                "sentence": describe(record, -1),
            }
            if len(record.rounds) == 1:
                news["anchors"] = anchors_of(record)["probe"]
                if drawings is None:
                    news["private"] = as_png(record.private_samples[None, :10])
                    news["private_title"] = f"The victim's private images of the class {record.target_name}"
                    news["side"] = record.samples.shape[-1]
            if path:
                record.save(path)
        say(**news)

    record = run_attack(
        target, dataset=dataset, rounds=rounds, progress=False, watch=watch, num_frames=30, quick=drawings is not None
    )
    reached = record.rounds[-1]
    kept = f" The record is in {path}." if path else ""
    verb = "Finished" if reached == rounds else "Stopped"
    say(running=False, round=int(reached), message=f"{verb} at round {reached} of {rounds}.{kept}")
