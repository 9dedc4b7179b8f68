"""What the explorer shows, as data for a browser, and as a piece of HTML that needs neither kernel nor network."""

from __future__ import annotations

import base64
import io
import json
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.records import AttackRecord, check_keys

# Enough for small pictures and for large ones; the size of a page matters on a classroom's Wi-Fi.
NUM_GREYS, NUM_GREYS_LARGE = 8, 16

MADE_BY_MAKE_RECORDS = ("attack", "without injection", "oracle", "class held back 200 rounds")

SCRIPT = Path(__file__).with_name("explorer.js")

STYLE = Path(__file__).with_name("explorer.css")


def standalone_page(records: Mapping[int, AttackRecord]) -> str:
    """The explorer as a piece of HTML that needs neither kernel nor network.

    In JupyterLab and Notebook (whose pages carry `jupyter-config-data`) it gives the widget some seconds to come, which
    then takes its place.
    """
    name = f"fl-gan-{uuid.uuid4()}"
    data = json.dumps(run_of("attack", records, num_fakes=10)).replace("</", "<\\/")
    return f"""<div id="{name}" class="fl-gan-page">
<p>The explorer: run this cell, or export the notebook as HTML, to pick a class and slide through the rounds.</p>
<style>{STYLE.read_text(encoding="utf-8")}</style>
<script type="application/json">{data}</script>
<script type="module">
{SCRIPT.read_text(encoding="utf-8")}
const page = document.getElementById("{name}");
setTimeout(() => {{
  if (!page?.isConnected) return;
  page.querySelector("p").remove();
  mount(page, JSON.parse(page.querySelector("script[type='application/json']").textContent), null);
}}, document.getElementById("jupyter-config-data") ? 5000 : 0);
</script>
</div>"""


def run_of(name: str, records: Mapping[int, AttackRecord], *, num_fakes: int) -> dict[str, Any]:
    """A run for the browser: what to show of each class, or what is missing.

    Raises:
        ValueError: a record is under another number than that of its class.
    """
    check_keys(records)
    classes = next((record.classes for record in records.values()), DIGITS)
    recorded = ", ".join(classes[target] for target in sorted(records)) or "none"
    can_be_made = name in MADE_BY_MAKE_RECORDS and classes == DIGITS
    targets = {}
    for target, class_name in enumerate(classes):
        if target in records:
            targets[str(target)] = frames_of(records[target], num_fakes=num_fakes)
        else:
            advice = f"Make one with: make records DIGITS={class_name}" if can_be_made else f"It has {recorded}."
            missing = f"There is no readable record of the class {class_name} in this run. {advice}"
            targets[str(target)] = {"missing": missing}
    return {"name": name, "classes": list(classes), "targets": targets}


def frames_of(record: AttackRecord, *, num_fakes: int) -> dict[str, Any]:
    """A record for the browser: all its rounds in one picture each of private images and of fakes, and its numbers."""
    numbers = record.metrics[["probe", "recognition", "diversity", "accuracy"]].round(4)
    owner = "attacker's" if record.config["kind"] == "attack" else "oracle's"
    known = "drawn without a single image of it" if owner == "attacker's" else "drawn with the private images"
    return {
        "side": record.samples.shape[-1],
        "rounds": record.rounds.tolist(),
        "metrics": {
            name: [None if math.isnan(value) else value for value in column]
            for name, column in numbers.to_dict("list").items()
        },
        "sentences": [describe(record, frame) for frame in range(len(record.rounds))],
        "private_title": f"The victim's private images of the class {record.target_name}",
        "private": {"png": as_png(record.private_samples[None, :10])},
        "fakes_title": f"The {owner} fakes, {known}",
        "fakes": {"png": as_png(record.samples[:, :num_fakes])},
    }


def describe(record: AttackRecord, frame: int) -> str:
    """A sentence or two about a recorded round: what the judge and the probe make of the fakes."""
    row = record.metrics.iloc[frame]
    number = len(record.final_samples)
    probe = "The probe is not measured."
    if not math.isnan(row["probe"]):
        real = f" (real images {record.anchors['real images']:.2f})" if record.anchors else ""
        probe = f"The probe is at {row['probe']:.2f}{real}."
    return (
        f"Round {record.rounds[frame]}, class {record.target_name}: {round(row['recognition'] * number)} of {number} "
        f"fakes are classified as {record.target_name}. {probe}"
    )


def as_png(images: np.ndarray) -> str:
    """Images of shape (R, N, S, S) as one PNG of R rows in few greys, as a data URL."""
    rows, columns, side = images.shape[:3]
    greys = NUM_GREYS if side <= 28 else NUM_GREYS_LARGE
    nearest = np.round(np.arange(256) / 255 * (greys - 1)).astype(np.uint8)
    picture = Image.frombytes("P", (columns * side, rows * side), nearest[images.transpose(0, 2, 1, 3)].tobytes())
    picture.putpalette(np.linspace(0, 255, greys).round().astype(int).repeat(3).tolist())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", bits=4, compress_level=4)  # 1 % larger than level 6, in half the time
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
