"""What `make bench` measures: what things cost, each beside what it is compared with, on the computer at hand."""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from fl_gan_lib.attack import GANAttacker, run_attack
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client, federate, shuffled_batches
from fl_gan_lib.figures import save_picture
from fl_gan_lib.models import Classifier
from fl_gan_lib.partitions import partition_iid, split_participants
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord, is_recognisable
from fl_gan_lib.seeding import seeded
from fl_gan_lib.studies.baselines import run_oracle
from fl_gan_lib.studies.figures import plot_costs

RECORDS = Path(__file__).parents[2] / "notebooks" / "runs"


@dataclass(frozen=True)
class Size:
    """How much `bench` measures.

    Attributes:
        repeats: of each side of a comparison, in turn with the other.
        rounds: of federated averaging in a repetition.
        crowd: how many clients are many.
        clients: numbers of clients, of the curve.
        images: numbers of images, of the curve.
        attack_rounds: of a whole attack; by default 200.
        digits: to attack at once on a GPU.
    """

    repeats: int = 5
    rounds: int = 10
    crowd: int = 1000
    clients: Sequence[int] = (2, 50, 100, 200, 500, 1000)
    images: Sequence[int] = (1000, 5000, 10_000, 20_000, 40_000, 60_000)
    attack_rounds: int | None = None
    digits: Sequence[int] = tuple(range(10))


FULL = Size()
SMOKE = Size(
    repeats=1,
    rounds=1,
    crowd=20,
    clients=(2, 4),
    images=(64, 128),
    attack_rounds=1,
    digits=(3,),
)

# A line of the table; see `_row`.
Row = dict[str, Any]
COLUMNS = ("what", "ours", "other", "unit", "ratio", "lowest", "highest", "reach", "repeats", "note")

# Ends what runs in a fresh Python: it says how many bytes it has had in memory at the most. Not a function of this
# module, which imports torch. On Linux getrusage also counts what the parent held when it forked.
_REPORT = """
import pathlib, resource
status = pathlib.Path("/proc/self/status")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(1024 * int(status.read_text(encoding="utf-8").partition("VmHWM:")[2].split()[0]) if status.exists() else peak)
"""


def alternate(sides: Mapping[str, Callable[[], float]], repeats: int) -> pd.DataFrame:
    """Measure all sides in turn, `repeats` times over: a row a repetition, a column a side.

    What else the computer does meets all sides alike, as far as it lasts longer than a turn.
    """
    return pd.DataFrame([{name: measure() for name, measure in sides.items()} for _ in range(repeats)])


def measure_small_round(size: Size) -> list[Row]:
    """A round of two clients against a bare loop over the same mini-batches."""
    return [_against_bare_loop("a round, 2 clients of 2,000 images", 2, 2000, "<= 1.05", size, rounds=size.rounds)]


def measure_crowded_round(size: Size) -> list[Row]:
    """A round of a hundred small clients against a bare loop over the same mini-batches."""
    count = min(100, size.crowd)
    return [_against_bare_loop(f"a round, {count} clients of 50 images", count, 50, "<= 1.10", size, rounds=1)]


