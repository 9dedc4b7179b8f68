"""The exercises of the notebooks, and the checks that answer them: `from fl_gan_lib.lessons import check`."""

from __future__ import annotations

from typing import Any

from fl_gan_lib.lessons import baseline, basics, comparison, dissection, engines, leakage, likeness, protection
from fl_gan_lib.lessons.exercise import Exercise, verdict

EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for lesson in (basics, baseline, leakage, comparison, dissection, protection, engines, likeness)
    for exercise in lesson.EXERCISES
}


def check(name: str, answer: Any) -> None:
    """Try what you wrote for an exercise, and say in words what is right or wrong.

    Args:
        name: of the exercise, for instance `"01.2"`: the second one of notebook 01.
        answer: the function that its cell asks for.

    Raises:
        ValueError: there is no such exercise.
    """
    if name not in EXERCISES:
        raise ValueError(f"there is no exercise {name!r}: choose from {list(EXERCISES)}")
    print(verdict(EXERCISES[name], answer))
