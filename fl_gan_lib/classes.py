"""The names of classes, and which class is meant by a name or a number. Needs no torch."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from fl_gan_lib.arguments import whole_number

DIGITS = tuple(map(str, range(10)))
_PEOPLE = tuple(f"s{person}" for person in range(1, 41))

# The classes of the data sets that have a name, and the side of their images: known before an image is there.
NAMED = {"mnist-5k": (DIGITS, 28), "mnist": (DIGITS, 28), "faces": (_PEOPLE, 32), "faces-64": (_PEOPLE, 64)}


def find_class(target: str | int, classes: Sequence[str]) -> int:
    """The number of a class: `target` is its name, or else its number; names win.

    Raises:
        ValueError: there is no such class.
    """
    name = unicodedata.normalize("NFC", target) if isinstance(target, str) else str(whole_number("target", target))
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    some = ", ".join(classes[:12]) + (f", ... ({len(classes)} in all)" if len(classes) > 12 else "")
    raise ValueError(
        f"the target is {target!r}: it must be one of the classes {some}; or a number below {len(classes)}"
    )


def check_class_names(classes: Sequence[str]) -> tuple[str, ...]:
    """The names of classes, with accents in one form (NFC).

    Records are files that are called by them, so a slash, a backslash or a control character cannot be in a name.

    Raises:
        ValueError: a name is blank, cannot be used, or is there twice.
    """
    if isinstance(classes, str):
        raise ValueError(f"classes is {classes!r}: give a tuple of names, one for each class")
    classes = tuple(classes)
    for name in classes:
        if not isinstance(name, str) or not name.strip() or not name.isprintable() or set(name) & {"/", "\\"}:
            raise ValueError(
                f"a class is called {name!r:.80}: a name must be a text that is not blank, and without slashes, "
                "backslashes and control characters"
            )
    classes = tuple(unicodedata.normalize("NFC", name) for name in classes)
    if len(set(classes)) < len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise ValueError(f"two classes are called {twice!r}: each needs a name of its own")
    return classes
