"""What the explorer shows, as data for a browser: for the widget, for a piece of HTML, and for a page of its own."""

from __future__ import annotations

import base64
import io
import json
import math
import uuid
from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord, check_keys, load_all_records

# Enough for small pictures and for large ones; the size of a page matters on a classroom's Wi-Fi.
NUM_GREYS, NUM_GREYS_LARGE = 8, 16

FEW_CLASSES = 12  # where there are more, those without a record are not offered

PEOPLE = "faces"  # the folder, within one of records, that has those of notebook 08

MADE_BY_MAKE_RECORDS = ("attack", "without injection", "oracle", "class held back 200 rounds")

# What nobody taught the class is an anchor of the attack's own numbers.
HELD_BACK = "class held back 200 rounds"

HERE = Path(__file__).parent

Runs = Mapping[str, Mapping[int, AttackRecord]]


def script(*parts: str) -> str:
    """Those of our scripts in one."""
    return "\n".join(_compact(HERE / f"{part}.js") for part in parts)


def _compact(path: Path) -> str:
    """Without indentation and lines of comment: notebooks carry it in their outputs."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return "\n".join(line for line in lines if line and not line.startswith(("//", "/*")))


WIDGET_SCRIPT = script("parts", "explorer", "live", "pad", "widget")

STYLE = HERE / "explorer.css"


def load_runs(folder: str | Path) -> Runs:
    """All runs in a folder of records, by the names that a reader knows them by, what belongs together side by side."""
    runs = load_all_records(folder)
    names = {"attack": "attack", "passive": "without injection", "oracle": "oracle"}
    first = {name: runs.pop(kind) for kind, name in names.items() if kind in runs}
    return first | runs


def load_people(folder: str | Path) -> Runs | None:
    """Those on people that lie beside the runs of a folder of records; None where there are none."""
    folder = Path(folder).expanduser() / PEOPLE
    return load_runs(folder) if folder.is_dir() else None


def page_files(runs: Runs, people: Runs | None = None) -> dict[str, Callable[[], bytes]]:
    """The explorer as a page of its own: by name, what makes the contents of each file.

    It can be opened from a folder, and served by any web server from any address. The records are files of their own,
    which the page fetches when they are chosen.

    Args:
        runs: that the page shows.
        people: those of a second page, to which the first one leads.

    Raises:
        ValueError: as for `index_of`; a maker raises one as `record_of` does.
    """
    makers = {
        "page.css": STYLE.read_bytes,
        "page.js": lambda: f"(() => {{\n{script('parts', 'explorer', 'live', 'pad', 'page')}}})();\n".encode(),
    }
    pages = {"": runs} | ({"people/": people} if people else {})
    for place, shown in pages.items():
        index = index_of(shown) | ({"other": "people" if shown is runs else "digits"} if people else {})
        makers[f"{place}index.html"] = partial(_html, up="../" if place else "")
        makers[f"{place}index.js"] = partial(_index_file, index)
        for run, target in product(shown, range(len(index["classes"]))):
            makers[f"{place}runs/{run.replace(' ', '_')}/{target}.js"] = partial(_record_file, shown, run, target)
    return makers


def _html(*, up: str) -> bytes:
    """The page; `up` is where its style and its script are."""
    html = (HERE / "index.html").read_bytes()
    for name in (b"page.css", b"page.js"):
        html = html.replace(b'"%s"' % name, b'"%s%s"' % (up.encode(), name))
    return html


def _index_file(index: Mapping[str, Any]) -> bytes:
    return f"window.flGanIndex = {json.dumps(index)};\n".encode()


def _record_file(runs: Runs, run: str, target: int) -> bytes:
    arguments = json.dumps([run, str(target), record_of(runs, run, target)])
    return f"flGanRecord(...{arguments});\n".encode()


def write_page(runs: Runs, folder: str | Path, *, people: Runs | None = None) -> Path:
    """Write the page into a folder, and return the file to open; arguments as for `page_files`."""
    folder = Path(folder).expanduser()
    for name, make in page_files(runs, people).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_atomically(path, make())
    return folder / "index.html"


def standalone_page(records: Mapping[int, AttackRecord]) -> str:
    """The explorer of one run as a piece of HTML that needs neither kernel nor network.

    In JupyterLab and Notebook (whose pages carry `jupyter-config-data`) it gives the widget some seconds to come, which
    then takes its place.
    """
    runs = {"attack": records}
    index = index_of(runs)
    name = f"fl-gan-{uuid.uuid4()}"
    targets = {str(target): record_of(runs, "attack", target, num_fakes=10) for target in range(len(index["classes"]))}
    data = json.dumps({"index": index, "records": targets}).replace("</", "<\\/")
    return f"""<div id="{name}" class="fl-gan-page">
