"""What an exercise is, and how an answer is tried."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


class Mistake(Exception):
    """Raised by a check: what is wrong with an answer, and where to look, in words for the reader."""


class NotDone(Exception):
    """There is no answer yet."""


@dataclass(frozen=True)
class Exercise:
    """An exercise, all in one place: the notebook, the solutions notebook and the tests are made from it.

    Attributes:
        name: the number of the notebook and that of the exercise, such as `"01.2"`.
        title, task, hint, explanation: Markdown; the explanation stands below the solution.
        level: "easy", "medium" or "hard".
        minutes: that a student needs.
        answer: the name of the function that the reader writes.
        stub: the code that the reader completes.
        solution: the code of one right answer.
        wrong: typical wrong answers: by their code, a phrase of the hint that they must get.
        check: tries the function; raises `Mistake`. It comes wrapped: it gets copies of what it is called with, and
            what goes wrong in it becomes a `Mistake`.
    """

    name: str
    title: str
    level: str
    minutes: int
    task: str
    hint: str
    answer: str
    stub: str
    solution: str
    explanation: str
    wrong: Mapping[str, str]
    check: Callable[[Any], None]


def verdict(exercise: Exercise, answer: Any) -> str:
    """What to tell somebody who gave this answer: "Right", "Not done yet", or what is wrong and where to look."""
    try:
        if not callable(answer):
            raise Mistake(f"`{exercise.answer}` must be a function.")
        exercise.check(_guarded(answer))
    except NotDone:
        return (
            f"Not done yet: `{exercise.answer}` gives nothing back. Complete it (does it end with `return`?), run its "
            "cell, and run this one again."
        )
    except Mistake as mistake:
        return f"Not right yet. {mistake}"
    except Exception as error:  # the check cannot use what it was given
        return (
            f"Not right yet. `{exercise.answer}` gives something of another kind than the task asks for "
            f"({type(error).__name__}: {error}). Look at the line below its `def`."
        )
    return "Right."


def _guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """The reader's function, which cannot change what it is given, and whose errors are told in words."""

    def call(*arguments: Any) -> Any:
        try:
            result = function(*copy.deepcopy(arguments))
        except Exception as error:
            raise Mistake(
                f"Your function stops with an error{_place(error)}: {type(error).__name__}: {error}"
            ) from error
        if result is None or result is ...:
            raise NotDone
        return result

    return call


def _place(error: Exception) -> str:
    """The line of the reader's function where an error arose, in it or in what it called."""
    called = traceback.extract_tb(error.__traceback__)[1:]  # without the call itself
    if not called:
        return " before it begins (does it take the arguments of the stub?)"
    return f" at `{called[0].line}`" if called[0].line else ""


def as_number(value: Any, case: str) -> float:
    """The number that a function returned for `case`.

    Raises:
        Mistake: it is no number.
    """
    try:
        return float(value) if isinstance(value, int | float) else float(value.item())
    except (AttributeError, TypeError, ValueError, RuntimeError):
        raise Mistake(f"{case} your function returns a {type(value).__name__}. It must return one number.") from None
