"""Files of named arrays and one JSON text, which numpy alone can read: what records and checkpoints are made of.

They may come from a stranger or from a broken disk: nothing in them is run, and nothing is believed before it is
checked. Every file of this library is written by `write_atomically`.
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
from typing import Any

import numpy as np

# A deflated file can hold 1,032 times its size. Of our records the tightest, an oracle's, unpacks to 3.1 times its
# size; a blank one (of an attack that failed) to some 200 times, but to less than a megabyte. So a file may unpack to
# 16 times its size, and a little one to 16 MiB.
MAX_RATIO = 16
ALWAYS_ALLOWED = 2**24
# Parsed JSON takes up to 25 times the memory of its text ("{},{},"). Ours are of a few kilobytes.
TEXT_ALWAYS_ALLOWED = 2**20

NUMBERS = re.compile(r"[<>|](?:b1|[iu][1248]|f[248]|c8|c16)")  # and truth values, as dtypes


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
    if "text" in members or not all(map(_is_usable, members)):
        raise ValueError(f"names of arrays must be other than 'text', without slashes, and not empty: {list(members)}")
    for name, array in members.items():
        if not NUMBERS.fullmatch(array.dtype.str):
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
            arrays = {info.filename.removesuffix(".npy"): _read_array(archive, info) for info in members}
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
    path = Path(path).expanduser()
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


def _is_usable(name: str) -> bool:
    return bool(name) and not set(name) & set("/\\\0")


def _excess(sizes: Mapping[str, int], size: int) -> str:
    if sum(sizes.values()) > max(ALWAYS_ALLOWED, MAX_RATIO * size):
        return f"it would unpack to {sum(sizes.values()):,} bytes, more than {MAX_RATIO} times its size of {size:,}"
    if sizes.get("text.npy", 0) > max(TEXT_ALWAYS_ALLOWED, size):
        return f"its text is of {sizes['text.npy']:,} bytes, and more than {TEXT_ALWAYS_ALLOWED:,} are not read"
    return ""


def _check_members(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [info.filename for info in members]
    if len(set(names)) < len(names):
        raise ValueError("two arrays in it have one name")
    for info in members:
        if not info.filename.endswith(".npy") or not _is_usable(info.filename.removesuffix(".npy")):
            raise ValueError(f"{info.filename[:80]!r} in it is no array")
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{info.filename[:80]!r} in it is encrypted, or compressed in an unknown way")
    if excess := _excess({info.filename: info.file_size for info in members}, size):
        raise ValueError(excess)


def _read_array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    """Numpy's reader allocates what the header declares: so the header is compared with the member's size first."""
    name = f"{info.filename[:80]!r} in it"
    with archive.open(info) as member:
        try:
            version = np.lib.format.read_magic(member)
            shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except zipfile.BadZipFile:
            raise
        except Exception as error:  # numpy evaluates the header as a literal, which fails in some five ways
            raise ValueError(f"{name} is not an array of numbers") from error
        if version != (1, 0) or not NUMBERS.fullmatch(dtype.str) or min(shape, default=0) < 0:
            raise ValueError(f"{name} is not an array of numbers")
        size = info.file_size - member.tell()
        if math.prod(shape) * dtype.itemsize != size:
            raise ValueError(f"{name} declares the shape {shape!s:.80}, and holds {size:,} bytes")
    with archive.open(info) as member:
        array = np.lib.format.read_array(member, allow_pickle=False)
        member.read()  # to its end, where the checksum is compared
    return array
