"""What makes a file a record: checked all the way down, before anybody relies on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fl_gan_lib.arguments import SIDES
from fl_gan_lib.classes import DIGITS, check_class_names

if TYPE_CHECKING:
    from fl_gan_lib.records import AttackRecord

VERSION = 1
ARRAYS = {"samples": 4, "final_samples": 3, "private_samples": 3, "rounds": 1}
# What the pictures, the explorer and the summary quote.
COLUMNS = {"round", "seconds", "accuracy", "recognition", "diversity"}
ANCHORS = ("noise", "another class", "real images")
CONFIG = {"kind": str, "target": int, "dataset": str, "rounds": int, "seed": int}


def check_text(text: dict[str, Any]) -> None:
    """Raise a ValueError unless the JSON of a record has the right types, all the way down."""
    if text.get("version") != VERSION:
        raise ValueError(f"it is of version {text.get('version')!r:.80}, and this library reads version {VERSION}")
    config, metrics = text.get("config"), text.get("metrics")
    if not isinstance(config, dict) or not isinstance(metrics, dict):
        raise ValueError("its config or its metrics are missing, or not by name")
    for key, kind in CONFIG.items():
        if type(config.get(key)) is not kind:
            raise ValueError(f"the config's {key} is {config.get(key)!r:.80}, and not of type {kind.__name__}")
    classes = class_names(config)
    if not isinstance(classes, list | tuple):
        raise ValueError(f"the config's classes are {classes!r:.80}, and not a list of names")
    check_class_names(classes)
    if config["target"] not in range(len(classes)):
        raise ValueError(f"the target is {config['target']!r:.80}, and not the number of one of {len(classes)} classes")
    anchors = config.get("probe_anchors", dict.fromkeys(ANCHORS, 0))
    if not isinstance(anchors, dict) or set(anchors) != set(ANCHORS):
        raise ValueError(f"the config's probe_anchors are {anchors!r:.80}, and not a value for each of {ANCHORS}")
    if not all(_is_number(value) and 0 <= value <= 1 for value in anchors.values()):
        raise ValueError(f"the config's probe_anchors are {anchors!r:.80}, and not from 0 to 1")
    if missing := COLUMNS - metrics.keys():
        raise ValueError(f"the metrics lack {', '.join(sorted(missing))}")
    for name, column in metrics.items():
        if not isinstance(column, list) or not all(map(_is_number, column)):
            raise ValueError(f"the column {name!r:.80} of the metrics is not a number for each recorded round")
    if len(set(map(len, metrics.values()))) > 1:
        raise ValueError("the columns of the metrics are not of one length")


def class_names(config: Mapping[str, Any]) -> Sequence[str]:
    """Those that a record's config names; older records, all of them of MNIST, name none."""
    return config.get("classes", DIGITS)


def _is_number(value: object) -> bool:
    # NaN is one (the oracle has no accuracy); infinity, and integers that no float tells apart, are not.
    return type(value) in (int, float) and not abs(value) > 2**53


def check_record(record: AttackRecord) -> None:
    """Raise a ValueError that says what is wrong, unless the arrays and the metrics fit each other."""
    for name, ndim in ARRAYS.items():
        array = getattr(record, name)
        if array.ndim != ndim or array.size == 0:
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
        square = array.shape[-1] in SIDES and array.shape[-2:] == (array.shape[-1], record.samples.shape[-1])
        if name != "rounds" and not (array.dtype == np.uint8 and square):
            raise ValueError(f"{name} is {array.dtype} of shape {array.shape}")
    if not len(record.samples) == len(record.rounds) == len(record.metrics):
        raise ValueError("samples, rounds and metrics disagree on the number of recorded rounds")
    rounds = record.rounds
    if rounds.dtype.kind not in "iu" or rounds[0] < 1 or not (rounds[1:] > rounds[:-1]).all():
        raise ValueError(f"the rounds are not whole numbers that increase from 1: {rounds.tolist()!r:.80}")
    if not np.array_equal(rounds, record.metrics["round"]):
        raise ValueError("the column `round` of the metrics is not the recorded rounds")
    if not (record.metrics["recognition"].between(0, 1) | record.metrics["recognition"].isna()).all():
        raise ValueError("the column `recognition` of the metrics is not from 0 to 1")
