"""What tells one run from another: the data and the options of a run in words, for its record and its checkpoints."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from fl_gan_lib.data import ImageDataset

OWN_IMAGES = "own images"  # the name of a data set that was given as a pair


def describe_data(dataset: str | tuple[ImageDataset, ImageDataset], classes: tuple[str, ...]) -> dict[str, Any]:
    """The data set of a run as it goes into a record: its name or a digest, and the names of its classes."""
    if isinstance(dataset, str):
        return {"dataset": dataset, "classes": list(classes)}
    return {"dataset": OWN_IMAGES, "digest": digest(*dataset), "classes": list(classes)}


def digest(*datasets: ImageDataset) -> str:
    """A short hash of images, labels and names of classes."""
    content = hashlib.sha256()
    for dataset in datasets:
        content.update(repr((tuple(dataset.images.shape), dataset.classes)).encode())
        for tensor in (dataset.images, dataset.labels):
            content.update(np.ascontiguousarray(tensor.cpu().numpy()))
    return content.hexdigest()[:16]


def describe(value: Any) -> Any:
    """An option of a run as it goes into a record: numbers and texts as they are, the rest in words.

    The words are the same in each process. They differ where something else would be computed: with other arguments,
    and, for functions and classes from outside this library, with other code.
    """
    if isinstance(value, np.generic) or (isinstance(value, Tensor | np.ndarray) and value.ndim == 0):
        value = value.item()
    return value if isinstance(value, bool | int | float | str | None) else _words(value, depth=6)


def _words(value: Any, depth: int) -> str:
    if depth == 0:
        return type(value).__qualname__
    inner = depth - 1
    if isinstance(value, np.generic | bool | int | float | str | None):
        return repr(describe(value))
    if isinstance(value, partial):
        return f"partial({_words(value.func, inner)}, {_words(value.args, inner)}, {_words(value.keywords, inner)})"
    if isinstance(value, MethodType):
        return f"{_words(value.__func__, inner)} of {_words(value.__self__, inner)}"
    if isinstance(value, FunctionType | type):
        return _name(value, inner)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name!r}: {_words(item, inner)}" for name, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"({', '.join(_words(item, inner) for item in value)})"
    if isinstance(value, Tensor | np.ndarray):
        content = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)
        return f"array {content.dtype}{content.shape} {hashlib.sha256(content).hexdigest()[:8]}"
    if hasattr(value, "__dict__"):
        settings = [f"{name}={_words(setting, inner)}" for name, setting in vars(value).items()]
        return f"{_name(type(value), inner)}({', '.join(settings)})"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _name(value: FunctionType | type, depth: int) -> str:
    """The name of a function or class; with a hash of its code, unless it is this library's."""
    if str(value.__module__).partition(".")[0] in ("fl_gan_lib", "builtins", "torch"):
        return value.__qualname__
    functions = [value] if isinstance(value, FunctionType) else vars(value).values()
    code = [_code(function, depth) for function in functions if isinstance(function, FunctionType)]
    return f"{value.__qualname__} [code {hashlib.sha256(repr(code).encode()).hexdigest()[:8]}]"


def _code(function: FunctionType, depth: int) -> list[str]:
    """What a function does, with its defaults and what it has taken from the function around it."""
    taken = [cell.cell_contents for cell in function.__closure__ or ()]
    known = (function.__defaults__, function.__kwdefaults__, taken)
    return [_instructions(function.__code__), *(_words(part, depth) for part in known)]


def _instructions(code: CodeType) -> str:
    constants = [_instructions(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    # The order of a set is another in each process.
    constants = [sorted(map(repr, item)) if isinstance(item, frozenset) else item for item in constants]
    return repr((code.co_code.hex(), code.co_names, constants))
