"""The explorer: pick a class, slide through the rounds, start an attack. Shows records, needs no torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from IPython.display import HTML, display

from fl_gan_lib.classes import DIGITS, NAMED
from fl_gan_lib.explorer.live import start_attack
from fl_gan_lib.explorer.page import SCRIPT, STYLE, frames_of, run_of, standalone_page
from fl_gan_lib.records import AttackRecord, record_path


def attack_explorer(
    records: Mapping[int, AttackRecord],
    *,
    beside: Mapping[str, Mapping[int, AttackRecord]] | None = None,
    live_folder: str | Path | None = None,
) -> Explorer:
    """Pick a class and slide through the rounds of its recorded attack.

    Classes of which there is no record stay in the picker, and say so. Up to twelve classes are buttons, more are a
    list.

    Args:
        records: by number of the class, for instance from `records.load_records`.
        beside: further runs that can be put beside the first, by name: without injection, with a defence, the oracle.
        live_folder: where live attacks leave their records; without it, or where the records are of images of your own,
            there is no live mode.

    Returns:
        A widget with a class picker, a round slider with a play button, the victim's private images above the fakes
        of the chosen round, a sentence that says what is seen, and the numbers over the rounds. Everything moves in
        the browser; another run is sent there when it is first chosen. Displayed in a notebook, it leaves a copy
        without the other runs and the live mode in the output, for pages that have no kernel.

    Raises:
        ValueError: a record is under another number than that of its class, or the runs are of different classes.
    """
    runs = {"attack": records, **(beside or {})}
    return Explorer(runs, live_folder)


class Explorer(anywidget.AnyWidget):
    """What `attack_explorer` returns."""

    _esm = SCRIPT
    _css = STYLE
    names = traitlets.List().tag(sync=True)
    first = traitlets.Dict().tag(sync=True)
    can_train = traitlets.Bool().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    live_run = traitlets.Dict().tag(sync=True)

    def __init__(self, runs: Mapping[str, Mapping[int, AttackRecord]], live_folder: str | Path | None) -> None:
        first = next(iter(runs.values()))
        self._dataset = next((record.config["dataset"] for record in first.values()), "mnist-5k")
        self._classes = next((record.classes for record in first.values()), DIGITS)
        self._runs = runs
        self._live_folder = live_folder if self._dataset in NAMED else None
        self._stop: Callable[[], None] | None = None
        super().__init__(
            names=list(runs),
            first=self._load(next(iter(runs))),
            can_train=self._live_folder is not None,
            live={"running": False, "message": "A real attack, on this computer. It takes some minutes."},
        )
        self.on_msg(self._on_message)

    def _ipython_display_(self) -> None:
        if not os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):  # whose pages always have a kernel
            display(HTML(standalone_page(next(iter(self._runs.values())))))
        view, *_ = self._repr_mimebundle_()
        display({name: value for name, value in view.items() if name != "text/plain"}, raw=True)

    def _on_message(self, _widget: Any, message: dict[str, Any], _buffers: Any) -> None:
        match message:
            # True is an int, too.
            case {"kind": "start", "target": target} if type(target) is int and target in range(len(self._classes)):
                self.start(target)
            case {"kind": "stop"}:
                self.stop()
            case {"kind": "load", "run": str(name)} if name in self._runs:
                self.send(self._load(name))

    def _load(self, name: str) -> dict[str, Any]:
        run = run_of(name, self._runs[name], num_fakes=20)
        if self._runs[name] and tuple(run["classes"]) != self._classes:
            raise ValueError(f"the run {name!r} is of other classes than the first: show it in an explorer of its own")
        return run

    def start(self, target: int) -> None:
        """Start a live attack on a class, if none is running; `live_<class>.npz` in the live folder is its record."""
        if self._live_folder is None or self.live["running"]:
            return
        # Not among the finished attacks: at first it is a record of one round.
        path = record_path(self._live_folder, self._classes[target], "live")
        self.live_run = {}
        self.live = {"running": True, "message": "Starting ..."}

        def report(progress: dict[str, Any]) -> None:
            if progress.pop("saved", False):
                with suppress(OSError, ValueError):  # somebody has deleted it: the next round brings another
                    self.live_run = {"target": target, "run": frames_of(AttackRecord.load(path), num_fakes=20)}
            self.live = progress

        try:
            self._stop = start_attack(self._classes[target], path, dataset=self._dataset, report=report)
        except OSError as error:
            self.live = {"running": False, "message": f"The attack did not start: {error}"}

    def stop(self) -> None:
        """Stop the live attack; its record reaches as far as the last recorded round."""
        if self._stop:
            self._stop()
