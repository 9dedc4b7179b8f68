"""The static pictures of notebooks 05 to 07 and of the benchmark. They need no torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fl_gan_lib.figures import finish, spread_labels
from fl_gan_lib.palette import ANCHOR, ATTACKER, HONEST, OTHERS, VICTIM


def plot_spread(runs: Mapping[str, Sequence[float]], *, xlabel: str, title: str = "") -> Figure:
    """A row for each name, highest median on top: a dot for each run, and a bar at the median."""
    order = sorted(runs, key=lambda name: np.median(runs[name]))
    figure, axes = plt.subplots(figsize=(8, 0.27 * len(order) + 1.0), layout="constrained")
    for row, name in enumerate(order):
        axes.plot(runs[name], [row] * len(runs[name]), "o", color=ATTACKER, markersize=5, alpha=0.7)
        axes.plot([np.median(runs[name])] * 2, [row - 0.35, row + 0.35], color=OTHERS[0], linewidth=3)
    axes.set_yticks(range(len(order)), order)
    axes.grid(axis="both", color="lightgrey", linewidth=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel(xlabel)
    axes.set_title(title, loc="left")
    return finish(figure)


def plot_groups(
    groups: Mapping[str, Sequence[str]],
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    levels: Mapping[str, Mapping[str, float]],
    logarithmic: Collection[str] = (),
) -> Figure:
    """Settings by the question that they answer: a dot a run, a bar at the median, and anchors as dotted lines.

    Args:
        groups: by question, the names of settings; drawn in this order.
        panels: by the label of a horizontal axis, and by setting, a value for each run.
        levels: by the same label, and by name, the values of the anchors.
        logarithmic: labels of axes for distances, which span powers of ten.
    """
    rows = [len(settings) for settings in groups.values()]
    figure, axes = plt.subplots(
        len(groups),
        len(panels),
        figsize=(3 + 3.4 * len(panels), 0.22 * sum(rows) + 0.3 * len(rows) + 0.8),
        layout="constrained",
        sharex="col",
        sharey="row",
        height_ratios=[number + 0.6 for number in rows],
        squeeze=False,
    )
    for column, (label, runs) in zip(axes.T, panels.items(), strict=True):
        for axis, settings in zip(column, groups.values(), strict=True):
            for height in levels[label].values():
                axis.axvline(height, color=ANCHOR, linewidth=1, linestyle=":", zorder=0)
            for row, name in enumerate(reversed(settings)):
                axis.plot(runs[name], [row] * len(runs[name]), "o", color=ATTACKER, markersize=4, alpha=0.7)
                axis.plot([np.median(runs[name])] * 2, [row - 0.35, row + 0.35], color=OTHERS[0], linewidth=2.5)
            axis.grid(axis="y", color="lightgrey", linewidth=0.5)
            axis.spines[["top", "right"]].set_visible(False)
        for name, height in levels[label].items():
            place = {"xy": (height, 1), "xycoords": ("data", "axes fraction"), "ha": "center", "va": "bottom"}
            column[0].annotate(name, **place, color=ANCHOR, fontsize=8)
        if label in logarithmic:
            column[-1].set_xscale("log")
        column[-1].set_xlabel(label)
    for first, (question, settings) in zip(axes[:, 0], groups.items(), strict=True):
        first.set_yticks(range(len(settings)), reversed(settings))
        first.set_ylim(-0.6, len(settings) - 0.4)
        first.set_title(question, loc="left", fontsize=10, weight="bold", pad=16 if first is axes[0, 0] else 4)
    return finish(figure)


def plot_bands(
    curves: Mapping[str, tuple[Sequence[float], np.ndarray]],
    *,
    levels: Mapping[str, float] | None = None,
    colours: Mapping[str, str] | None = None,
    ylabel: str,
    title: str = "",
) -> Figure:
    """One line a name at the median of its seeds, in a band from the lowest to the highest; named at its right end.

    Args:
        curves: by name, the rounds (R,) and the values of each seed (seeds, R).
        levels: by name, heights of anchors, drawn as faint lines.
        colours: by name, those of the roles in `palette`; the other curves get colours that stand for no role.
        ylabel: of the vertical axis.
        title: above the plot.
    """
    figure, axes = plt.subplots(figsize=(9.5, 3.6), layout="constrained")
    spare, ends = cycle(OTHERS), {}
    for (name, (rounds, values)), style in zip(curves.items(), cycle(("-", "--", "-.", ":")), strict=False):
        colour = (colours or {}).get(name) or next(spare)
        median = np.median(values, axis=0)
        axes.plot(rounds, median, color=colour, linestyle=style, linewidth=2)
        axes.fill_between(rounds, np.min(values, axis=0), np.max(values, axis=0), color=colour, alpha=0.2, linewidth=0)
        ends[f"{name}: {median[-1]:.2f}"] = median[-1], colour
    for name, height in (levels or {}).items():
        axes.axhline(height, color=ANCHOR, linewidth=1, linestyle=":", zorder=0)
        axes.annotate(
            name, (0.99, height), xycoords=("axes fraction", "data"), color=ANCHOR, fontsize=9, ha="right", va="bottom"
        )
    axes.set(xlabel="round", ylabel=ylabel)
    axes.set_title(title, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    bottom, top = axes.get_ylim()
    heights = spread_labels([(height - bottom) / (top - bottom) for height, _ in ends.values()], gap=0.08)
    for (words, (_, colour)), height in zip(ends.items(), heights, strict=True):
        axes.text(1.01, height, words, transform=axes.transAxes, va="center", color=colour)
    return finish(figure)


def plot_defences(
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    *,
    groups: Mapping[str, str],
    levels: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Utility against leakage: a named point for each setting, at the medians of its runs, in a cross of their range.

    Right is useful, down is private. A star and a line mark the settings that no other one of the panel dominates: none
    is at least as useful and at least as private, and better in one of the two.

    Args:
        panels: by what the leakage is measured with, and by setting, (utility, leakage) of each run, from 0 to 1.
        groups: by setting, who acts; one colour each.
        levels: by panel and by name, the heights of anchors.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(5.6 * len(panels), 4.8), layout="constrained", squeeze=False)
    colours = dict(zip(dict.fromkeys(groups.values()), (ANCHOR, VICTIM, *OTHERS[1:]), strict=False))
    for axis, (title, points) in zip(axes[0], panels.items(), strict=True):
        medians = {name: tuple(np.median(runs, axis=0)) for name, runs in points.items()}
        best = {name for name, point in medians.items() if not any(_beats(other, point) for other in medians.values())}
        # Most settings are above 0.8: a power gives them room, and keeps 0.
        axis.set_xscale("function", functions=(lambda x: np.abs(x) ** 4, lambda x: np.abs(x) ** 0.25))
        axis.set(xlim=(0, 1), ylim=(-0.03, 1.03), xticks=(0, 0.6, 0.8, 0.9, 1), ylabel=title)
        axis.set_xlabel("accuracy on the target (more useful to the right; stretched there)")
        axis.step(
            *np.array(sorted(medians[name] for name in best)).T, where="pre", color="#dddddd", linewidth=6, zorder=0
        )
        for name, height in levels[title].items():
            axis.axhline(height, color=ANCHOR, linewidth=1, linestyle=":", zorder=0)
            place = {"xy": (0.71, height), "xycoords": ("axes fraction", "data"), "ha": "center", "va": "bottom"}
            axis.annotate(name, **place, color=ANCHOR, fontsize=8)
        for name, (x, y) in medians.items():
            (lowest_x, lowest_y), (highest_x, highest_y) = np.min(points[name], axis=0), np.max(points[name], axis=0)
            colour = colours[groups[name]]
            axis.plot([x, x], [lowest_y, highest_y], color=colour, alpha=0.4, zorder=1)
            axis.plot([lowest_x, highest_x], [y, y], color=colour, alpha=0.4, zorder=1)
            marker, size = ("*", 13) if name in best else ("o", 6)
            axis.plot(x, y, marker, color=colour, markersize=size, clip_on=False, zorder=3)
        _name_points(axis, {f"{name} *" if name in best else name: medians[name] for name in medians}, groups, colours)
        axis.spines[["top", "right"]].set_visible(False)
    acting = {groups[name] for points in panels.values() for name in points}
    shown = {who: colour for who, colour in colours.items() if who in acting}
    handles = [Line2D([], [], marker="o", linestyle="", color=colour, label=who) for who, colour in shown.items()]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), frameon=False)
    return finish(figure)


def _name_points(
    axis: Axes, points: Mapping[str, tuple[float, float]], groups: Mapping[str, str], colours: Mapping[str, str]
) -> None:
    """Names beside points, none above another: in the margin for those at the right, where most are."""
    for in_margin in (False, True):
        chosen = {name: point for name, point in points.items() if (point[0] > 0.92) == in_margin}
        heights = spread_labels([y for _, y in chosen.values()], gap=0.048) if chosen else []
        for (name, (x, y)), height in zip(chosen.items(), heights, strict=True):
            colour = colours[groups[name.removesuffix(" *")]]
            at_left = not in_margin and x > 0.75
            place = 1.03 if in_margin else x**4 + (-0.03 if at_left else 0.03)
            arrow = {"arrowstyle": "-", "color": colour, "linewidth": 0.5, "alpha": 0.6}
            # Bars may cross a name: a ground keeps it readable.
            ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.3}
            axis.annotate(
                name,
                (x, y),
                (place, height),
                textcoords=("axes fraction", "data"),
                color=colour,
                fontsize=8.5,
                ha="right" if at_left else "left",
                va="center",
                bbox=ground,
                arrowprops=arrow | {"relpos": (1 if at_left else 0, 0.5)},
            )


def _beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] >= other[0] and one[1] <= other[1] and one != other


def plot_standing_out(
    panels: Mapping[str, tuple[Sequence[int], np.ndarray, np.ndarray]],
    *,
    threshold: float,
    ylabel: str,
    columns: int = 3,
) -> Figure:
    """How far clients stand out, round by round: the attacker, and the honest client that stands out most.

    Args:
        panels: by title, the rounds, scores (runs, rounds) of the attacker, and the highest of the honest clients'
            (runs, rounds); drawn are the median of the runs, and a band from the lowest to the highest.
        threshold: above which a client is accused.
        ylabel: of the vertical axes.
        columns: panels beside each other.
    """
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(3.9 * columns, 2.5 * rows),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_axis_off()
    for axis, (title, (rounds, attacker, honest)) in zip(axes.flat, panels.items(), strict=False):
        axis.axhline(threshold, color=ANCHOR, linewidth=1, linestyle=":")
        for scores, colour, who in (
            (honest, HONEST, "most suspicious honest client"),
            (attacker, ATTACKER, "attacker"),
        ):
            axis.fill_between(rounds, scores.min(0), scores.max(0), color=colour, alpha=0.2, linewidth=0)
            axis.plot(rounds, np.median(scores, axis=0), color=colour, linewidth=2)
            if axis is axes[0, 0]:
                axis.annotate(
                    who,
                    (rounds[-1], np.median(scores[:, -1])),
                    (0, 5),
                    textcoords="offset points",
                    color=colour,
                    ha="right",
                    va="bottom",
                    fontsize=9,
                )
        axis.set_yscale("symlog", linthresh=2 * threshold)
        axis.set_title(title, loc="left", fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].annotate(
        "alarm", (0.01, threshold), xycoords=("axes fraction", "data"), color=ANCHOR, fontsize=9, va="bottom"
    )
    for axis in axes[-1]:
        axis.set_xlabel("round")
    for axis in axes[:, 0]:
        axis.set_ylabel(ylabel)
    return finish(figure)


def plot_costs(curves: Sequence[Mapping[str, Any]]) -> Figure:
    """Seconds a round against the size of the federation, a panel a curve: every repetition, medians, and the line.

    Args:
        curves: each with a `title`, the `unit` of its `counts`, and `seconds`, by count those of each repetition.
    """
    figure, axes = plt.subplots(1, len(curves), figsize=(4.6 * len(curves), 3.4), layout="constrained", squeeze=False)
    for axis, curve in zip(axes[0], curves, strict=True):
        counts = np.array(curve["counts"])
        seconds = np.array([curve["seconds"][str(count)] for count in counts])
        medians = np.median(seconds, axis=1)
        axis.plot(counts, seconds, ".", color=OTHERS[0], alpha=0.35)
        axis.plot(counts, medians, "o", color=OTHERS[0], label="median")
        axis.plot(counts, np.polyval(np.polyfit(counts, medians, 1), counts), color=ANCHOR, label="straight line")
        axis.set(xlabel=curve["unit"], ylabel="seconds a round", xlim=(0, None), ylim=(0, None))
        axis.set_title(curve["title"], loc="left")
        axis.legend(loc="upper left")
    return finish(figure)


def plot_hosts(hosts: Mapping[str, Mapping[str, str]]) -> Figure:
    """A federation of several computers: who runs what, and who calls whom.

    Args:
        hosts: computer -> (process -> what it holds); the first computer is the server, to which the others connect.
    """
    figure, axes = plt.subplots(figsize=(9.5, 4.3), layout="constrained")
    axes.set(xlim=(-0.01, len(hosts) - 1), ylim=(-0.03, 2.05))
    axes.set_axis_off()
    server, *nodes = hosts
    middle = (len(nodes) - 1) / 2
    for host, x, y in [(server, middle, 1.2), *((node, float(k), 0.0) for k, node in enumerate(nodes))]:
        axes.add_patch(plt.Rectangle((x + 0.04, y), 0.92, 0.8, facecolor="#f4f4f4", edgecolor="#666666"))
        axes.text(x + 0.5, y + 0.72, host, ha="center", va="center", fontweight="bold")
        for row, (process, holds) in enumerate(hosts[host].items()):
            color = "#d5e8f5" if row else "#fbe3c8"
            low = y + 0.37 - 0.33 * row
            axes.add_patch(plt.Rectangle((x + 0.08, low), 0.84, 0.28, facecolor=color, edgecolor="none"))
            axes.text(x + 0.5, low + 0.14, f"{process}: {holds}", ha="center", va="center", fontsize=8.5)
        if y == 0:
            ends = {"xy": (middle + 0.5 + (x - middle) * 0.4, 1.2), "xytext": (x + 0.5, 0.8)}
            axes.annotate("", **ends, arrowprops={"arrowstyle": "->", "color": ANCHOR, "linewidth": 1.8})
    axes.text(middle + 0.5, 0.98, "each node calls the server (TLS)", ha="center", color=ANCHOR, fontsize=8.5)
    return finish(figure)
