"""What a client can do alone: train on fewer images, on distorted ones, or with dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, Update
from fl_gan_lib.imports import torchvision_that_fits


class WithholdingClient(Client):
    """A client that trains on its images of one class in every n-th round only, or never.

    Args:
        dataset: the client's own images.
        target: the class that it withholds, its name or number.
        every: in which rounds it does not: those that it divides; None for never.
        client_options: as for `Client`.

    Raises:
        ValueError: there is no such class, `every` is no whole number or less than 1, or the client has no other
            images.
    """

    def __init__(
        self, dataset: ImageDataset, target: str | int, *, every: int | None = None, **client_options: Any
    ) -> None:
        super().__init__(dataset, **client_options)
        self.target = dataset.label_of(target)
        self.every = None if every is None else whole_number("every", every, 1, why="(or None, for never)")
        if (dataset.labels == self.target).all():
            raise ValueError(
                f"the target is {target!r}: the client has nothing but images of it, and would have nothing to train "
                "on. Let it withhold another class, or give it other images"
            )

    def fit(self, global_model: nn.Module, round: int) -> Update:
        self.receive(global_model)
        shown = self.dataset
        if self.every is None or round % self.every:
            shown = shown.subset(shown.labels != self.target)
        loss = self.train_locally(shown)
        return self.make_update(global_model, len(self.dataset), loss)


class AugmentingClient(Client):
    """A client that never shows an image as it is: each is rotated, moved, scaled and sheared at random, every time.

    Up to 20 degrees, a tenth of the side, 20 % and 15 degrees. Arguments are those of `Client`.
    """

    def train_locally(self, dataset: ImageDataset) -> float:
        picked = dataset.subset(torch.randperm(len(dataset))[: self.local_steps * self.batch_size])
        return super().train_locally(ImageDataset(distort(picked.images), picked.labels, picked.classes))


def distort(images: Tensor) -> Tensor:
    """Each image (N, 1, S, S) rotated, moved, scaled and sheared at random, as `AugmentingClient` says."""
    with torchvision_that_fits():
        from torchvision.transforms.v2 import RandomAffine

    affine = RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=15, fill=-1)
    return torch.stack([affine(image) for image in images])


class DropoutClient(Client):
    """A client that drops half of the inputs of each linear layer in its local training (Srivastava et al. 2014).

    Arguments are those of `Client`.
    """

    def receive(self, global_model: nn.Module) -> nn.Module:
        first = self.model is None
        model = super().receive(global_model)
        if first:
            for layer in model.modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_pre_hook(lambda layer, inputs: F.dropout(*inputs, 0.5, layer.training))
        return model