<p>The explorer: run this cell, or export the notebook as HTML, to pick a class and slide through the rounds.</p>
<style>{_compact(STYLE)}</style>
<script type="application/json">{data}</script>
<script type="module">
{script("parts", "explorer")}
const page = document.getElementById("{name}");
setTimeout(() => {{
  if (!page?.isConnected) return;
  page.querySelector("p").remove();
  const {{ index, records }} = JSON.parse(page.querySelector("script[type='application/json']").textContent);
  mountExplorer(page, index, async (_run, target) => records[target]);
}}, document.getElementById("jupyter-config-data") ? 5000 : 0);
</script>
</div>"""


def index_of(runs: Runs) -> dict[str, Any]:
    """The names of classes and of runs, the classes to choose from, and the one to show first.

    Where there are more than twelve classes, those without a record in the first run are not offered.

    Raises:
        ValueError: the first run has a record under another number than that of its class.
    """
    first = next(iter(runs.values()))
    check_keys(first)
    classes = next((record.classes for record in first.values()), DIGITS)
    shown = 3 if classes == DIGITS and 3 in first else next(iter(sorted(first)), 0)
    offered = range(len(classes)) if len(classes) <= FEW_CLASSES else sorted(first)
    return {"classes": list(classes), "offered": list(offered), "runs": list(runs), "first": str(shown)}


def record_of(runs: Runs, run: str, target: int, *, num_fakes: int = 20) -> dict[str, Any]:
    """What to show of a class in a run, or under `missing` a word on why there is nothing.

    Raises:
        ValueError: a record is under another number than that of its class, or of other classes than the first run's.
    """
    records, classes = runs[run], index_of(runs)["classes"]
    check_keys(records)
    if target in records:
        record = records[target]
        if list(record.classes) != classes:
            raise ValueError(f"the run {run!r} is of other classes than the first: show it in an explorer of its own")
        held_back = runs.get(HELD_BACK, {}).get(target) if run != HELD_BACK else None
        return frames_of(record, num_fakes=num_fakes) | {"anchors": anchors_of(record, held_back)}
    recorded = ", ".join(classes[other] for other in sorted(records)) or "none"
    can_be_made = run in MADE_BY_MAKE_RECORDS and tuple(classes) == DIGITS
    advice = f"Make one with: make records DIGITS={classes[target]}" if can_be_made else f"It has {recorded}."
    return {"missing": f"There is no readable record of the class {classes[target]} in this run. {advice}"}


def anchors_of(record: AttackRecord, held_back: AttackRecord | None = None) -> dict[str, list[tuple[str, float]]]:
    """By column of the metrics, what its values are to be read beside: names and levels."""
    if "identified" in record.metrics:
        chance = round(1 / len(record.classes), 4)
        return {"identified": [("chance", chance)], "diversity": [("real images", 1.0)]}
    probe = {name: record.anchors[name] for name in ("noise", "real images") if name in record.anchors}
    if held_back is not None:
        probe["class held back"] = float(held_back.metrics["probe"].iloc[-1])
    known = [(name, round(value, 4)) for name, value in probe.items() if not math.isnan(value)]
    return {"probe": known, "diversity": [("real images", 1.0)]}


def frames_of(record: AttackRecord, *, num_fakes: int) -> dict[str, Any]:
    """A record for the browser: all its rounds in one picture each of private images and of fakes, and its numbers."""
    leading = "identified" if "identified" in record.metrics else "probe"
    numbers = record.metrics[[leading, "recognition", "diversity", "accuracy"]].round(4)
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
        "private": as_png(record.private_samples[None, :10]),
        "fakes_title": f"The {owner} fakes, {known}",
        "fakes": as_png(record.samples[:, :num_fakes]),
    }


def describe(record: AttackRecord, frame: int) -> str:
    """A sentence or two about a recorded round: what the judge and the probe make of the fakes, or identifiers."""
    row = record.metrics.iloc[frame]
    if "identified" in row:
        return (
            f"Round {record.rounds[frame]}. Networks that have learned from other photographs name "
            f"{record.target_name} for {row['identified']:.0%} of the fakes (by chance: {1 / len(record.classes):.1%})."
        )
    number = len(record.final_samples)
    judged = "."
    if not math.isnan(row["recognition"]):
        share = f"{round(row['recognition'] * number)} of {number}"
        judged = f": {share} fakes are classified as {record.target_name}."
    probe = "The probe is not measured."
    if not math.isnan(row["probe"]):
        real = f" (real images {record.anchors['real images']:.2f})" if record.anchors else ""
        probe = f"The probe is at {row['probe']:.2f}{real}."
    return f"Round {record.rounds[frame]}, class {record.target_name}{judged} {probe}"


def as_png(images: np.ndarray) -> str:
    """Images of shape (R, N, S, S) as one PNG of R rows in few greys, as a data URL."""
    rows, columns, side = images.shape[:3]
    greys = NUM_GREYS if side <= 28 else NUM_GREYS_LARGE
    nearest = np.round(np.arange(256) / 255 * (greys - 1)).astype(np.uint8)
    picture = Image.frombytes("P", (columns * side, rows * side), nearest[images.transpose(0, 2, 1, 3)].tobytes())
    picture.putpalette(np.linspace(0, 255, greys).round().astype(int).repeat(3).tolist())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", bits=4)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
