"""Which drawings can be a class of their own. Needs no torch."""

from __future__ import annotations

import numpy as np

SIDE = 28
FEWEST, MOST = 8, 20
FEWEST_PIXELS = 10  # with less ink than that it is a dot


def check_drawings(pictures: np.ndarray) -> np.ndarray:
    """The drawings as they are, if they can be a class of their own.

    Raises:
        ValueError: as for `drawings`; the message says what to do.
    """
    pictures = np.asarray(pictures)
    if pictures.dtype != np.uint8 or pictures.ndim != 3 or pictures.shape[1:] != (SIDE, SIDE):
        raise ValueError(
            f"drawings are {pictures.dtype} of shape {pictures.shape}: they must be grey values, uint8 of shape "
            f"(n, {SIDE}, {SIDE})"
        )
    if not FEWEST <= len(pictures) <= MOST:
        raise ValueError(f"there are {len(pictures)} drawings: make {FEWEST} to {MOST} of one symbol")
    for place, picture in enumerate(pictures, start=1):
        if (picture > 127).sum() < FEWEST_PIXELS:
            raise ValueError(f"drawing {place} is empty, or nearly so: draw it again")
    if (pictures == pictures[0]).all():
        raise ValueError("all drawings are the same picture: draw the symbol again and again")
    return pictures