def _against_bare_loop(what: str, count: int, images: int, reach: str, size: Size, *, rounds: int) -> Row:
    train = _images(count * images)
    clients = [Client(train.subset(part)) for part in partition_iid(train.labels, count)]
    federation = federate(Classifier(), clients, num_rounds=10**6)
    model = Classifier()
    optimizer = torch.optim.Adam(model.parameters(), lr=clients[0].learning_rate)
    seconds: dict[str, list[float]] = {"federate": [], "bare loop": []}
    for repeat in range(size.repeats + 1):
        spent = dict.fromkeys(seconds, 0.0)
        for _ in range(rounds):
            start = time.perf_counter()
            number = next(federation).number
            spent["federate"] += time.perf_counter() - start
            batches = [batch for turn, client in enumerate(clients) for batch in _drawn(client, number, turn)]
            start = time.perf_counter()
            for pixels, labels in batches:
                loss = F.cross_entropy(model(pixels), labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            spent["bare loop"] += time.perf_counter() - start
        if repeat:  # the first warms both up
            for name in seconds:
                seconds[name].append(spent[name] / rounds)
    return _row(what, pd.DataFrame(seconds), "ms", scale=1000, reach=reach)


def _images(count: int) -> ImageDataset:
    """So many images: those of mnist-5k, over and over, as the cost of a round does not depend on what they show."""
    train = load_dataset()[0]
    return train.subset(np.arange(count) % len(train))


def _drawn(client: Client, round: int, turn: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The mini-batches that an honest client takes in its turn."""
    with seeded(0, round, turn):
        return list(shuffled_batches(client.dataset, client.batch_size, client.local_steps))


def measure_memory(size: Size) -> list[Row]:
    """Peak resident memory of a federation of many clients against one of two, on the same images; two rounds."""
    code = """
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.partitions import partition_iid
from fl_gan_lib.federation import Client, federate
from fl_gan_lib.models import Classifier

train = load_dataset()[0]
clients = [Client(train.subset(part), local_steps=2) for part in partition_iid(train.labels, {})]
for _ in federate(Classifier(), clients, num_rounds=2):
    pass
"""
    sides = {
        f"{count} clients": lambda count=count: _in_a_fresh_python(code.format(count))["peak"]
        for count in (size.crowd, 2)
    }
    peaks = alternate(sides, size.repeats)
    return [_row(f"peak memory, {size.crowd:,} clients against 2", peaks, "MB", scale=1e-6)]


def _in_a_fresh_python(code: str) -> dict[str, float]:
    """Run code in a Python of its own: `seconds` from its start to its end, and its `peak` memory in bytes."""
    start = time.perf_counter()
    output = subprocess.run([sys.executable, "-c", code + _REPORT], check=True, capture_output=True, text=True).stdout
    return {"seconds": time.perf_counter() - start, "peak": float(output.split()[-1])}


def measure_clients(size: Size) -> list[Row]:
    """What a round costs with more and more clients, on the same images: 2 steps of 4 images each."""
    train = load_dataset()[0]
    federations = {}
    for count in size.clients:
        parts = partition_iid(train.labels, count)
        clients = [Client(train.subset(part), local_steps=2, batch_size=4) for part in parts]
        federations[count] = federate(Classifier(), clients, num_rounds=10**6)
    return [_line("each client more", federations, size, "clients, 2 steps of 4 images each")]


def measure_images(size: Size) -> list[Row]:
    """What a round of two clients costs with more and more images, an epoch a round."""
    federations = {}
    for count in size.images:
        train = _images(count)
        parts = partition_iid(train.labels, 2)
        clients = [Client(train.subset(part), local_steps=-(-len(part) // 32)) for part in parts]
        federations[count] = federate(Classifier(), clients, num_rounds=10**6)
    return [_line("each thousand images more", federations, size, "images of two clients, an epoch a round", per=1000)]


def _line(what: str, federations: Mapping[int, Any], size: Size, unit: str, *, per: int = 1) -> Row:
    """The slope of seconds a round against the size of the federation, and how straight the line is."""
    for federation in federations.values():
        next(federation)  # the first round makes the clients' models
    sides = {
        str(count): lambda federation=federation: next(federation).seconds for count, federation in federations.items()
    }
    seconds = alternate(sides, size.repeats)
    counts, medians = np.array(list(federations)), seconds.median().to_numpy()
    slope, start = np.polyfit(counts, medians, 1)
    straight = 1 - ((medians - start - slope * counts) ** 2).sum() / ((medians - medians.mean()) ** 2).sum()
    return {
        "what": what,
        "ours": 1000 * per * slope,
        "unit": "ms",
        "repeats": size.repeats,
        "note": f"{counts[0]:,} to {counts[-1]:,} {unit}: R² = {straight:.4f}",
        "curve": {"unit": unit, "counts": list(map(int, counts)), "seconds": seconds.round(5).to_dict("list")},
    }


def measure_attacker(size: Size) -> list[Row]:
    """A turn of the attacker against that of an honest client with the same images, and what the rest goes into."""
    train = load_dataset()[0]
    own = train.subset(split_participants(train.labels, 3)[-1])
    model = Classifier()
    participants = {
        "attacker": GANAttacker(own, 3, num_rounds=10**4),
        "without injection": GANAttacker(own, 3, num_rounds=10**4, inject=False),
        "honest client": Client(own),
    }

    def turns(client: Client) -> float:
        start = time.perf_counter()
        for number in range(size.rounds):
            with seeded(0, number, 0):
                client.fit(model, 1)
        return (time.perf_counter() - start) / size.rounds

    sides = {name: partial(turns, client) for name, client in participants.items()}
    alternate(sides, 1)  # warms up
    seconds = alternate(sides, size.repeats)
    parts = {
        "of it the generator's steps": ("without injection", "honest client"),
        "of it the injection": ("attacker", "without injection"),
    }
    rows = [_row("a turn of the attacker", seconds[["attacker", "honest client"]], "ms", scale=1000)]
    for what, (more, less) in parts.items():
        extra = 1000 * (seconds[more] - seconds[less])
        row = _absolute(what, extra, "ms") | {"note": f"{extra.min():.3g} to {extra.max():.3g} ms"}
        rows.append(row)
    return rows


def measure_attack(size: Size, original: Path | None = None) -> list[Row]:
    """A whole attack against the oracle; and its first recognisable digit, against the original script."""
    options = {"rounds": size.attack_rounds, "progress": False}
    ready = "from fl_gan_lib.attack import build_federation; from fl_gan_lib.data import load_dataset; "
    ready += "build_federation(load_dataset()[0], 3)"
    whole, first = [], []
    for _ in range(size.repeats):
        record = run_attack(3, **options)
        seconds = _in_a_fresh_python(ready)["seconds"] + _seconds_to_first_digit(record)
        first.append({"attack": seconds} | ({"original script, whole run": _script(original)} if original else {}))
        oracle = run_oracle(3, **options).metrics
        whole.append({"attack": record.metrics["seconds"].iloc[-1], "oracle": oracle["seconds"].iloc[-1]})
    what = "the first recognisable digit, from nothing"
    if original is None:
        row = _absolute(what, [run["attack"] for run in first], "s") | {"note": "no original script was given"}
    else:
        row = _row(what, pd.DataFrame(first), "s", reach=">= 10", inverse=True)
    return [_row("the whole attack, training", pd.DataFrame(whole), "s", reach="<= 1.5"), row]


def _seconds_to_first_digit(record: AttackRecord) -> float:
    """Of training, until a digit can be recognised."""
    return record.metrics.loc[is_recognisable(record), "seconds"].min()


def _script(path: Path) -> float:
    """Seconds that a script takes to its end, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        environment = os.environ | {"PYTHONPATH": str(path.parent), "MPLBACKEND": "agg", "FLWR_TELEMETRY_ENABLED": "0"}
        subprocess.run([sys.executable, path], check=True, cwd=folder, env=environment)
        return time.perf_counter() - start


def measure_start(size: Size) -> list[Row]:
    """What a viewer waits for: Python, the libraries, a record and the explorer; and what the package alone takes."""
    record = RECORDS / "attack_3.npz"
    explorer = (
        "from fl_gan_lib.records import AttackRecord; from fl_gan_lib.explorer.widget import attack_explorer; "
        f"attack_explorer({{3: AttackRecord.load({str(record)!r})}})._ipython_display_()"
    )
    runs = [_in_a_fresh_python(explorer) for _ in range(size.repeats)]
    imports = [_import_time("fl_gan_lib") for _ in range(size.repeats)]
    return [
        _absolute("a record in the explorer, cold Python", [run["seconds"] for run in runs], "s", "<= 1.5"),
        _absolute("the same, peak memory", [run["peak"] / 1e6 for run in runs], "MB", "<= 150"),
        _absolute("import fl_gan_lib", [1000 * seconds for seconds in imports], "ms", "<= 100"),
    ]


def _import_time(module: str) -> float:
    """Seconds that a fresh Python takes to import a module and all that it needs."""
    command = [sys.executable, "-X", "importtime", "-c", f"import {module}"]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    return int(re.search(rf"\|\s+(\d+) \| {module}$", report, re.MULTILINE)[1]) / 1e6


def measure_gpu(size: Size) -> list[Row]:
    """Attacks on all digits at once on a GPU, a process each, and how busy it is; nothing where there is none."""
    if not torch.cuda.is_available():
        return []
    code = "from fl_gan_lib.attack import run_attack; run_attack({}, rounds={}, progress=False)"
    query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "--loop-ms=500"]
    runs = []
    for _ in range(size.repeats):
        start = time.perf_counter()
        with subprocess.Popen(query, stdout=subprocess.PIPE, text=True) as watch:
            attacks = [
                subprocess.Popen([sys.executable, "-c", code.format(digit, size.attack_rounds)])
                for digit in size.digits
            ]
            failed = [digit for digit, attack in zip(size.digits, attacks, strict=True) if attack.wait()]
            seconds = time.perf_counter() - start
            watch.terminate()
            busy = [int(line) for line in watch.stdout]
        if failed:
            raise RuntimeError(
                f"the attacks on {failed} have failed on the GPU: see above, or leave out `gpu` (--only)"
            )
        runs.append((seconds, float(np.mean(busy))))
    seconds, busy = zip(*runs, strict=True)
    what = f"{len(size.digits)} whole attacks at once on a GPU"
    return [_absolute(what, seconds, "s"), _absolute("of that time, the GPU was busy", busy, "%")]


MEASUREMENTS: dict[str, Callable[[Size], list[Row]]] = {
    "start": measure_start,
    "round": measure_small_round,
    "crowd": measure_crowded_round,
    "attacker": measure_attacker,
    "memory": measure_memory,
    "clients": measure_clients,
    "images": measure_images,
    "attack": measure_attack,
    "gpu": measure_gpu,
}


def bench(
    folder: str | Path,
    *,
    images: str | Path,
    only: Sequence[str] = tuple(MEASUREMENTS),
    original: str | Path | None = None,
    size: Size = FULL,
) -> pd.DataFrame:
    """Measure, and write `bench.csv`, `bench.md` and the picture of the curves, after every measurement anew.

    Args:
        folder: of the two tables.
        images: folder of the picture, `bench.png`.
        only: names from `MEASUREMENTS`.
        original: a script to compare the attack with; it is run as it is, in a folder of its own, with its own in the
            path that Python imports from.
        size: how much to measure.

    What is measured replaces the rows of the same name in `bench.csv`; the others stay.

    Returns:
        A row a figure: `ours` and `other` are medians, `ratio` is the median of the ratios of each repetition, between
        `lowest` and `highest`; `reach` is what was asked for.

    Raises:
        ValueError: a name is unknown.
        FileNotFoundError: there is no such script.
    """
    unknown = sorted(set(only) - set(MEASUREMENTS))
    if unknown:
        raise ValueError(f"unknown measurements {unknown}: choose from {list(MEASUREMENTS)}")
    if original is not None and not Path(original).is_file():
        raise FileNotFoundError(f"no script at {original}: name the file that is to be run, or leave it out")
    folder, images = Path(folder), Path(images)
    folder.mkdir(parents=True, exist_ok=True), images.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    curves: list[Row] = []
    for name in tqdm([name for name in MEASUREMENTS if name in only], "measurements", unit="measurement"):
        options = {"original": Path(original).resolve()} if name == "attack" and original else {}
        for row in MEASUREMENTS[name](size, **options):
            if "curve" in row:
                curves.append(row.pop("curve") | {"title": f"{row['what']}: {row['ours']:.3g} {row['unit']}"})
            rows.append(row)
        table = _replace_rows(folder / "bench.csv", pd.DataFrame(rows, columns=COLUMNS))
        files.write_atomically(folder / "bench.csv", table.round(4).to_csv(index=False).encode())
        files.write_atomically(folder / "bench.md", _page(table).encode())
        if curves:
            save_picture(plot_costs(curves), images / "bench.png")
    return table


def _replace_rows(path: Path, new: pd.DataFrame) -> pd.DataFrame:
    """The table in the file with the new rows in it, each in the place of an older one of the same name."""
    if not path.exists():
        return new
    old = pd.read_csv(path)
    order = list(dict.fromkeys([*old["what"], *new["what"]]))
    rows = pd.concat([old[~old["what"].isin(new["what"])].astype(object), new.astype(object)])
    return rows.set_index("what").loc[order].reset_index()


def _row(
    what: str, sides: pd.DataFrame, unit: str, *, reach: str = "", scale: float = 1.0, inverse: bool = False
) -> Row:
    """A line of the table: the first column of `sides` against the second, repetition by repetition.

    The ratio is that of ours to the other; `inverse` turns it round, to how many times as fast ours is.
    """
    ours, other = sides.columns
    ratios = sides[other] / sides[ours] if inverse else sides[ours] / sides[other]
    return {
        "what": what,
        "ours": scale * sides[ours].median(),
        "other": scale * sides[other].median(),
        "unit": unit,
        "ratio": ratios.median(),
        "lowest": ratios.min(),
        "highest": ratios.max(),
        "reach": reach,
        "repeats": len(sides),
        "note": f"{ours} / {other}",
    }


def _absolute(what: str, values: Sequence[float], unit: str, reach: str = "") -> Row:
    """A line without another side."""
    return {"what": what, "ours": median(values), "unit": unit, "reach": reach, "repeats": len(values)}


def _page(table: pd.DataFrame) -> str:
    """The table as a page of Markdown, with what it was measured on."""
    lines = [
        "# What `make bench` measured",
        "",
        f"On {describe_machine()}.",
        "",
        "Each comparison in one run, its two sides in turn; each measurement (`--only`) may be of another day. "
        "Medians; the ratio is the median of the ratios of each repetition, in brackets the lowest and the highest.",
        "",
        "| what | here | compared with | ratio | reach | repetitions | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in table.astype(object).where(table.notna(), "").to_dict("records"):
        ratio = f"{row['ratio']:.3g} ({row['lowest']:.3g} to {row['highest']:.3g})" if row["ratio"] != "" else ""
        cells = [
            row["what"],
            *(f"{row[side]:.4g} {row['unit']}" if row[side] != "" else "" for side in ("ours", "other")),
        ]
        lines.append(f"| {' | '.join([*cells, ratio, row['reach'], str(row['repeats']), row['note']])} |")
    return "\n".join(lines) + "\n"


def describe_machine() -> str:
    """Processor, memory, operating system and versions, in one line."""
    cpuinfo = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", cpuinfo.read_text(encoding="utf-8")) if cpuinfo.exists() else []
    parts = [
        names[0] if names else platform.processor(),
        f"{os.cpu_count()} cores",
        f"{torch.get_num_threads()} threads of torch",
        f"{psutil.virtual_memory().total / 2**30:.0f} GB of memory",
        platform.system(),
        f"Python {platform.python_version()}",
        f"torch {torch.__version__}",
        torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU",
    ]
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python tests/bench/bench.py", description=__doc__)
    parser.add_argument("--folder", type=Path, default=RECORDS, help="of bench.csv and bench.md")
    parser.add_argument("--images", type=Path, default=Path("img"), help="folder of the picture, bench.png")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=list(MEASUREMENTS), help="by default all of them")
    parser.add_argument("--original", type=Path, help="a script of this attack to compare with; run as it is")
    parser.add_argument("--smoke", action="store_true", help="a quick look: the numbers mean nothing")
    given = parser.parse_args()
    size = SMOKE if given.smoke else FULL
    bench(given.folder, images=given.images, only=given.only, original=given.original, size=size)
    print((given.folder / "bench.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
