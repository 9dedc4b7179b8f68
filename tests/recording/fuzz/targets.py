"""What is fuzzed, and how an input becomes a file: shared by the fuzzer and by the test that replays its corpus.

An input is either the content of a file as it is, or, if it begins with `PARTS`, a recipe for an archive: parts set
off by `PARTS`, each the name of a member, a line feed, and its content. A part that begins as the header of an array
gets the rest of the array, and JSON its header. So mutations get past the sizes and checksums of zip and npy.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import zipfile
from pathlib import Path

import numpy as np

from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord

PARTS = b"\n%%\n"


def fuzz_archives(data: bytes) -> bool:
    """Whether `data` is an archive; one that is can be packed and is the same again."""
    try:
        text, arrays = files.unpack(_as_file(data))
    except ValueError:
        return False
    again_text, again = files.unpack(files.pack(text, arrays))
    assert json.dumps(again_text) == json.dumps(text) and again.keys() == arrays.keys()
    for name, array in arrays.items():
        assert again[name].dtype == array.dtype and again[name].shape == array.shape
        assert again[name].tobytes() == array.tobytes()
    return True


def fuzz_records(data: bytes) -> bool:
    """Whether `data` is a record; one that is can be saved, described and shown."""
    try:
        record = AttackRecord.loads(_as_file(data))
    except ValueError:
        return False
    from fl_gan_lib.explorer.page import frames_of

    json.dumps(frames_of(record, num_fakes=1), allow_nan=False)
    assert AttackRecord.loads(record.dumps()).target == record.target
    return True


def fuzz_mnist(data: bytes) -> bool:
    """Whether `data` can be parsed as a file of MNIST; the hash that stands before it lets none but the original by."""
    from fl_gan_lib.datasets.mnist import _MNIST_SHA256, _parse_idx, _parse_original

    for name in _MNIST_SHA256:
        try:
            _parse_original(Path(name), data)
        except ValueError:
            continue
        raise AssertionError("another file has the hash of MNIST's")
    try:
        array = _parse_idx(data)
    except ValueError:
        return False
    assert array.ndim in (1, 3) and array.nbytes < len(data)
    return True


def fuzz_states(data: bytes) -> bool:
    """Whether `data` is the state of a small client; one that is can go on training."""
    import torch

    from fl_gan_lib.recording import states

    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters())
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.03, total_iters=5)
    try:
        states.load(_as_file(data), {"model": model, "optimizer": optimizer, "schedule": schedule})
    except (ValueError, RuntimeError, KeyError, TypeError, AttributeError):
        return False
    model(torch.ones(3, 2)).sum().backward()
    optimizer.step()
    return True


TARGETS = {"archives": fuzz_archives, "records": fuzz_records, "mnist": fuzz_mnist, "states": fuzz_states}

_VALUES = [
    None,
    True,
    -1,
    0,
    1,
    3,
    1.5,
    math.inf,
    math.nan,
    2**53 + 1,
    2**63,
    10**400,
    "",
    "3",
    [],
    {},
    [1, 2],
    [[1], 2],
]
_DTYPES = [b"|u1", b"|b1", b"<i8", b">i4", b"<f4", b"<f8", b"<c16", b"<u8", b"|O", b"<U1", b"|i3"]
_SIZES = [0, 1, 2, 2, 3, 28, 28, 2**16, 2**31, 2**63]


def mutate_json(content: bytes, dice: random.Random) -> bytes:
    """Put another value somewhere, or take one out."""
    try:
        place = tree = json.loads(content)
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            if not keys:
                return content
            key = dice.choice(keys)
            if not isinstance(place[key], dict | list) or dice.random() < 0.2:
                break
            place = place[key]
    except (ValueError, RecursionError):
        return content
    match dice.randrange(6):
        case 0:
            del place[key]
        case 1 if isinstance(place, list):
            place.insert(key, dice.choice(_VALUES))
        case 1 if isinstance(place, dict):
            place[dice.choice(["x", "version", "config", "metrics", *keys])] = place[key]
        case 2:
            place[key] = dice.choice([-1, 1]) * dice.random() * 10 ** dice.randrange(-5, 20)
        case _:
            place[key] = dice.choice(_VALUES)
    return json.dumps(tree).encode()


def mutate_header(content: bytes, dice: random.Random) -> bytes:
    """Another type, shape or order for an array."""
    match dice.randrange(4):
        case 0:
            return re.sub(rb"'descr': '[^']*'", b"'descr': '%b'" % dice.choice(_DTYPES), content, count=1)
        case 1:
            return content.replace(b"False", b"True") if b"False" in content else content.replace(b"True", b"False")
        case 2:
            return content + dice.randbytes(8)
        case _:
            shape = re.search(rb"\(([0-9, ]*)\)", content)
            axes = [int(axis) for axis in re.findall(rb"[0-9]+", shape[1])] if shape else []
            if axes and dice.random() < 0.6:
                axes[dice.randrange(len(axes))] = dice.choice(_SIZES)
            else:
                axes = [*axes, dice.choice(_SIZES)][dice.randrange(2) :]
            return re.sub(rb"\([0-9, ]*\)", str(tuple(axes)).encode(), content, count=1)


def _as_file(data: bytes) -> bytes:
    if not data.startswith(PARTS):
        return data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in data.split(PARTS)[1:]:
            name, _, content = part.partition(b"\n")
            info = zipfile.ZipInfo(name.decode("latin-1"))
            info.compress_type = zipfile.ZIP_DEFLATED if len(content) % 2 else zipfile.ZIP_STORED
            try:
                archive.writestr(info, _as_member(content))
            except (ValueError, RuntimeError, OSError):  # a name or size that cannot be written is no archive
                return b""
    return buffer.getvalue()


def _as_member(content: bytes) -> bytes:
    if content.startswith(b"{'"):
        header, _, rest = content.partition(b"\n")
        shape = re.search(rb"\(([0-9, ]*)\)", header)
        size = math.prod(int(axis) for axis in re.findall(rb"[0-9]+", shape[1])) if shape else 0
        size *= 8 if b"8'" in header else 1
        header += b"\n"
        rest = rest + bytes(max(0, min(size, 2**16) - len(rest)))
        return b"\x93NUMPY\x01\x00" + (len(header) % 2**16).to_bytes(2, "little") + header + rest
    if content.startswith(b"{"):
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(content, np.uint8))
        return buffer.getvalue()
    return content
