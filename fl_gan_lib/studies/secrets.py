"""The attack on drawn symbols: how soon what a hand has drawn can be recognised, and what makes it fail."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from fl_gan_lib.attack import run_attack
from fl_gan_lib.datasets.drawings import drawings
from fl_gan_lib.defences.clients import WithholdingClient
from fl_gan_lib.drawn import SIDE
from fl_gan_lib.explorer.live import ROUNDS_ON_DRAWINGS, LiveAttacks, News
from fl_gan_lib.metrics import tstr
from fl_gan_lib.records import RECOGNISABLE, is_recognisable
from fl_gan_lib.studies.sweep import Job, Result, sweep

# The rule of the drawing pad (explorer/pad.js), in pixels: the symbol's longer side, the pen, and how fine it is drawn.
BOX, PEN, FINE = 20, 2.4, 8
HAND = 0.03  # how far a point lies from where it was meant to be, as a share of the sheet (standard deviation)
NUM_DRAWINGS = 12
SEEN = 20  # the round in which a person, too, sees what it is; the probe sees it in a blur before

Stroke = Sequence[tuple[float, float]]


def _circle(x: float, y: float, radius: float) -> Stroke:
    return [(x + radius * np.cos(angle), y + radius * np.sin(angle)) for angle in np.linspace(0, 2 * np.pi, 17)]


# Points on a sheet from 0 to 1, downwards.
SYMBOLS: dict[str, list[Stroke]] = {
    "house": [
        [(0.25, 0.8), (0.25, 0.45), (0.5, 0.2), (0.75, 0.45), (0.75, 0.8), (0.25, 0.8)],
        [(0.45, 0.8), (0.45, 0.6), (0.57, 0.6), (0.57, 0.8)],
    ],
    "star": [[(0.5 + 0.36 * np.sin(a), 0.52 - 0.36 * np.cos(a)) for a in 4 * np.pi / 5 * np.arange(6)]],
    "smiley": [
        _circle(0.5, 0.5, 0.32),
        [(0.38, 0.4), (0.38, 0.46)],
        [(0.62, 0.4), (0.62, 0.46)],
        [(0.36, 0.6), (0.5, 0.68), (0.64, 0.6)],
    ],
    "hi!": [
        [(0.2, 0.25), (0.2, 0.75)],
        [(0.2, 0.5), (0.4, 0.48), (0.42, 0.75)],
        [(0.58, 0.48), (0.58, 0.75)],
        [(0.58, 0.32), (0.58, 0.36)],
        [(0.78, 0.25), (0.78, 0.6)],
        [(0.78, 0.72), (0.78, 0.76)],
    ],
    "spiral": [
        [
            (0.5 + 0.36 * t * np.cos(5 * np.pi * t), 0.5 + 0.36 * t * np.sin(5 * np.pi * t))
            for t in np.linspace(0.05, 1, 26)
        ]
    ],
    "a seven": [[(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]],
}


def draw_symbol(symbol: str, number: int = NUM_DRAWINGS, *, seed: int = 0) -> np.ndarray:
    """So many drawings of a symbol, by a hand that is never quite the same: uint8 (number, 28, 28)."""
    rng = np.random.default_rng(seed)
    return np.stack(
        [
            _normalise([np.array(stroke) + rng.normal(0, HAND, (len(stroke), 2)) for stroke in SYMBOLS[symbol]])
            for _ in range(number)
        ]
    )


def _normalise(strokes: list[np.ndarray]) -> np.ndarray:
    """As MNIST's digits are: the longer side has 20 pixels, and the centre of mass is in the middle."""
    points = np.concatenate(strokes)
    scale = (BOX - PEN) / np.ptp(points, axis=0).max()
    scaled = [(stroke - points.min(0)) * scale for stroke in strokes]
    grey = _rasterise(scaled, np.full(2, SIDE / 4))
    weights = grey / grey.sum()
    centre = np.array([weights.sum(0) @ np.arange(SIDE), weights.sum(1) @ np.arange(SIDE)])
    return _rasterise(scaled, SIDE / 4 + (SIDE - 1) / 2 - centre).round().astype(np.uint8)


def _rasterise(strokes: list[np.ndarray], shift: np.ndarray) -> np.ndarray:
    image = Image.new("L", (SIDE * FINE, SIDE * FINE))
    pencil, radius = ImageDraw.Draw(image), PEN * FINE / 2
    for stroke in strokes:
        points = [tuple(point) for point in (stroke + shift) * FINE]
        pencil.line(points, fill=255, width=round(2 * radius), joint="curve")
        for x, y in (points[0], points[-1]):
            pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    return np.asarray(image, float).reshape(SIDE, FINE, SIDE, FINE).mean((1, 3))


