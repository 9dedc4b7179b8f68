"""The judge: a network of another kind, which measures what the attack draws and is never shown to it."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.recording import files
from fl_gan_lib.recording.identity import digest

# How a judge is trained. Raise the version when `train_judge` changes: older judges are then trained again.
JUDGE_RECIPE = {"version": 3, "batch_size": 64, "max_learning_rate": 4e-3}
JUDGE_STEPS = 375  # six epochs of mnist-5k: 97.4 % on its held-out images (in twelve, 97.8 %)

MAX_KEPT = 32  # batches of 500 images whose features are kept, 25 MB


class Judge(nn.Module):
    """A CNN that classifies images, trained on real ones alone and never shown to the attack.

    Takes images of shape (N, 1, S, S) in [-1, 1] and returns logits of shape (N, num_classes). It differs from the
    federation's `Classifier` (kernels, activation, dropout), so that fooling the one does not mean fooling the other.

    Args:
        num_classes: how many classes there are.
        side: S, of the images, a multiple of 4.
    """

    num_features = 128

    def __init__(self, num_classes: int = 10, side: int = 28) -> None:
        super().__init__()
        quarter = side // 4
        self.body = nn.Sequential(  # shapes in the comments are those of ten classes and 28 x 28: (N, 1, 28, 28)
            nn.Conv2d(1, 32, 3, padding=1),  # (N, 32, 28, 28)
            nn.MaxPool2d(2),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),  # (N, 64, 14, 14)
            nn.MaxPool2d(2),  # (N, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (N, 3136)
            nn.Dropout(0.3),
            nn.Linear(64 * quarter * quarter, self.num_features),  # (N, 128)
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(self.num_features, num_classes))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer: float32 of shape (N, 128), not negative."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def load_judge(train: ImageDataset, *, seed: int = 0, steps: int = JUDGE_STEPS, on_disk: bool = True) -> Judge:
    """The judge of these training images, trained on first use (about 5 s on mnist-5k); each call returns a copy.

    It is kept in memory, and for other processes in `~/.cache/fl_gan_lib`. Another computer, torch or number of threads
    gives other bits: each has a judge of its own.

    Args:
        train, seed, steps: as for `train_judge`.
        on_disk: False: it is kept in memory alone, as weights tell of the images that they were trained on.
    """
    key = digest(train), seed, steps
    if key not in _judges:
        _judges[key] = _find_judge(train, *key) if on_disk else train_judge(train, seed=seed, steps=steps)
    return copy.deepcopy(_judges[key])


_judges: dict[tuple[str, int, int], Judge] = {}  # by digest of their training images, seed and steps


def _find_judge(train: ImageDataset, data: str, seed: int, steps: int) -> Judge:
    """In the cache, or trained and put there."""
    with torch.random.fork_rng():
        judge = Judge(len(train.classes), train.side)
    kept = _judge_file(judge, data, seed, steps)
    try:
        _, weights = files.unpack(kept.read_bytes())
        judge.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except (OSError, RuntimeError, ValueError):  # not there, or not whole
        judge = train_judge(train, seed=seed, steps=steps)
        weights = {name: tensor.numpy() for name, tensor in judge.state_dict().items()}
        if kept.is_absolute():  # there is a home
            with contextlib.suppress(OSError):
                files.write_atomically(kept, files.pack({}, weights))
    return judge.eval().requires_grad_(False)


def _judge_file(judge: Judge, data: str, seed: int, steps: int) -> Path:
    """Named after the layers, the data, the training and the machine."""
    here = torch.__version__, torch.get_num_threads(), platform.node(), platform.machine()
    name = hashlib.sha256(repr((str(judge), data, seed, steps, JUDGE_RECIPE, here)).encode()).hexdigest()
    return Path(os.path.expanduser("~"), ".cache", "fl_gan_lib", f"judge_{name[:16]}.npz")


def train_judge(train: ImageDataset, *, seed: int = 0, steps: int = JUDGE_STEPS) -> Judge:
    """A judge of these images, by the recipe above, whoever drew them; it is not kept.

    Args:
        train: at least one image.
        seed: of its first weights, dropout and the order of the images.
        steps: about so many mini-batches of 64, in 2 to 150 epochs.
    """
    batch_size = min(JUDGE_RECIPE["batch_size"], len(train))
    steps_per_epoch = len(train) // batch_size
    epochs = min(max(2, round(steps / steps_per_epoch)), 150)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        judge = Judge(len(train.classes), train.side)
        optimizer = torch.optim.Adam(judge.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=JUDGE_RECIPE["max_learning_rate"], total_steps=epochs * steps_per_epoch
        )
        for _ in range(epochs):
            for batch in torch.randperm(len(train)).split(batch_size)[:steps_per_epoch]:
                loss = F.cross_entropy(judge(train.images[batch]), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return judge.eval().requires_grad_(False)


def features_of(judges: Sequence[Judge], images: Tensor) -> Tensor:
    """The features of images (N, 1, S, S) in [-1, 1] by each of the judges, side by side: (N, 128 for each judge)."""
    batches = images.split(500)
    return torch.cat([torch.cat([judge.features(batch) for batch in batches]) for judge in judges], dim=1)


def kept_features(judges: Sequence[Judge], images: Tensor) -> Tensor:
    """As `features_of`, and kept in memory: the digits are the same beside each class that somebody draws."""
    weights = _hash([tensor for judge in judges for tensor in judge.state_dict().values()])
    parts = []
    for batch in images.split(500):
        key = weights, _hash([batch])
        kept = _kept.pop(key, None)
        _kept[key] = features_of(judges, batch) if kept is None else kept
        parts.append(_kept[key])
    for forgotten in [*_kept][:-MAX_KEPT]:
        del _kept[forgotten]
    return torch.cat(parts)


_kept: dict[tuple[str, str], Tensor] = {}  # by hash of the judges' weights, and of the images


def _hash(tensors: Sequence[Tensor]) -> str:
    content = hashlib.sha256()
    for tensor in tensors:
        content.update(np.ascontiguousarray(tensor.numpy()))
    return content.hexdigest()
