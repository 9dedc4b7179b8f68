from dataclasses import replace
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from fl_gan_lib import palette
from fl_gan_lib.explorer.page import STYLE
from fl_gan_lib.figures import (
    plot_comparison,
    plot_curves,
    plot_emergence,
    plot_images,
    plot_metrics,
    plot_partition,
    plot_protocol,
    plot_side_by_side,
    plot_strips,
    save_emergence,
    tile,
)
from fl_gan_lib.studies.figures import (
    plot_bands,
    plot_defences,
    plot_groups,
    plot_spread,
    plot_standing_out,
)


def test_tile_puts_each_image_in_its_place():
    images = np.stack([np.full((28, 28), value, np.uint8) for value in (10, 20, 30)])
    canvas = tile(images, columns=2)
    assert canvas.shape == (62, 62)
    assert [canvas[16, 16], canvas[16, 46], canvas[46, 16], canvas[46, 46]] == [10, 20, 30, 255]


def test_comparison_shows_the_rounds_below_each_other_and_private_images_apart(record):
    figure = plot_comparison(record)
    fakes, private = figure.axes
    assert np.array_equal(fakes.images[0].get_array(), tile(record.samples[:, :8].reshape(-1, 28, 28), 8))
    assert np.array_equal(private.images[0].get_array(), tile(record.private_samples, 2))
    labels = [label.get_text() for label in fakes.get_yticklabels()]
    assert labels == ["round 1\nprobe 0.25", "round 5\nprobe 0.75"]
    record.metrics["probe"] = float("nan")
    assert [label.get_text() for label in plot_comparison(record).axes[0].get_yticklabels()] == ["round 1", "round 5"]


def test_runs_stand_side_by_side_at_the_rounds_nearest_to_those_wanted(record):
    stopped = replace(record, samples=record.samples[:1], rounds=record.rounds[:1], metrics=record.metrics[:1])
    figure = plot_side_by_side({"attack": record, "oracle": stopped}, rounds=(1, 4, 200), columns=3)
    one, other = (axes.images[0].get_array() for axes in figure.axes)
    assert np.array_equal(one, tile(record.samples[[0, 1, 1], :3].reshape(-1, 28, 28), 3))
    assert np.array_equal(other, tile(record.samples[[0, 0, 0], :3].reshape(-1, 28, 28), 3))
    assert [axes.get_title() for axes in figure.axes] == ["attack (ends in round 5)", "oracle (ends in round 1)"]


def test_emergence_follows_the_same_latent_vectors_and_ends_with_private_images(record):
    first, last, private = plot_emergence({3: record, 4: of_class(record, 4)}).axes
    for axes, strip in ((first, record.samples[0]), (last, record.samples[1]), (private, record.private_samples)):
        assert np.array_equal(axes.images[0].get_array(), tile(np.concatenate([strip[:3], strip[:3]]), 3))


def test_anchors_are_named_lines_in_the_plot_of_the_probe_alone(record):
    probe, *others = plot_metrics(record).axes
    assert {text.get_text().strip() for text in probe.texts} == {"noise", "real images"}
    assert not any(text.get_text().strip() for axes in others for text in axes.texts)


def test_curves_have_anchors_and_marks():
    axes = plot_curves({"a": [0.1, 0.9]}, levels={"noise": 0.02}, marks={"it goes quiet": 2}).axes[0]
    assert {"noise", "it goes quiet"} <= {text.get_text().strip() for text in axes.texts}


def of_class(record, target):
    """The same pictures, said to be of another class."""
    return replace(record, config=record.config | {"target": target})


def test_metrics_mark_the_current_round(record):
    figure = plot_metrics(record, current=5)
    assert figure.axes[0].get_title() == "probe: 0.75"


def test_records_of_different_rounds_are_not_drawn_as_one(record):
    four = of_class(record, 4)
    four.rounds = record.rounds + 1
    with pytest.raises(ValueError, match="different rounds"):
        plot_emergence({3: record, 4: four})


def test_a_record_of_another_class_is_not_drawn_as_this_one(record):
    with pytest.raises(ValueError, match="under 4 there is a record of the class 3: put it under its number, 3"):
        plot_emergence({3: record, 4: record})


def test_the_animation_has_a_frame_for_each_recorded_round(record, tmp_path):
    save_emergence({3: record, 4: of_class(record, 4)}, tmp_path / "emergence.gif")
    with Image.open(tmp_path / "emergence.gif") as animation:
        assert animation.n_frames == 2 and animation.info["duration"] == 250
        top = np.asarray(animation.convert("L"))[4:60:2, 4:60:2]
    assert np.abs(top.astype(int) - record.private_samples[0]).max() <= 16


def test_strips_are_labelled_and_set_the_private_ones_off(record):
    figure = plot_strips({"private": record.private_samples, "a longer\nlabel": record.samples[0]}, title="title")
    labels = [axis.texts[0] for axis in figure.axes]
    assert [label.get_text() for label in labels] == ["private", "a longer\nlabel"]
    assert labels[0].get_color() != labels[1].get_color()


