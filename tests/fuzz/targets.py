"""What is fuzzed, and how an input becomes a file: shared by the fuzzer and by the test that replays its corpus.

An input is either the content of a file as it is, or, if it begins with `_PARTS`, a recipe for an archive: parts set
off by `_PARTS`, each the name of a member, a line feed, and its content. A part that begins as the header of an array
gets the rest of the array, and JSON its header. So mutations get past the sizes and checksums of zip and npy.
"""

from __future__ import annotations

import io
import json
import math
import re
import zipfile
from pathlib import Path

import numpy as np

from fl_gan_lib import archives
from fl_gan_lib.records import AttackRecord

_PARTS = b"\n%%\n"


def fuzz_archives(data: bytes) -> bool:
    """Whether `data` is an archive; one that is can be packed and is the same again."""
    try:
        text, arrays = archives.unpack(_as_file(data))
    except ValueError:
        return False
    again_text, again = archives.unpack(archives.pack(text, arrays))
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
    from fl_gan_lib.widgets import _frames

    json.dumps(_frames(record, num_fakes=1), allow_nan=False)
    assert AttackRecord.loads(record.dumps()).target == record.target
    return True


def fuzz_mnist(data: bytes) -> bool:
    """Whether `data` can be parsed as a file of MNIST; the hash that stands before it lets none but the original by."""
    from fl_gan_lib.data import _MNIST_SHA256, _parse_idx, _parse_original

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


TARGETS = {"archives": fuzz_archives, "records": fuzz_records, "mnist": fuzz_mnist}


def _as_file(data: bytes) -> bytes:
    if not data.startswith(_PARTS):
        return data
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for part in data.split(_PARTS)[1:]:
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
        size = math.prod(int(axis) for axis in shape[1].split(b",") if axis.strip()) if shape else 0
        size *= 8 if b"8'" in header else 1
        header += b"\n"
        rest = rest + bytes(max(0, min(size, 2**16) - len(rest)))
        return b"\x93NUMPY\x01\x00" + (len(header) % 2**16).to_bytes(2, "little") + header + rest
    if content.startswith(b"{"):
        buffer = io.BytesIO()
        np.save(buffer, np.frombuffer(content, np.uint8))
        return buffer.getvalue()
    return content
