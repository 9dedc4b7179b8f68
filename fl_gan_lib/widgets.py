"""The explorer: pick a digit, slide through the rounds, start an attack. Shows records, needs no torch."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import HTML, display
from PIL import Image

from fl_gan_lib.live import start_attack
from fl_gan_lib.records import AttackRecord, record_path

# Enough for digits, and the size of a page matters on a classroom's Wi-Fi.
NUM_GREYS = 8

_FROM_MAKE_RECORDS = ("attack", "without injection", "oracle")

_SCRIPT = Path(__file__).with_name("explorer.js")
_STYLE = Path(__file__).with_name("explorer.css")


def attack_explorer(
    records: Mapping[int, AttackRecord],
    *,
    beside: Mapping[str, Mapping[int, AttackRecord]] | None = None,
    live_folder: str | Path | None = None,
) -> Explorer:
    """Pick a digit and slide through the rounds of its recorded attack.

    Digits of which there is no record stay in the picker, and say how to make one.

    Args:
        records: by digit, for instance from `records.load_records`.
        beside: further runs that can be put beside the first, by name: without injection, with a defence, the oracle.
        live_folder: where live attacks leave their records; without it there is no live mode.

    Returns:
        A widget with a digit picker, a round slider with a play button, the victim's private images above the fakes
        of the chosen round, a sentence that says what is seen, and the numbers over the rounds. Everything moves in
        the browser; another run is sent there when it is first chosen. Displayed in a notebook, it leaves a copy
        without the other runs and the live mode in the output, for pages that have no kernel.
    """
    runs = {"attack": records, **(beside or {})}
    return Explorer(runs, live_folder)


class Explorer(anywidget.AnyWidget):
    """What `attack_explorer` returns."""

    _esm = _SCRIPT
    _css = _STYLE
    names = traitlets.List().tag(sync=True)
    first = traitlets.Dict().tag(sync=True)
    can_train = traitlets.Bool().tag(sync=True)
    live = traitlets.Dict().tag(sync=True)
    live_run = traitlets.Dict().tag(sync=True)

    def __init__(self, runs: Mapping[str, Mapping[int, AttackRecord]], live_folder: str | Path | None) -> None:
        self._runs = runs
        self._live_folder = live_folder
        self._stop: Callable[[], None] | None = None
        super().__init__(
            names=list(runs),
            first=self._load(next(iter(runs))),
            can_train=live_folder is not None,
            live={"running": False, "message": "A real attack, on this computer. It takes some minutes."},
        )
        self.on_msg(self._obey)

    def _ipython_display_(self) -> None:
        if not os.environ.get("SERVER_SOFTWARE", "").startswith("voila"):  # whose pages always have a kernel
            display(HTML(_page(next(iter(self._runs.values())))))
        view, *_ = self._repr_mimebundle_()
        display({name: value for name, value in view.items() if name != "text/plain"}, raw=True)

    def _obey(self, _widget: Any, message: dict[str, Any], _buffers: Any) -> None:
        match message:
            case {"kind": "start", "digit": digit} if type(digit) is int and digit in range(10):  # True is an int, too
                self.start(digit)
            case {"kind": "stop"}:
                self.stop()
            case {"kind": "load", "run": str(name)} if name in self._runs:
                self.send(self._load(name))

    def _load(self, name: str) -> dict[str, Any]:
        return _run(name, self._runs[name], num_fakes=20)

    def start(self, digit: int) -> None:
        """Start a live attack on `digit`, if none is running; `attack_<digit>.npz` in the live folder is its record."""
        if self._live_folder is None or self.live["running"]:
            return
        path = record_path(self._live_folder, digit)
        self.live_run = {}
        self.live = {"running": True, "message": "Starting ..."}

        def report(progress: dict[str, Any]) -> None:
            if progress.pop("saved", False):
                with suppress(OSError, ValueError):  # somebody has deleted it: the next round brings another
                    self.live_run = {"digit": digit, "run": _frames(AttackRecord.load(path), num_fakes=20)}
            self.live = progress

        try:
            self._stop = start_attack(digit, path, report=report)
        except OSError as error:
            self.live = {"running": False, "message": f"The attack did not start: {error}"}

    def stop(self) -> None:
        """Stop the live attack; its record reaches as far as the last recorded round."""
        if self._stop:
            self._stop()


def describe(record: AttackRecord, frame: int) -> str:
    """One sentence about a recorded round: what the judge makes of the fakes, in words."""
    row = record.metrics.iloc[frame]
    number = len(record.final_samples)
    closed = f"closed to {row['gap_closed']:.0%}" if row["gap_closed"] > 0 else "not closed at all"
    article = "an" if record.target == 8 else "a"
    return (
        f"Round {record.rounds[frame]}, digit {record.target}: {round(row['recognition'] * number)} of {number} fakes "
        f"read as {article} {record.target}; the gap to the real images is {closed}."
    )


def _run(name: str, records: Mapping[int, AttackRecord], *, num_fakes: int) -> dict[str, Any]:
    """A run for the browser: what to show of each digit, or what is missing."""
    missing = "There is no readable record of the digit {0} in this run."
    missing += (
        " Make one with: make records DIGITS={0}" if name in _FROM_MAKE_RECORDS else f" It has {sorted(records)}."
    )
    digits = {
        str(digit): _frames(records[digit], num_fakes=num_fakes)
        if digit in records
        else {"missing": missing.format(digit)}
        for digit in range(10)
    }
    return {"name": name, "digits": digits}


def _frames(record: AttackRecord, *, num_fakes: int) -> dict[str, Any]:
    """A record for the browser: all its rounds in one picture each of private images and of fakes, and its numbers."""
    numbers = record.metrics[["recognition", "gap_closed", "diversity", "accuracy"]].round(4)
    digit = record.target
    owner = "attacker's" if record.config["kind"] == "attack" else "oracle's"
    known = f"drawn without a single {digit}" if owner == "attacker's" else "drawn with the private images"
    return {
        "rounds": record.rounds.tolist(),
        "metrics": {
            name: [None if math.isnan(value) else value for value in column]
            for name, column in numbers.to_dict("list").items()
        },
        "sentences": [describe(record, frame) for frame in range(len(record.rounds))],
        "private_title": f"The victim's private {digit}s",
        "private": {"png": _png(record.private_samples[None, :10])},
        "fakes_title": f"The {owner} fakes, {known}",
        "fakes": {"png": _png(record.samples[:, :num_fakes])},
    }


def _png(images: np.ndarray) -> str:
    """Images of shape (R, N, 28, 28) as one PNG of R rows in eight greys, as a data URL."""
    rows, columns = images.shape[:2]
    nearest = np.round(np.arange(256) / 255 * (NUM_GREYS - 1)).astype(np.uint8)
    picture = Image.frombytes("P", (columns * 28, rows * 28), nearest[images.transpose(0, 2, 1, 3)].tobytes())
    picture.putpalette(np.linspace(0, 255, NUM_GREYS).round().astype(int).repeat(3).tolist())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", bits=4, compress_level=4)  # 1 % larger than level 6, in half the time
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _page(records: Mapping[int, AttackRecord]) -> str:
    """The explorer as a piece of HTML that needs neither kernel nor network.

    In JupyterLab and Notebook (whose pages carry `jupyter-config-data`) it gives the widget some seconds to come, which
    then takes its place.
    """
    name = f"fl-gan-{uuid.uuid4()}"
    data = json.dumps(_run("attack", records, num_fakes=10)).replace("</", "<\\/")
    return f"""<div id="{name}" class="fl-gan-page">
<p>The explorer: run this cell, or export the notebook as HTML, to pick a digit and slide through the rounds.</p>
<style>{_STYLE.read_text(encoding="utf-8")}</style>
<script type="application/json">{data}</script>
<script type="module">
{_SCRIPT.read_text(encoding="utf-8")}
const page = document.getElementById("{name}");
setTimeout(() => {{
  if (!page?.isConnected) return;
  page.querySelector("p").remove();
  mount(page, JSON.parse(page.querySelector("script[type='application/json']").textContent), null);
}}, document.getElementById("jupyter-config-data") ? 5000 : 0);
</script>
</div>"""
