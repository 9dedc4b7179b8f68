"""Every static picture. Takes arrays and records, returns matplotlib figures; needs no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord, load_records

# Okabe and Ito's colours, which colour-blind readers can tell apart.
BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
BLACK, BROWN = "#000000", "#7A4A12"


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Put images of shape (N, 28, 28) side by side, row by row, with a thin white border: one 2-D uint8 image.

    Unused places of the last row stay white.
    """
    rows = -(-len(images) // columns)
    canvas = np.full((rows * 30 + 2, columns * 30 + 2), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = 30 * (index // columns) + 2, 30 * (index % columns) + 2
        canvas[top : top + 28, left : left + 28] = image
    return canvas


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, 100 dots an inch; an existing file is replaced only by a complete one."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    files.write_atomically(path, buffer.getvalue())


def plot_images(images: np.ndarray, *, columns: int = 10, title: str = "") -> Figure:
    """Draw images of shape (N, 28, 28), uint8, in rows of `columns`."""
    canvas = tile(images, columns)
    height = 0.62 * canvas.shape[0] / 30 + 0.4
    figure, axes = plt.subplots(figsize=(0.62 * columns, height), layout="constrained")
    _draw_tiles(axes, canvas)
    axes.set_title(title, loc="left")
    return finish(figure)


def plot_strips(strips: Mapping[str, np.ndarray], *, columns: int = 10, title: str = "") -> Figure:
    """A labelled row of images each; labels that begin with "private" are set off in colour.

    Args:
        strips: label -> uint8 images (n, 28, 28), of which the first `columns` are drawn. A label may have two lines.
        columns: images a row.
        title: above all rows.
    """
    lines = [line for label in strips for line in label.split("\n")]
    margin = 0.25 + 0.078 * max(map(len, lines))
    width, height = 0.62 * columns + margin + 0.1, 0.62 * len(strips)
    top = 0.15 + 0.27 * len(title.splitlines())
    figure, axes = plt.subplots(len(strips), 1, figsize=(width, height + top), squeeze=False)
    figure.subplots_adjust(left=margin / width, right=0.99, top=height / (height + top), bottom=0.01, hspace=0.06)
    for axis, (label, strip) in zip(axes[:, 0], strips.items(), strict=True):
        _draw_tiles(axis, tile(strip[:columns], columns))
        colour = BLUE if label.startswith("private") else ORANGE
        axis.text(-0.02, 0.5, label, transform=axis.transAxes, ha="right", va="center", color=colour, fontsize=11)
    figure.suptitle(title, fontsize=13, x=(margin + 0.31 * columns) / width, y=0.99, va="top")
    return finish(figure)


def plot_comparison(record: AttackRecord, *, num_rounds: int = 6, columns: int = 10) -> Figure:
    """The attack in one picture: private images on top, and below them fakes, row by row through the rounds.

    A column of fakes follows one latent vector. The rows are picked evenly among the recorded rounds; the first and
    the last are always there.
    """
    rows = np.unique(np.linspace(0, len(record.rounds) - 1, num_rounds).round().astype(int))
    source = "the attacker's" if record.config["kind"] == "attack" else "the oracle's"
    gaps = record.metrics["gap_closed"]
    strips = {"private": record.private_samples}
    strips |= {f"round {record.rounds[row]}\ngap closed {gaps.iloc[row]:.2f}": record.samples[row] for row in rows}
    title = f"Top row: the victim's private {record.target}s\nBelow: {source} fakes, round by round"
    return plot_strips(strips, columns=columns, title=title)


def plot_emergence(records: Mapping[int, AttackRecord], *, num_rounds: int = 8) -> Figure:
    """All attacked digits at once: a row a digit, one latent vector through the rounds, a private image at the end.

    Raises:
        ValueError: there is no record, or they are not of the same rounds.
    """
    digits = sorted(records)
    rounds = _common_rounds(records)
    figure, axes = plt.subplots(figsize=(0.62 * (num_rounds + 2) + 0.6, 0.62 * len(digits) + 0.9), layout="constrained")
    rows = np.unique(np.linspace(0, len(rounds) - 1, num_rounds).round().astype(int))
    blank = np.full((28, 28), 255, np.uint8)
    strips = [
        np.stack([*(records[digit].samples[row, 0] for row in rows), blank, records[digit].private_samples[0]])
        for digit in digits
    ]
    _draw_tiles(axes, tile(np.concatenate(strips), len(rows) + 2))
    ticks = [*range(len(rows)), len(rows) + 1]
    axes.set_xticks([16 + 30 * tick for tick in ticks], [*map(str, rounds[rows]), "private"])
    axes.set_yticks([16 + 30 * row for row in range(len(digits))], map(str, digits))
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    axes.set_xlabel("round of the federation", loc="left")
    axes.xaxis.set_label_position("top")
    axes.set_ylabel("digit that the attacker lacks")
    return finish(figure)


def save_emergence(records: Mapping[int, AttackRecord], path: str | Path, *, num_rows: int = 3) -> None:
    """An animated GIF of all attacked digits: private images on top, and below them the fakes, round after round.

    A column a digit; each place below the top row follows one latent vector. The last round stays for three seconds.

    Raises:
        ValueError: there is no record, or they are not of the same rounds.
    """
    digits = sorted(records)
    rounds = _common_rounds(records)
    top = [records[digit].private_samples[0] for digit in digits]
    frames = []
    for index, number in enumerate(rounds):
        rows = [records[digit].samples[index, row] for row in range(num_rows) for digit in digits]
        blank = [np.full((28, 28), 255, np.uint8)] * len(digits)
        picture = Image.fromarray(tile(np.stack([*top, *blank, *rows]), len(digits)))
        picture = picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)
        text = f"above: private images        below: the attacker's fakes, round {number}"
        ImageDraw.Draw(picture).text((8, 80), text, fill=0, font=ImageFont.load_default(size=18))
        frames.append(picture.quantize(16))  # sixteen greys are enough for digits
    durations = [250] * (len(frames) - 1) + [3000]
    buffer = io.BytesIO()
    frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    files.write_atomically(path, buffer.getvalue())


def draw_pictures(folder: Path, images: Path) -> None:
    """All digits emerging, as a strip and in motion, and the comparisons of 3 and 9."""
    records = load_records(folder)
    images.mkdir(parents=True, exist_ok=True)
    save_picture(plot_emergence(records), images / "emergence.png")
    save_emergence(records, images / "emergence.gif")
    for digit in records.keys() & {3, 9}:
        save_picture(plot_comparison(records[digit]), images / f"comparison_{digit}.png")


def plot_metrics(record: AttackRecord, *, current: int | None = None) -> Figure:
    """The numbers over the rounds, a small plot each; a vertical line marks the recorded round `current`."""
    names = {
        "recognition": "recognition",
        "gap_closed": "gap closed",
        "diversity": "diversity",
        "accuracy": "global accuracy",
    }
    figure, axes = plt.subplots(1, len(names), figsize=(11, 2.6), layout="constrained", sharex=True)
    for axis, (column, name), colour in zip(axes, names.items(), (BLUE, ORANGE, GREEN, GREY), strict=True):
        axis.plot(record.metrics["round"], record.metrics[column], color=colour, marker=".", linewidth=2)
        if current is not None:
            axis.axvline(current, color="black", linewidth=1)
            value = record.metrics.loc[record.metrics["round"] == current, column].item()
            axis.plot([current], [value], "o", color=colour, markersize=9)
            name = f"{name}: {value:.2f}"
        axis.axhline(1, color="lightgrey", linewidth=1, zorder=0)
        axis.set(title=name, xlabel="round", ylim=(-0.05, 1.25 if column == "diversity" else 1.08))
    return finish(figure)


def plot_partition(parts: Sequence[np.ndarray], labels: np.ndarray, *, title: str = "") -> Figure:
    """How many images of each digit each client holds: a table of shaded counts, a row a client."""
    labels = np.asarray(labels)
    counts = np.stack([np.bincount(labels[part], minlength=10) for part in parts])
    figure, axes = plt.subplots(figsize=(5.2, 0.36 * len(parts) + 1.0), layout="constrained")
    axes.imshow(counts, cmap="Blues", aspect="auto", vmin=0)
    for (client, digit), count in np.ndenumerate(counts):
        axes.text(digit, client, count, ha="center", va="center", color="w" if count > counts.max() / 2 else "k")
    axes.set_xticks(range(10))
    axes.set_yticks(range(len(parts)), [f"client {client}" for client in range(len(parts))])
    axes.tick_params(length=0)
    axes.set_xlabel("digit")
    axes.set_title(title, loc="left")
    return finish(figure)


def plot_curves(
    curves: Mapping[str, Sequence[float]],
    *,
    rounds: Sequence[int] | None = None,
    title: str = "",
    ylabel: str = "test accuracy",
) -> Figure:
    """One line per name over `rounds` (by default 1, 2, ...); the legend is in the order of the last values."""
    figure, axes = plt.subplots(figsize=(9.5, 3.4), layout="constrained")
    styles = ("-", "--", "-.", ":")
    colours = (BLUE, ORANGE, GREEN, PINK, GREY)
    order = sorted(curves, key=lambda name: -curves[name][-1])
    for index, name in enumerate(order):
        style = {"color": colours[index % len(colours)], "linestyle": styles[index % len(styles)]}
        x = range(1, len(curves[name]) + 1) if rounds is None else rounds
        axes.plot(x, curves[name], label=f"{name}: {curves[name][-1]:.3f}", linewidth=2, **style)
    axes.set(xlabel="round", ylabel=ylabel)
    axes.set_title(title, loc="left")
    # Beside the curves: they fill the plot.
    figure.legend(loc="outside right upper")
    return finish(figure)


def _common_rounds(records: Mapping[int, AttackRecord]) -> np.ndarray:
    if not records:
        raise ValueError("there is no record to draw: make some with `make records`, or one with run_attack")
    rounds, *others = (record.rounds for record in records.values())
    if not all(np.array_equal(rounds, other) for other in others):
        raise ValueError("the records are of different rounds: make them alike, or draw them one by one")
    return rounds


def _draw_tiles(axes: plt.Axes, canvas: np.ndarray) -> None:
    # Not smoothed: half the bytes, and a person sees the pixels that the networks see.
    axes.imshow(canvas, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def finish(figure: Figure) -> Figure:
    # Out of pyplot's hands: a returned figure shows once as the cell's result, and thirty of them leak nothing.
    plt.close(figure)
    return figure