@pytest.mark.parametrize(
    "draw",
    [
        lambda record: plot_images(record.private_samples, title="private"),
        lambda record: plot_emergence({3: record, 4: of_class(record, 4)}),
        lambda record: plot_partition([np.arange(5), np.arange(5, 10)], np.arange(10)),
        lambda record: plot_spread({"a": [0.1, 0.2, 0.4], "b": [0.9]}, xlabel="probe"),
        lambda record: plot_groups(
            {"a": ["b", "c"], "d": ["e"]},
            {"distance": {"b": [1, 20], "c": [300], "e": [4000]}, "score": {"b": [0.1, 0.2], "c": [0.3], "e": [1]}},
            levels={"distance": {"real": 5}, "score": {"noise": 0}},
            logarithmic=["distance"],
        ),
        lambda record: plot_bands({"a": ([1, 5], np.ones((3, 2)))}, levels={"noise": 0.1}, ylabel="probe"),
        lambda record: plot_strips({"": record.private_samples[:3]}),
        lambda record: plot_curves({"a": [0.1, 0.2], "b": [0.3, 0.4]}),
    ],
)
def test_every_figure_renders_and_leaves_pyplot_empty(record, draw, tmp_path):
    draw(record).savefig(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 1000
    assert plt.get_fignums() == []


def test_curves_are_named_at_their_ends_without_overlap():
    curves = {"high": [0.1, 0.9], "same": [0.1, 0.9], "outside": [0.1, 0.2], "below": [0.1, 0.19]}
    axes = plot_curves(curves, colours={"same": palette.VICTIM}, ylim=(0.5, 1)).axes[0]
    heights = {text.get_text().split(":")[0]: text.get_position()[1] for text in axes.texts}
    assert set(heights) == set(curves) and all(0 <= height <= 1 for height in heights.values())
    ordered = sorted(heights.values())
    assert min(upper - lower for lower, upper in pairwise(ordered)) > 0.07
    assert heights["below"] < heights["outside"] < heights["high"]
    colours = [line.get_color() for line in axes.lines]
    assert [text.get_color() for text in axes.texts] == colours and colours[1] == palette.VICTIM


@pytest.mark.parametrize("attack", [False, True])
def test_the_diagram_of_the_protocol_names_who_takes_part(attack):
    words = " ".join(text.get_text() for text in plot_protocol(attack=attack).axes[0].texts)
    assert "server" in words and ("generator" in words) is attack and ("victim" in words) is attack


def test_text_in_the_colours_of_the_roles_can_be_read_on_white():
    roles = [palette.VICTIM, palette.ATTACKER, palette.HONEST, palette.BASELINE, palette.ANCHOR]
    assert len(set(roles)) == 5
    for colour in roles:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        light = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        luminance = sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), light, strict=True))
        assert 1.05 / (luminance + 0.05) >= 4.5, colour  # WCAG 2.2, success criterion 1.4.3
    style = STYLE.read_text("utf-8").lower()
    assert f"--first: {palette.ATTACKER.lower()};" in style, "the explorer shows the attack first"
    assert f"--second: {palette.BASELINE.lower()};" in style


def test_a_star_marks_what_nothing_dominates():
    points = {
        "none": [(0.97, 0.9), (0.98, 1.0), (0.96, 0.98)],
        "worse": [(0.95, 0.99)],
        "private": [(0.9, 0.2)],
        "useless": [(0.1, 0.2)],
    }
    groups = {"none": "nobody", **dict.fromkeys(("worse", "private", "useless"), "somebody"), "alone": "somebody"}
    panels = {"TSTR": points, "probe": {"alone": [(0.5, 0.5)]}}
    figure = plot_defences(panels, groups=groups, levels={"TSTR": {"noise": 0.0}, "probe": {}})
    first, second = ({text.get_text() for text in axis.texts} for axis in figure.axes)
    assert first == {"noise", "none *", "worse", "private *", "useless"} and second == {"alone *"}
    frontier = figure.axes[0].lines[0]
    assert list(zip(*frontier.get_data(), strict=True)) == [(0.9, 0.2), (0.97, 0.98)]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["nobody", "somebody"]


def test_names_of_points_that_lie_close_do_not_cover_each_other():
    many = {str(number): [(0.95, 0.5)] for number in range(12)}
    figure = plot_defences({"TSTR": many}, groups=dict.fromkeys(many, "all"), levels={"TSTR": {}})
    figure.draw_without_rendering()
    boxes = sorted((Text.get_window_extent(text) for text in figure.axes[0].texts), key=lambda box: box.y0)  # no arrows
    assert len(boxes) == 12 and all(lower.y1 <= upper.y0 for lower, upper in pairwise(boxes))


def test_an_attacker_and_the_most_suspicious_honest_client_are_drawn_beside_the_alarm():
    attacker, honest = np.array([[1.0, 2, 9], [3, 4, 5]]), np.zeros((2, 3))
    panels = {"bold": ([3, 4, 5], attacker, honest), "shy": ([3, 4, 5], honest, honest)}
    figure = plot_standing_out(panels, threshold=4, ylabel="score")
    bold, shy, empty = figure.axes
    assert [axis.get_title("left") for axis in (bold, shy)] == ["bold", "shy"] and not empty.axison
    alarm, one, other = bold.lines
    assert alarm.get_ydata()[0] == 4
    assert one.get_xdata().tolist() == [3, 4, 5] and one.get_ydata().tolist() == [0, 0, 0]
    assert other.get_ydata().tolist() == [2, 3, 7]
