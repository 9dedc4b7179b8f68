"""Imports of packages that must fit each other, with an error that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import torch


@contextmanager
def torchvision_that_fits() -> Iterator[None]:
    """For imports of torchvision: an ImportError that says what to do, where it is built for another torch."""
    try:
        yield
    except (AttributeError, OSError, RuntimeError) as error:
        raise ImportError(
            f"torch {torch.__version__} and torchvision {version('torchvision')} do not fit each other ({error}): "
            "install both at once and from the same place, `pip install --force-reinstall torch torchvision`, or for "
            "the CPU alone with the command that https://pytorch.org/get-started/locally/ gives"
        ) from error
