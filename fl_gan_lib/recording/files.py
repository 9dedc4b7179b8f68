"""Files of named arrays and one JSON text, which numpy alone can read: what records and checkpoints are made of.

They may come from a stranger or from a broken disk: nothing in them is run, and nothing is believed before it is
checked.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

# A deflated file can hold 1,032 times its size. Of our records the tightest, an oracle's, unpacks to 3.1 times its
# size; a blank one (of an attack that failed) to some 200 times, but to less than a megabyte. So a file may unpack to
# 16 times its size, and a little one to 16 MiB.
_MOST = 16
_ALWAYS = 2**24
# Parsed JSON takes up to 25 times the memory of its text ("{},{},"). Ours are of a few kilobytes.
_ALWAYS_TEXT = 2**20

_MAGIC = b"\x93NUMPY\x01\x00"
# What numpy writes for arrays of numbers; its own reader evaluates the header as Python, and allocates what that says.
_DTYPE = r"[<>|](?:b1|[iu][1248]|f[248]|c8|c16)"
_HEADER = re.compile(
    rf"{{'descr': '({_DTYPE})', 'fortran_order': (True|False), "
    r"'shape': \(((?:[0-9]{1,18}, ?)*(?:[0-9]{1,18})?)\), } *\n"
)


def pack(text: Mapping[str, Any], arrays: Mapping[str, np.ndarray], *, compress: bool = True) -> bytes:
    """The content of a file that `unpack`, and `numpy.load`, can read.

    Args:
        text: JSON values only (and NaN); in the file a uint8 array named `text`, last.
        arrays: of numbers or truth values, of any shape, by name.
        compress: smaller, and several times slower. Not done where so little would be left that `unpack` would take
            the file for a bomb.

    Raises:
        ValueError: an array is not of numbers, or its name cannot be used.
        TypeError: the text is not JSON.
    """
    members = {name: np.asarray(array) for name, array in arrays.items()}
    if "text" in members or not all(map(_usable, members)):
        raise ValueError(f"names of arrays must be other than 'text', without slashes, and not empty: {list(members)}")
    for name, array in members.items():
        if not re.fullmatch(_DTYPE, array.dtype.str):
            raise ValueError(f"{name} is of {array.dtype}: only numbers and truth values can be packed")
    members["text"] = np.frombuffer(json.dumps(text).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, (1, 0), allow_pickle=False)
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    packed = buffer.getvalue()
    if compress and _excess(sizes, len(packed)):
        return pack(text, arrays, compress=False)
    return packed


def unpack(content: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The text and the arrays (writable, by name) of what `pack` or `numpy.savez` made; no pickle.

    It unpacks to no more than 16 MiB or 16 times the size of `content`, and its text to no more than 1 MiB or the size
    of `content`, whichever is more. As objects that is at most 48 MiB or 45 times the size.

    Raises:
        ValueError: it is not such a file, it is damaged, or it would unpack to more than that.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members, len(content))
            arrays = {info.filename.removesuffix(".npy"): _read(archive, info) for info in members}
        text = json.loads(arrays.pop("text").tobytes())
        if not isinstance(text, dict):
            raise ValueError("its text is not a JSON object")
    except ValueError:
        raise
    except KeyError as error:
        raise ValueError(f"there is no {error} in it") from error
    except Exception as error:  # on damaged bytes the parsers of zip and JSON raise some ten different types
        raise ValueError(f"it is truncated or altered: {str(error) or type(error).__name__}") from error
    return text, arrays


def write_atomically(path: str | Path, content: bytes) -> Path:
    """Write `content` to `path`, whose folders are made; an existing file is replaced only by a complete one.

    Raises:
        OSError: it could not be written (a full disk, a folder that is read-only); the old file is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with unfinished.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # some file systems rename at once and write later: not if the power fails between
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path


def _usable(name: str) -> bool:
    return bool(name) and not set(name) & set("/\\\0")


def _excess(sizes: Mapping[str, int], size: int) -> str:
    if sum(sizes.values()) > max(_ALWAYS, _MOST * size):
        return f"it would unpack to {sum(sizes.values()):,} bytes, more than {_MOST} times its size of {size:,}"
    if sizes.get("text.npy", 0) > max(_ALWAYS_TEXT, size):
        return f"its text is of {sizes['text.npy']:,} bytes, and more than {_ALWAYS_TEXT:,} are not read"
    return ""


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        raise ValueError("two arrays in it have one name")
    for info in members:
        if not info.filename.endswith(".npy") or not _usable(info.filename.removesuffix(".npy")):
            raise ValueError(f"{info.filename[:80]!r} in it is no array")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename[:80]!r} in it is encrypted, or compressed in an unknown way")
    if excess := _excess({info.filename: info.file_size for info in members}, size):
        raise ValueError(excess)


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as member:
        start = member.read(len(_MAGIC) + 2)
        length = int.from_bytes(start[len(_MAGIC) :], "little")
        header = _HEADER.fullmatch(member.read(length).decode("latin-1"))
        if not start.startswith(_MAGIC) or header is None:
            raise ValueError(f"{info.filename[:80]!r} in it is not an array of numbers")
        dtype, shape = np.dtype(header[1]), tuple(int(axis) for axis in header[3].split(",") if axis.strip())
        size = info.file_size - len(start) - length
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{info.filename[:80]!r} in it declares the shape {shape!s:.80}, and holds {size:,} bytes")
        array = np.empty(size, np.uint8)
        _fill(array, member)
    array = array.view(dtype)
    return array.reshape(shape[::-1]).T if header[2] == "True" else array.reshape(shape)


def _fill(array: np.ndarray, member: IO[bytes]) -> None:
    filled = 0
    while chunk := member.read(2**18):  # to its end, for there the checksum is compared
        array[filled : filled + len(chunk)] = np.frombuffer(chunk, np.uint8)
        filled += len(chunk)
    if filled < len(array):
        raise ValueError(f"{member.name[:80]!r} in it ends early")
