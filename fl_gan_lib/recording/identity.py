"""What tells one run from another: the data and the options of a run in words, for its record and its checkpoints."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
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
    and, for functions and classes from outside this library, with other code, defaults, class attributes, or numbers,
    texts and functions of their module. What lies deeper (in a list of their module, say) is not looked at.
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
    if _is_known(value):
        return value.__qualname__
    code = _code(value, depth) if isinstance(value, FunctionType) else _class_code(value, depth)
    return f"{value.__qualname__} [code {hashlib.sha256(repr(code).encode()).hexdigest()[:8]}]"


def _is_known(value: FunctionType | type) -> bool:
    return str(value.__module__).partition(".")[0] in ("fl_gan_lib", "builtins", "torch", "numpy")


def _class_code(value: type, depth: int) -> list[str]:
    """What a class and its bases define: methods, and attributes."""
    parts = []
    for base in (base for base in value.__mro__ if not _is_known(base)):
        for name, part in vars(base).items():
            function = getattr(part, "fget", getattr(part, "__func__", part))
            if isinstance(function, FunctionType):
                parts.append(f"{name}: {_code(function, depth)}")
            elif not name.startswith("__"):
                parts.append(f"{name}: {_words(part, depth)}")
    return parts


def _code(function: FunctionType, depth: int) -> list[str]:
    """What a function does, with its defaults, what it has taken from around it, and what it reads of its module."""
    cells = [cell for cell in function.__closure__ or () if cell != CellType()]
    read = {name: function.__globals__.get(name) for name in function.__code__.co_names}
    read = {name: part for name, part in read.items() if isinstance(part, int | float | str | FunctionType | type)}
    known = (function.__defaults__, function.__kwdefaults__, [cell.cell_contents for cell in cells], read)
    return [_instructions(function.__code__), *(_words(part, depth) for part in known)]


def _instructions(code: CodeType) -> str:
    constants = [_instructions(item) if isinstance(item, CodeType) else item for item in code.co_consts]
    # The order of a set is another in each process.
    constants = [sorted(map(repr, item)) if isinstance(item, frozenset) else item for item in constants]
    return repr((code.co_code.hex(), code.co_names, constants))
