"""The judge: a network of another kind, which measures what the attack draws and is never shown to it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import NUM_DIGITS
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.recording import files

# How a judge is trained. Raise the version when `_train_judge` changes: older judges are then trained again.
JUDGE_RECIPE = {
    "version": 1,
    "epochs": {"mnist-5k": 12, "mnist": 2},
    "batch_size": 64,
    "max_learning_rate": 4e-3,
    "seed": 0,
}


class Judge(nn.Module):
    """A CNN that classifies digits, trained on real images alone and never shown to the attack.

    Takes images of shape (N, 1, 28, 28) in [-1, 1] and returns logits of shape (N, 10). It differs from the
    federation's `Classifier` (kernels, activation, dropout), so that fooling the one does not mean fooling the other.
    """

    num_features = 128

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(  # (N, 1, 28, 28)
            nn.Conv2d(1, 32, 3, padding=1),  # (N, 32, 28, 28)
            nn.MaxPool2d(2),  # (N, 32, 14, 14)
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),  # (N, 64, 14, 14)
            nn.MaxPool2d(2),  # (N, 64, 7, 7)
            nn.ReLU(),
            nn.Flatten(),  # (N, 3136)
            nn.Dropout(0.3),
            nn.Linear(64 * 7 * 7, self.num_features),  # (N, 128)
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(self.num_features, NUM_DIGITS))
        self.to(memory_format=torch.channels_last)

    def features(self, images: Tensor) -> Tensor:
        """The penultimate layer: float32 of shape (N, 128), not negative."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


@lru_cache(maxsize=2)
def load_judge(dataset: str) -> Judge:
    """The judge for a data set, trained on its training images on first use (about 10 s).

    It is kept in memory, and for other processes in `~/.cache/fl_gan_lib`. Another computer, torch or number of threads
    gives other bits: each has a judge of its own.
    """
    with torch.random.fork_rng():
        judge = Judge()
    kept = _judge_file(dataset, judge)
    try:
        _, weights = files.unpack(kept.read_bytes())
        judge.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    except (OSError, RuntimeError, ValueError):  # not there, or not whole
        judge = _train_judge(dataset)
        weights = {name: tensor.numpy() for name, tensor in judge.state_dict().items()}
        if kept.is_absolute():  # there is a home
            with contextlib.suppress(OSError):
                files.write_atomically(kept, files.pack({}, weights))
    return judge.eval().requires_grad_(False)


def _judge_file(dataset: str, judge: Judge) -> Path:
    """Named after the data, the layers, the recipe and the machine."""
    here = torch.__version__, torch.get_num_threads(), platform.node(), platform.machine()
    digest = hashlib.sha256(repr((dataset, str(judge), JUDGE_RECIPE, here)).encode()).hexdigest()
    return Path(os.path.expanduser("~"), ".cache", "fl_gan_lib", f"judge_{digest[:16]}.npz")


def _train_judge(dataset: str) -> Judge:
    train, _ = load_dataset(dataset)
    epochs, batch_size = JUDGE_RECIPE["epochs"][dataset], JUDGE_RECIPE["batch_size"]
    steps = len(train) // batch_size  # an epoch
    with torch.random.fork_rng():
        torch.manual_seed(JUDGE_RECIPE["seed"])
        judge = Judge()
        optimizer = torch.optim.Adam(judge.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=JUDGE_RECIPE["max_learning_rate"], total_steps=epochs * steps
        )
        for _ in range(epochs):
            for batch in torch.randperm(len(train)).split(batch_size)[:steps]:
                loss = F.cross_entropy(judge(train.images[batch]), train.labels[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return judge
