"""The explorer: pick a digit, slide through the rounds. Shows records, trains nothing, needs no torch."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import lru_cache

import ipywidgets as widgets
from PIL import Image

from fl_gan_lib.figures import plot_metrics, tile
from fl_gan_lib.records import AttackRecord


def attack_explorer(records: Mapping[int, AttackRecord]) -> widgets.VBox:
    """Pick a digit and slide through the rounds of its recorded attack.

    Args:
        records: by digit, for instance from `records.load_records`.

    Returns:
        A widget: ten digit buttons (those without a record are disabled), a round slider with a play button, the
        victim's private images above the fakes of the chosen round, a sentence that says what is seen, and the
        numbers over the rounds.

    Raises:
        ValueError: there is no record.
    """
    if not records:
        raise ValueError("there is no record to explore: load some with load_records, or make one with run_attack")
    state = {"digit": 3 if 3 in records else min(records)}

    digits = [_digit_button(digit, enabled=digit in records) for digit in range(10)]
    slider = widgets.SelectionSlider(
        options=[0], description="round", continuous_update=True, layout=widgets.Layout(width="420px")
    )
    play = widgets.Play(interval=400, show_repeat=False)
    widgets.jslink((play, "value"), (slider, "index"))
    sentence, private_title, fakes_title = widgets.HTML(), widgets.HTML(), widgets.HTML()
    private, fakes, numbers = widgets.Image(), widgets.Image(), widgets.Image()

    @lru_cache(maxsize=512)
    def pictures(digit: int, frame: int) -> tuple[bytes, bytes]:
        record = records[digit]
        figure = plot_metrics(record, current=int(record.rounds[frame]))
        return _png(record.samples[frame]), _figure_png(figure)

    def show_round(_=None) -> None:
        record, frame = records[state["digit"]], slider.index
        fakes.value, numbers.value = pictures(state["digit"], frame)
        sentence.value = f"<div style='font-size:18px'>{describe(record, frame)}</div>"

    def show_digit(digit: int) -> None:
        state["digit"] = digit
        record = records[digit]
        for button in digits:
            button.button_style = "primary" if button.description == str(digit) else ""
        private.value = _png(record.private_samples)
        private_title.value = f"<b>The victim's private {digit}s</b> (the attacker never sees this row)"
        fakes_title.value = f"<b>The attacker's fakes</b>, drawn with no {digit} of its own"
        slider.unobserve(show_round, "index")
        slider.options = record.rounds.tolist()
        slider.index = play.max = len(record.rounds) - 1
        play.value = slider.index
        slider.observe(show_round, "index")
        show_round()

    for button in digits:
        button.on_click(lambda button: show_digit(int(button.description)))
    slider.observe(show_round, "index")
    show_digit(state["digit"])
    return widgets.VBox(
        [
            widgets.HBox([widgets.Label("digit"), *digits]),
            widgets.HBox([play, slider]),
            sentence,
            private_title,
            private,
            fakes_title,
            fakes,
            numbers,
        ]
    )


def describe(record: AttackRecord, frame: int) -> str:
    """One sentence about a recorded round: what the judge makes of the fakes, in words."""
    row = record.metrics.iloc[frame]
    return (
        f"Round {record.rounds[frame]}, digit {record.target}: the judge reads {row['recognition']:.0%} of "
        f"{len(record.final_samples)} fakes as a {record.target}; "
        f"the gap to the real images is closed to {row['gap_closed']:.0%}."
    )


def _digit_button(digit: int, *, enabled: bool) -> widgets.Button:
    tooltip = f"the attack on digit {digit}" if enabled else f"no record of digit {digit}: run notebook 03 with it"
    return widgets.Button(
        description=str(digit), disabled=not enabled, tooltip=tooltip, layout=widgets.Layout(width="44px")
    )


def _png(images) -> bytes:
    canvas = Image.fromarray(tile(images, columns=10))
    canvas = canvas.resize((canvas.width * 2, canvas.height * 2), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


def _figure_png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()