def secret_attack(
    symbol: str, seed: int, *, rounds: int = ROUNDS_ON_DRAWINGS, different: int = NUM_DRAWINGS, **options: Any
) -> Result:
    """The attack on a drawn symbol; `different` of the twelve drawings are not copies of others."""
    pictures = np.resize(draw_symbol(symbol, different, seed=seed), (NUM_DRAWINGS, SIDE, SIDE))
    dataset = drawings(pictures, symbol, seed=seed)
    record = run_attack(
        symbol, dataset=dataset, rounds=rounds, seed=seed, device="cpu", progress=False, num_frames=30, **options
    )
    rows = record.metrics.assign(
        **{f"probe, {name}": value for name, value in record.anchors.items()},
        recognisable=is_recognisable(record),
        tstr=np.nan,
    )
    rows.loc[rows.index[-1], "tstr"] = tstr(record.final_samples, symbol, dataset=dataset, seeds=[seed])
    shown = [int(np.abs(record.rounds - wanted).argmin()) for wanted in (9, 20, 39, rounds)]
    return rows, np.concatenate([pictures[:10], *record.samples[shown, :10]])


SETTINGS: dict[str, Job] = {
    **{symbol: partial(secret_attack, symbol) for symbol in SYMBOLS},
    "a house that the victim holds back": partial(
        secret_attack, "house", make_honest=partial(WithholdingClient, target="house")
    ),
    "two drawings of a house": partial(secret_attack, "house", different=2),
    "a house among forty honest": partial(secret_attack, "house", num_honest=40),
}


def compare_secrets(
    path: str | Path,
    *,
    seeds: Sequence[int] = (0, 1),
    rounds: int = ROUNDS_ON_DRAWINGS,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """All settings, as csv; beside it the pictures of the first seed: ten drawings, and ten fakes of four rounds."""
    jobs = {(name, seed): partial(job, seed, rounds=rounds) for name, job in SETTINGS.items() for seed in seeds}
    pictures = {name: (name, 0) for name in SETTINGS}
    return sweep(jobs, ("secret", "seed"), path, num_workers=num_workers, pictures=pictures)


def time_live(symbols: Sequence[str], *, seeds: Sequence[int] = (0, 1), say: Callable[[str], object] = print) -> None:
    """Say how many seconds it takes from *start* to the first recognisable round, and to round 20, as `demo` runs it.

    The attacks on the first symbol go on to the end, the others are stopped then.
    """
    started, found, seen, ended = 0.0, 0.0, 0.0, False

    def watch(news: News) -> None:
        nonlocal found, seen, ended
        real = dict(attacks.state.get("anchors", ())).get("real images", np.inf)
        if not found and news.get("frame", {}).get("probe", 0) >= RECOGNISABLE * real:
            found = time.monotonic()
        if news.get("round") == SEEN:
            seen = time.monotonic()
        ended = news.get("running") is False

    attacks = LiveAttacks(watch)
    attacks.prepare()
    time.sleep(60)
    for symbol in symbols:
        for seed in seeds:
            started, found, seen, ended = time.monotonic(), 0.0, 0.0, False
            attacks.start(title=symbol, rounds=ROUNDS_ON_DRAWINGS, drawings=draw_symbol(symbol, seed=seed).tobytes())
            while not ended and (symbol == symbols[0] or not seen):
                time.sleep(0.05)
            if not seen:
                raise RuntimeError(attacks.state["message"])
            after = f"recognisable after {found - started:.1f} s" if found else "not recognisable"
            last = f"round {SEEN} after {seen - started:.1f} s, {time.monotonic() - started:.1f} s in all"
            say(f"{symbol}, seed {seed}: {after}, {last}")
            attacks.stop()
            while attacks.state["running"]:
                time.sleep(0.05)
    attacks.close()


def summarise_secrets(table: pd.DataFrame) -> pd.DataFrame:
    """For each drawn symbol, over its seeds: when it could be recognised, and the last round's numbers beside anchors.

    Args:
        table: from `compare_secrets`.

    Returns:
        A row for each symbol, in words: `probe at 0.8 of real, from round` ("no" where there is none), and the median
        and the lowest of `probe`, `real images`, `noise` and `TSTR`.
    """
    rows = {}
    for name in [setting for setting in SETTINGS if setting in set(table["secret"])]:
        runs = [run for _, run in table[table["secret"] == name].groupby("seed")]
        found = [run.loc[run["recognisable"], "round"].min() for run in runs]
        last = pd.concat([run.tail(1) for run in runs])
        columns = {"probe": "probe", "real images": "probe, real images", "noise": "probe, noise", "TSTR": "tstr"}
        rows[name] = {
            "probe at 0.8 of real, from round": ", ".join("no" if np.isnan(one) else f"{one:.0f}" for one in found)
        }
        rows[name] |= {
            title: f"{last[column].median():.2f} ({last[column].min():.2f})" for title, column in columns.items()
        }
    return pd.DataFrame(rows).T
