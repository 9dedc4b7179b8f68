"""Key-protected classification: nobody can train against a class without its key (Sariyildiz et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, shuffled_batches
from fl_gan_lib.models import Classifier


class KeyedClassifier(nn.Module):
    """A classifier without an output for each class: it maps an image to a direction, near the *key* of its class.

    The keys are random directions in many dimensions, and each is known only to those who hold images of its class
    (Sariyildiz, Cinbis and Ayday 2020; written after their published code, without their fixed last layer). They are
    not among the parameters that are shared. For the simulation `forward` returns the cosines with all keys, as in the
    authors' code; a participant uses the columns of the keys that it knows.

    Takes images (N, 1, S, S) in [-1, 1], and returns cosines (N, num_classes + 1): the last column is a key that an
    attacker makes up for its fakes.

    Args:
        num_classes: of the federation.
        key_size: dimensions of a key, at least 2.
        side: S, as for `Classifier`.
    """

    def __init__(self, num_classes: int = 10, *, key_size: int = 1024, side: int = 28) -> None:
        super().__init__()
        key_size = whole_number("key_size", key_size, 2)
        self.embedding = nn.Sequential(Classifier(key_size, side=side), nn.LayerNorm(key_size), nn.ReLU())
        keys = F.normalize(torch.randn(key_size, num_classes + 1), dim=0)
        self.register_buffer("keys", keys, persistent=False)  # never part of an update

    def directions(self, images: Tensor) -> Tensor:
        """Where the images are mapped to: unit vectors (N, key_size)."""
        return F.normalize(self.embedding(images), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.directions(images) @ self.keys


class KeyedClient(Client):
    """A client that pulls each image towards the key of its class, and needs no key but those of its own classes.

    Its loss is one minus the cosine. Arguments are those of `Client`.
    """

    def train_locally(self, dataset: ImageDataset) -> float:
        self.model.train()
        losses = []
        for images, labels in shuffled_batches(dataset, self.batch_size, self.local_steps):
            loss = 1 - self.model(images).gather(1, labels[:, None]).mean()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            losses.append(loss.detach())
        return torch.stack(losses).mean().item()
