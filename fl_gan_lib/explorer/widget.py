"""In a notebook: the explorer of recorded attacks, and a pad to draw a secret. Needs no torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import HTML, display

from fl_gan_lib.classes import NAMED
from fl_gan_lib.drawn import SIDE, check_drawings
from fl_gan_lib.explorer.live import ROUNDS_ON_DRAWINGS, LiveAttacks, News
from fl_gan_lib.explorer.page import STYLE, WIDGET_SCRIPT, index_of, record_of, standalone_page
from fl_gan_lib.records import AttackRecord, record_path


def attack_explorer(
    records: Mapping[int, AttackRecord],
    *,
    beside: Mapping[str, Mapping[int, AttackRecord]] | None = None,
    live_folder: str | Path | None = None,
) -> Explorer:
    """Pick a class and slide through the rounds of its recorded attack.

    Of up to twelve classes, those without a record stay in the picker, and say so; of more, they are left out. Up to
    twelve in the picker are buttons, more are a list.

    Args:
        records: by number of the class, for instance from `records.load_records`.
        beside: further runs that can be put beside the first, by name: without injection, with a defence, the oracle.
        live_folder: where live attacks leave their records; without it, or where the records are of images of your own,
            there is no live mode.

    Returns:
        A widget with a class picker, a round slider with a play button, the victim's private images above the fakes
        of the chosen round, a sentence that says what is seen, and the numbers over the rounds. Everything moves in
        the browser; a record of another run is sent there when it is first chosen. Displayed in a notebook, it leaves a
        copy without the other runs and the live mode in the output, for pages that have no kernel.

    Raises:
        ValueError: a record of the first run is under another number than that of its class.
    """
    return Explorer({"attack": records, **(beside or {})}, live_folder)


def draw_secret() -> DrawnSecret:
    """A pad to draw a symbol on, 8 to 20 times, and a button that starts an attack on the drawings.

    Returns:
        A widget. Its `pictures` are the drawings so far, uint8 (n, 28, 28), for `datasets.drawings.drawings`. They are
        in the memory of this notebook's kernel, and in no file.
    """
    return DrawnSecret()


_attacks: dict[type, LiveAttacks] = {}  # of the last widget of each kind: a cell that runs again needs one process


class _Live(anywidget.AnyWidget):
    """What the explorer and the pad have in common: a live attack, and whoever looks at it."""

    _esm = WIDGET_SCRIPT
    _css = STYLE
    index = traitlets.Dict().tag(sync=True)
    first = traitlets.Dict().tag(sync=True)
    can_train = traitlets.Bool().tag(sync=True)

    def __init__(self, **traits: Any) -> None:
        self.attacks = LiveAttacks(self.tell)
        super().__init__(**traits)
        self.on_msg(self._on_message)
        if self.can_train:
            if before := _attacks.pop(type(self), None):
                before.close()
            _attacks[type(self)] = self.attacks

    def tell(self, news: News) -> None:
        """Send it to all views."""
        self.send({"kind": "news", "part": news})

    def _on_message(self, _widget: Any, message: Any, _buffers: Any) -> None:
        match message:
            case {"kind": "start"}:
                self.begin(message)
            case {"kind": "stop"}:
                self.attacks.stop()
            case {"kind": "look"}:
                self.tell(self.attacks.state)

    def begin(self, message: dict[str, Any]) -> None:
        """Start an attack on what the message names."""
        raise NotImplementedError

    def refuse(self, error: Exception) -> None:
        """Say why an attack did not start."""
        self.tell({"running": False, "message": str(error)})


class Explorer(_Live):
    """What `attack_explorer` returns."""

    def __init__(self, runs: Mapping[str, Mapping[int, AttackRecord]], live_folder: str | Path | None) -> None:
        first = next(iter(runs.values()))
        self._runs = runs
        self._dataset = next((record.config["dataset"] for record in first.values()), "mnist-5k")
        self._live_folder = live_folder if self._dataset in NAMED else None
        index = index_of(runs)
        super().__init__(
            index=index,
            first={str(target): record_of(runs, "attack", target) for target in range(len(index["classes"]))},
            can_train=self._live_folder is not None,
        )

    def _ipython_display_(self) -> None:
        display(HTML(standalone_page(next(iter(self._runs.values())))))
        view, *_ = self._repr_mimebundle_()
        display({name: value for name, value in view.items() if name != "text/plain"}, raw=True)

    def _on_message(self, widget: Any, message: Any, buffers: Any) -> None:
        match message:
            case {"kind": "load", "run": str(run), "target": str(target)} if run in self._runs and target.isdecimal():
                try:
                    record = record_of(self._runs, run, int(target))
                except ValueError as error:
                    record = {"missing": str(error)}
                self.send(message | {"kind": "record", "record": record})
            case _:
                super()._on_message(widget, message, buffers)

    def begin(self, message: dict[str, Any]) -> None:
        """Start a live attack on a class, if none is running; `live_<class>.npz` in the live folder is its record."""
        classes, target = self.index["classes"], message.get("target")
        if self._live_folder is None or target not in map(str, range(len(classes))):
            return
        name = classes[int(target)]
        path = record_path(self._live_folder, name, "live")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.attacks.start(title=f"Live attack on {name}", target=name, dataset=self._dataset, path=str(path))
        except OSError as error:
            self.refuse(error)


class DrawnSecret(_Live):
    """What `draw_secret` returns.

    Attributes:
        pictures: the drawings so far: uint8 (n, 28, 28). They are no state of the widget, which a notebook may save.
    """

    def __init__(self) -> None:
        super().__init__(can_train=True)
        self.pictures = np.zeros((0, SIDE, SIDE), np.uint8)

    def __repr__(self) -> str:
        return "Here is a pad to draw on when the notebook runs. The page of make demo has it, too."

    def _on_message(self, widget: Any, message: Any, buffers: Any) -> None:
        match message:
            case {"kind": "drawings", "drawings": str(packed)}:
                self.keep(packed)
            case _:
                super()._on_message(widget, message, buffers)

    def keep(self, packed: str) -> None:
        """Take what the pad has: grey values in base64. While somebody draws, what an attack needs is prepared."""
        try:
            if not len(self.pictures):
                self.attacks.prepare()
            self.pictures = np.frombuffer(base64.b64decode(packed), np.uint8).reshape(-1, SIDE, SIDE)
        except (ValueError, OSError) as error:
            self.refuse(error)

    def begin(self, message: dict[str, Any]) -> None:
        """Start an attack on the drawings, if none is running."""
        try:
            drawn = check_drawings(self.pictures).tobytes()
            self.attacks.start(title="Live attack on your secret", drawings=drawn, rounds=ROUNDS_ON_DRAWINGS)
        except (ValueError, OSError) as error:
            self.refuse(error)
