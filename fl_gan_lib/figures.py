"""Every static picture. Takes arrays and records, returns matplotlib figures; needs no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.palette import ANCHOR, ATTACKER, HONEST, OTHERS, VICTIM
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord, check_keys, load_records

BORDER = 2  # between tiles, in pixels


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Put images of shape (N, S, S) side by side, row by row, with a thin white border: one 2-D uint8 image.

    Unused places of the last row stay white.
    """
    side = images.shape[-1]
    step = side + BORDER
    rows = -(-len(images) // columns)
    canvas = np.full((rows * step + BORDER, columns * step + BORDER), 255, dtype=np.uint8)
    for index, image in enumerate(images):
        top, left = step * (index // columns) + BORDER, step * (index % columns) + BORDER
        canvas[top : top + side, left : left + side] = image
    return canvas


def save_picture(figure: Figure, path: str | Path) -> None:
    """Write a figure as PNG, 100 dots an inch; an existing file is replaced only by a complete one."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    files.write_atomically(path, buffer.getvalue())


def plot_images(images: np.ndarray, *, columns: int = 10, title: str = "") -> Figure:
    """Draw images of shape (N, S, S), uint8, in rows of `columns`."""
    canvas = tile(images, columns)
    height = 0.62 * canvas.shape[0] / (images.shape[-1] + BORDER) + 0.4
    figure, axes = plt.subplots(figsize=(0.62 * columns, height), layout="constrained")
    _draw_tiles(axes, canvas)
    axes.set_title(title, loc="left")
    return finish(figure)


def plot_strips(strips: Mapping[str, np.ndarray], *, columns: int = 10, size: float = 0.62, title: str = "") -> Figure:
    """A labelled row of images each; labels that begin with "private" are set off in colour.

    Args:
        strips: label -> uint8 images (n, S, S), of which the first `columns` are drawn. A label may have two lines.
        columns: images a row.
        size: of an image, in inches.
        title: above all rows.
    """
    lines = [line for label in strips for line in label.split("\n")]
    margin = 0.25 + 0.078 * max(map(len, lines))
    width, height = size * columns + margin + 0.1, size * len(strips)
    top = 0.15 + 0.27 * len(title.splitlines())
    figure, axes = plt.subplots(len(strips), 1, figsize=(width, height + top), squeeze=False)
    figure.subplots_adjust(left=margin / width, right=0.99, top=height / (height + top), bottom=0.01, hspace=0.06)
    for axis, (label, strip) in zip(axes[:, 0], strips.items(), strict=True):
        _draw_tiles(axis, tile(strip[:columns], columns))
        colour = VICTIM if label.startswith("private") else ATTACKER
        axis.text(-0.02, 0.5, label, transform=axis.transAxes, ha="right", va="center", color=colour, fontsize=11)
    figure.suptitle(title, fontsize=13, x=(margin + size / 2 * columns) / width, y=0.99, va="top")
    return finish(figure)


def plot_comparison(record: AttackRecord, *, num_rounds: int = 6, columns: int = 8) -> Figure:
    """The attack in one picture: fakes, row by row through the rounds, and apart from them private images.

    A column of fakes follows one latent vector. The rows are picked evenly among the recorded rounds; the first and
    the last are always there. The private images stand in a block of their own, as none of them belongs to a fake.
    """
    rows = np.unique(np.linspace(0, len(record.rounds) - 1, num_rounds).round().astype(int))
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(0.62 * (columns + 2) + 2.4, 0.62 * len(rows) + 0.6),
        layout="constrained",
        width_ratios=[columns, 2],
    )
    labels = [f"round {number}" for number in record.rounds[rows]]
    for place, value in enumerate(record.metrics["probe"].iloc[rows]):
        labels[place] += "" if np.isnan(value) else f"\nprobe {value:.2f}"
    _draw_rows(left, [record.samples[row] for row in rows], columns, labels)
    owner = "attacker" if record.config["kind"] == "attack" else "oracle"
    left.set_title(f"what the {owner} draws: the class {record.target_name}", color=ATTACKER, loc="left", fontsize=11)
    _draw_tiles(right, tile(record.private_samples, 2))
    right.set_title("private images", color=VICTIM, fontsize=11)
    right.set_anchor("N")
    return finish(figure)


def plot_side_by_side(
    runs: Mapping[str, AttackRecord], *, rounds: Sequence[int] = (1, 5, 13, 32, 80, 200), columns: int = 5
) -> Figure:
    """Several runs beside each other: below each other what each draws after the same rounds.

    Args:
        runs: by name; a column of pictures follows one latent vector of its run.
        rounds: that are shown; of a run that recorded another one, the nearest.
        columns: fakes of each run.
    """
    figure, axes = plt.subplots(
        1,
        len(runs),
        figsize=(0.5 * columns * len(runs) + 1.2, 0.5 * len(rounds) + 0.5),
        layout="constrained",
        squeeze=False,
    )
    for place, (axis, (name, record)) in enumerate(zip(axes[0], runs.items(), strict=True)):
        rows = [int(np.abs(record.rounds - wanted).argmin()) for wanted in rounds]
        labels = [f"round {wanted}" for wanted in rounds] if place == 0 else [""] * len(rows)
        _draw_rows(axis, [record.samples[row] for row in rows], columns, labels)
        stopped = record.rounds[-1] < rounds[-1]
        axis.set_title(f"{name} (ends in round {record.rounds[-1]})" if stopped else name, fontsize=11)
    return finish(figure)


def plot_emergence(records: Mapping[int, AttackRecord], *, num_rounds: int = 5, num_latents: int = 3) -> Figure:
    """All attacked classes at once: a row a class, the same latent vectors through the rounds, private images apart.

    Args:
        records: by number of the class.
        num_rounds: how many of the recorded rounds, evenly picked; the first and the last are always there.
        num_latents: fakes of each round, and private images at the end of a row.

    Raises:
        ValueError: there is no record, one is not of its class, or they are not of the same rounds and sides.
    """
    ordered = _in_order(records)
    rounds = _common_rounds(ordered)
    picked = np.unique(np.linspace(0, len(rounds) - 1, num_rounds).round().astype(int))
    groups = len(picked) + 1
    figure, axes = plt.subplots(
        1, groups, figsize=(0.4 * num_latents * groups + 0.7, 0.4 * len(ordered) + 0.7), layout="constrained"
    )
    names = [record.target_name for record in ordered]
    for place, (axis, row) in enumerate(zip(axes, [*picked, None], strict=True)):
        strips = [record.private_samples if row is None else record.samples[row] for record in ordered]
        _draw_rows(axis, strips, num_latents, names if place == 0 else [""] * len(names))
        title = "private" if row is None else f"round {rounds[row]}"
        axis.set_title(title, color=VICTIM if row is None else ATTACKER, fontsize=10)
    axes[0].set_ylabel("class that the attacker lacks")
    return finish(figure)


def save_emergence(records: Mapping[int, AttackRecord], path: str | Path, *, num_rows: int = 3) -> None:
    """An animated GIF of all attacked classes: private images on top, and below them the fakes, round after round.

    A column a class; each place below the top row follows one latent vector. The last round stays for three seconds.

    Raises:
        ValueError: there is no record, one is not of its class, or they are not of the same rounds and sides.
    """
    ordered = _in_order(records)
    top = [record.private_samples[0] for record in ordered]
    frames = []
    for index, number in enumerate(_common_rounds(ordered)):
        rows = [record.samples[index, row] for row in range(num_rows) for record in ordered]
        blank = [np.full_like(top[0], 255)] * len(ordered)
        picture = Image.fromarray(tile(np.stack([*top, *blank, *rows]), len(ordered)))
        picture = picture.resize((picture.width * 2, picture.height * 2), Image.Resampling.NEAREST)
        text = f"above: private images        below: the attacker's fakes, round {number}"
        ImageDraw.Draw(picture).text((8, 2 * len(top[0]) + 24), text, fill=0, font=ImageFont.load_default(size=18))
        frames.append(picture.quantize(16))  # sixteen greys are enough
    durations = [250] * (len(frames) - 1) + [3000]
    buffer = io.BytesIO()
    frames[0].save(buffer, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    files.write_atomically(path, buffer.getvalue())


def draw_pictures(folder: Path, images: Path) -> None:
    """All classes emerging, as a strip and in motion, the comparisons of 3 and 9, the protocol, and drawn secrets."""
    records = load_records(folder)
    images.mkdir(parents=True, exist_ok=True)
    save_picture(plot_emergence(records), images / "emergence.png")
    save_emergence(records, images / "emergence.gif")
    save_picture(plot_protocol(attack=True), images / "protocol_attack.png")
    for digit in records.keys() & {3, 9}:
        save_picture(plot_comparison(records[digit]), images / f"comparison_{digit}.png")
    secrets = folder / "secrets.npz"
    if secrets.exists():
        with np.load(secrets) as pictures:
            rows = {name: pictures[name].reshape(5, 10, 28, 28) for name in pictures}
        labels = ["private drawings", *(f"fakes, round {round}" for round in (9, 20, 39, 100))]
        save_picture(plot_strips(dict(zip(labels, rows["house"], strict=True))), images / "secret.png")
        gap = np.full((1, 28, 28), 255, np.uint8)
        beside = {name: np.concatenate([row[0, :5], gap, row[-1, :5]]) for name, row in rows.items()}
        title = "left: private drawings; right: fakes of round 100"
        save_picture(plot_strips(beside, columns=11, title=title), images / "secrets.png")
    if people := list(load_records(folder / "faces").values()) if (folder / "faces").is_dir() else []:
        rows = {"private photographs": [record.private_samples[0] for record in people]}
        rows |= {label: [record.samples[-1, place] for record in people] for place, label in enumerate(("fakes", " "))}
        save_picture(plot_strips({label: np.stack(row) for label, row in rows.items()}, size=0.8), images / "faces.png")


def plot_metrics(record: AttackRecord, *, current: int | None = None) -> Figure:
    """The numbers over the rounds, a small plot each; a vertical line marks the recorded round `current`.

    Faint lines in the plot of the probe are its anchors: noise, real images, and another class if that is well above.
    """
    names = {"probe": "probe", "recognition": "recognition", "diversity": "diversity", "accuracy": "global accuracy"}
    figure, axes = plt.subplots(1, len(names), figsize=(11, 2.6), layout="constrained", sharex=True)
    for axis, (column, name) in zip(axes, names.items(), strict=True):
        colour = ANCHOR if column == "accuracy" else ATTACKER  # the model's, and that of the attacker's fakes
        axis.plot(record.metrics["round"], record.metrics[column], color=colour, marker=".", linewidth=2)
        if current is not None:
            axis.axvline(current, color="black", linewidth=1)
            value = record.metrics.loc[record.metrics["round"] == current, column].item()
            axis.plot([current], [value], "o", color=colour, markersize=9)
            name = name if np.isnan(value) else f"{name}: {value:.2f}"
        lines = record.anchors if column == "probe" else {"": 1}
        for anchor, height in lines.items():
            if anchor == "another class" and height < lines["noise"] + 0.1:
                continue  # the two names would overlap
            axis.axhline(height, color="lightgrey", linewidth=1, zorder=0)
            side = "top" if height > 0.5 else "bottom"
            axis.text(record.rounds[-1], height, f"{anchor} ", color=ANCHOR, fontsize=8, ha="right", va=side)
        axis.set(title=name, xlabel="round", ylim=(-0.05, 1.25 if column == "diversity" else 1.08))
    return finish(figure)


def plot_protocol(*, attack: bool = False) -> Figure:
    """One round of federated averaging: who holds what, and what travels.

    Args:
        attack: with the attacker, what it does at home, and where its fakes enter the protocol.
    """
    top = 34 if attack else 20  # of the boxes of the clients
    figure, axes = plt.subplots(figsize=(9.5, 0.095 * (top + 28)), layout="constrained")
    axes.set(xlim=(-0.5, 100.5), ylim=(-0.5, top + 27.5))
    axes.set_axis_off()
    work = "④ averages the updates into the next global model; holds no image"
    _draw_box(axes, (0, top + 16, 100, 11), "server", ANCHOR, work)
    clients = (("victim", VICTIM, "all classes"), ("attacker", ATTACKER, "all but one class"))
    if not attack:
        clients = (("client A", HONEST, "its own"), ("client B", HONEST, "its own"))
    for left, (name, colour, images) in zip((0, 54), clients, strict=True):
        _draw_box(axes, (left, 0, 46, top), name, colour, "")
        _draw_box(axes, (left + 2, 2, 16, 11), "images", colour, images, face="white")
        _draw_box(axes, (left + 28, 2, 16, 11), "local model", colour, "a copy", face="white")
        _draw_arrow(axes, (left + 18, 6), (left + 28, 6), colour, "② train", (left + 22.8, 8.5))
        _draw_arrow(axes, (left + 5, top + 16), (left + 5, top), ANCHOR, "① global model", (left + 13.5, top + 8))
        _draw_arrow(axes, (left + 28, top), (left + 28, top + 16), colour, "③ update: weights", (left + 37.5, top + 8))
    if attack:
        _draw_box(axes, (56, 19, 16, 10), "generator", ATTACKER, "draws fakes", face="white")
        _draw_arrow(axes, (59, top), (62, 29), ATTACKER, "trained against\nthe received model", (84, 26))
        _draw_arrow(axes, (64, 19), (64, 13), ATTACKER, 'fakes,\nlabelled "fake"', (71.5, 16))
    return finish(figure)


def _draw_box(
    axes: plt.Axes, place: tuple[float, float, float, float], title: str, colour: str, text: str, face: str = ""
) -> None:
    """A box at (left, bottom, width, height) with a title, and text below it."""
    left, bottom, width, height = place
    axes.add_patch(plt.Rectangle((left, bottom), width, height, facecolor=face or f"{colour}18", edgecolor=colour))
    axes.text(left + width / 2, bottom + height - 1, title, ha="center", va="top", color=colour, weight="bold")
    axes.text(left + width / 2, bottom + height - 5, text, ha="center", va="top", fontsize=9)


def _draw_arrow(
    axes: plt.Axes,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: str,
    text: str,
    place: tuple[float, float],
) -> None:
    """An arrow from `start` to `end`, and text around `place`."""
    arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, start, arrowprops=arrow)
    axes.text(*place, text, ha="center", va="center", color=colour, fontsize=10)


def plot_partition(
    parts: Sequence[np.ndarray], labels: np.ndarray, *, classes: Sequence[str] = DIGITS, title: str = ""
) -> Figure:
    """How many images of each class each client holds: a table, a row a client, shaded by its share of the class.

    Args:
        parts: of each client, the places of its images, or a mask.
        labels: of all images, numbers of classes.
        classes: the names of the classes.
        title: above the table.
    """
    labels = np.asarray(labels)
    if labels.max(initial=0) >= len(classes):
        raise ValueError(f"there is a label {labels.max()} and a name for {len(classes)} classes: give all their names")
    counts = np.stack([np.bincount(labels[part], minlength=len(classes)) for part in parts])
    width = 0.2 + 0.5 * max(10, len(classes))
    figure, axes = plt.subplots(figsize=(width, 0.36 * len(parts) + 1.0), layout="constrained")
    shares = counts / np.maximum(counts.sum(0), 1)
    axes.imshow(shares, cmap="Blues", aspect="auto", vmin=0, vmax=1)
    for (client, label), count in np.ndenumerate(counts):
        axes.text(label, client, count, ha="center", va="center", color="w" if shares[client, label] > 0.5 else "k")
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(parts)), [f"client {client}" for client in range(len(parts))])
    axes.tick_params(length=0)
    axes.set_xlabel("class")
    axes.set_title(title, loc="left")
    return finish(figure)


def plot_curves(
    curves: Mapping[str, Sequence[float]],
    *,
    rounds: Sequence[int] | None = None,
    colours: Mapping[str, str] | None = None,
    ylim: tuple[float, float] | None = None,
    levels: Mapping[str, float] | None = None,
    marks: Mapping[str, float] | None = None,
    title: str = "",
    ylabel: str = "test accuracy",
) -> Figure:
    """One line a name over `rounds` (by default 1, 2, ...), with its name and last value at its right end.

    Args:
        curves: by name, a value for each round; at least one curve.
        rounds: where the values belong.
        colours: by name, those of the roles in `palette`; the other curves get colours that stand for no role.
        ylim: what part of the vertical axis is shown; by default all that the curves need.
        levels: by name, heights of anchors, drawn as faint lines.
        marks: by name, rounds at which something happens, drawn as vertical lines.
        title: above the plot.
        ylabel: of the vertical axis.
    """
    figure, axes = plt.subplots(figsize=(9.5, 3.6), layout="constrained")
    for name, height in (levels or {}).items():
        axes.axhline(height, color=ANCHOR, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(name, (0.01, height), xycoords=("axes fraction", "data"), color=ANCHOR, fontsize=9, va="bottom")
    for name, place in (marks or {}).items():
        axes.axvline(place, color=ANCHOR, linewidth=1, zorder=0)
        axes.annotate(
            f"{name} ", (place, 0.03), xycoords=("data", "axes fraction"), color=ANCHOR, fontsize=9, ha="right"
        )
    spare = cycle(OTHERS)
    chosen = {name: (colours or {}).get(name) or next(spare) for name in curves}
    for (name, values), style in zip(curves.items(), cycle(("-", "--", "-.", ":")), strict=False):
        x = range(1, len(values) + 1) if rounds is None else rounds
        axes.plot(x, values, color=chosen[name], linestyle=style, linewidth=2)
    axes.set(xlabel="round", ylabel=ylabel, ylim=ylim)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="lightgrey", linewidth=0.5)
    bottom, top = axes.get_ylim()
    heights = spread_labels([(values[-1] - bottom) / (top - bottom) for values in curves.values()], gap=0.08)
    for (name, values), height in zip(curves.items(), heights, strict=True):
        words = f"{name}: {values[-1]:.3f}"
        axes.text(1.01, height, words, transform=axes.transAxes, va="center", color=chosen[name])
    return finish(figure)


def spread_labels(heights: Sequence[float], *, gap: float) -> list[float]:
    """Heights of labels, from 0 to 1, moved apart until none is closer to another than `gap`."""
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    placed = [min(max(height, 0), 1) for height in heights]
    for lower, upper in pairwise(order):
        placed[upper] = max(placed[upper], placed[lower] + gap)
    placed[order[-1]] = min(placed[order[-1]], 1)
    for upper, lower in pairwise(reversed(order)):
        placed[lower] = min(placed[lower], placed[upper] - gap)
    return placed


def _in_order(records: Mapping[int, AttackRecord]) -> list[AttackRecord]:
    if not records:
        raise ValueError("there is no record to draw: make some with `make records`, or one with run_attack")
    check_keys(records)
    return [records[target] for target in sorted(records)]


def _common_rounds(records: Sequence[AttackRecord]) -> np.ndarray:
    first, *others = records
    same_rounds = all(np.array_equal(first.rounds, other.rounds) for other in others)
    if not same_rounds or any(first.samples.shape[-1] != other.samples.shape[-1] for other in others):
        raise ValueError("the records are of different rounds or sides: make them alike, or draw them one by one")
    return first.rounds


def _draw_rows(axes: plt.Axes, rows: Sequence[np.ndarray], columns: int, labels: Sequence[str]) -> None:
    """The first `columns` images of each row, (N, S, S), and a label at its left."""
    side = rows[0].shape[-1]
    white = np.full((columns, side, side), 255, np.uint8)
    padded = [np.concatenate([row, white])[:columns] for row in rows]
    _draw_tiles(axes, tile(np.concatenate(padded), columns))
    axes.set_yticks([BORDER + side / 2 + (side + BORDER) * place for place in range(len(rows))], labels)
    axes.tick_params(length=0)


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
