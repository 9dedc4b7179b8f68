"""Random numbers that depend on seed, round and client alone, so that a run can be repeated and continued."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def turn_seed(seed: int, round: int, client: int) -> int:
    """The seed of one client's turn in one round, from 0 to 2**32 - 1."""
    return int(np.random.SeedSequence([seed, round, client]).generate_state(1)[0])


@contextmanager
def seeded(seed: int, round: int, client: int) -> Iterator[None]:
    """Seed torch, NumPy and `random` for one client's turn, and restore the caller's random states afterwards."""
    # Looking for the generators of other devices takes a millisecond a turn, where there are none as well.
    cpu_only = not (torch.cuda.is_initialized() or torch.backends.mps.is_available())
    numpy_state, python_state = np.random.get_state(), random.getstate()
    try:
        with torch.random.fork_rng(devices=[] if cpu_only else None):
            manual_seed = torch.default_generator.manual_seed if cpu_only else torch.manual_seed
            for set_seed in (manual_seed, np.random.seed, random.seed):
                set_seed(turn_seed(seed, round, client))
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
