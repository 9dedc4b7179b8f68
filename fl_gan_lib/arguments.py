"""What a caller may give: numbers and truth values of Python, NumPy and torch. An error names what is out of range.

Everything that is refused is a ValueError that says which argument is wrong, what it is, and what is allowed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from operator import index
from typing import Any

SIDES = range(16, 65, 4)  # of images, in pixels


def whole_number(name: str, value: Any, least: int | None = None, most: int | None = None, *, why: str = "") -> int:
    """`value` as an int, from `least` to `most`; `why` ends the message, for instance "(all clients)".

    Raises:
        ValueError: it is no whole number (a float, a text, a truth value), or out of range.
    """
    try:
        whole = None if _is_truth(value) else index(value)
    except (TypeError, ValueError, RuntimeError):  # some of them from tensors of several numbers
        whole = None
    if whole is None or (least is not None and whole < least) or (most is not None and whole > most):
        allowed = {
            (False, False): "",
            (True, False): f" of at least {least}",
            (False, True): f" of at most {most}",
            (True, True): f" from {least} to {most}",
        }[least is not None, most is not None]
        raise ValueError(f"{name} is {value!r:.80}: it must be a whole number{allowed}{why and f' {why}'}")
    return whole


def real_number(
    name: str,
    value: Any,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    infinite: bool = False,
    why: str = "",
) -> float:
    """`value` as a float greater than `above`, from `least` to `most`, and finite unless `infinite` may be given.

    Raises:
        ValueError: it is no number, or out of range.
    """
    try:
        real = math.nan if _is_truth(value) or isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # some of them from tensors of several numbers
        real = math.nan
    if not (above < real and least <= real <= most) or (math.isinf(real) and not infinite):
        bounds = [f"above {above:g}"] * (above > -math.inf) + [f"at least {least:g}"] * (least > -math.inf)
        bounds += [f"at most {most:g}"] * (most < math.inf)
        number = "a number" if infinite else "a finite number"
        raise ValueError(f"{name} is {value!r:.80}: it must be {' '.join([number, ' and '.join(bounds), why]).strip()}")
    return real


def truth(name: str, value: Any) -> bool:
    """`value` as a bool; raises a ValueError unless it is a truth value (0, 1 and "yes" are not)."""
    if not _is_truth(value):
        raise ValueError(f"{name} is {value!r:.80}: it must be True or False")
    return bool(value)


def check_function(name: str, value: Any, takes: Sequence[str] = ()) -> None:
    """Raise a ValueError unless `value` can be called, or is None; with `takes`, if it cannot be called with those."""
    if value is None:
        return
    if not callable(value):
        raise ValueError(f"{name} is {value!r:.80}: it must be a function, or left out")
    if not takes:
        return
    called = f"it is called with ({', '.join(takes)})"
    if isinstance(value, type):
        raise ValueError(f"{name} is the class {value.__name__}, and {called}: make an instance of it")
    try:
        inspect.signature(value).bind(*takes)
    except TypeError as error:
        known_as = getattr(value, "__name__", type(value).__name__)
        raise ValueError(f"{name} is {known_as}, and {called}, which it does not take: {error}") from error
    except ValueError:  # some functions written in C do not tell what they take
        pass


def check_seed(seed: Any) -> int:
    """A seed that NumPy and torch both take; raises a ValueError unless it is from 0 to 2**63 - 1."""
    return whole_number("seed", seed, 0, 2**63 - 1)


def check_side(side: Any) -> int:
    """The side of images in pixels; raises a ValueError unless it is a multiple of 4 from 16 to 64."""
    if whole_number("side", side) not in SIDES:
        raise ValueError(f"side is {side}: it must be a multiple of 4 from 16 to 64")
    return int(side)


def _is_truth(value: Any) -> bool:
    return isinstance(value, bool) or str(getattr(value, "dtype", "")) in ("bool", "torch.bool")
