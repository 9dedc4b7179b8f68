"""What a client can do alone: clients of another kind, which train on less, on other images, or with dropout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.federation import Client, Update
from fl_gan_lib.imports import torchvision_that_fits


class WithholdingClient(Client):
    """A client that trains on its images of one digit in every n-th round only, or never.

    Args:
        dataset: the client's own images.
        digit: which it withholds.
        every: in which rounds it does not: those that it divides; None for never.
        client_options: as for `Client`.

    Raises:
        ValueError: `every` is less than 1, or the client has no other images.
    """

    def __init__(self, dataset: ImageDataset, digit: int, *, every: int | None = None, **client_options: Any) -> None:
        super().__init__(dataset, **client_options)
        if every is not None and every < 1:
            raise ValueError(f"every is {every}: it must be at least 1, or None for never")
        if (dataset.labels == digit).all():
            raise ValueError(f"the client has nothing but images of {digit}: without them there is nothing to train on")
        self.digit = digit
        self.every = every

    def fit(self, global_model: nn.Module, round: int) -> Update:
        self._shown = self.every is not None and round % self.every == 0
        return super().fit(global_model, round)

    def _step(self, images: Tensor, labels: Tensor) -> float:
        kept = torch.ones_like(labels, dtype=torch.bool) if self._shown else labels != self.digit
        return super()._step(images[kept], labels[kept])


class AugmentingClient(Client):
    """A client that never shows an image as it is: each is rotated, moved, scaled and sheared at random, every time.

    Up to 20 degrees, a tenth of the side, 20 % and 15 degrees. Arguments are those of `Client`.
    """

    def _step(self, images: Tensor, labels: Tensor) -> float:
        with torchvision_that_fits():
            from torchvision.transforms.v2 import RandomAffine

        change = RandomAffine(20, translate=(0.1, 0.1), scale=(0.8, 1.2), shear=15, fill=-1)
        picked = torch.randperm(len(labels))[: self.local_steps * self.batch_size]
        return super()._step(torch.stack([change(image) for image in images[picked]]), labels[picked])


class DropoutClient(Client):
    """A client that drops half of the inputs of each linear layer in its local training (Srivastava et al. 2014).

    Arguments are those of `Client`.
    """

    def _receive(self, global_model: nn.Module) -> nn.Module:
        first = self._model is None
        model = super()._receive(global_model)
        if first:
            for layer in model.modules():
                if isinstance(layer, nn.Linear):
                    layer.register_forward_pre_hook(lambda layer, inputs: F.dropout(*inputs, 0.5, layer.training))
        return model
