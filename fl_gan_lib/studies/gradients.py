"""Gradient inversion, beside the GAN attack: what single updates say about single images (notebook 06)."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.attack import build_federation
from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client, change_between, federate
from fl_gan_lib.studies.sweep import Job, Result, sweep


def gradient_of(model: nn.Module, images: Tensor, labels: Tensor) -> list[Tensor]:
    """The gradient of the mean cross-entropy on these images, a tensor for each parameter."""
    return list(torch.autograd.grad(F.cross_entropy(model(images), labels), list(model.parameters())))


def invert_gradient(
    model: nn.Module,
    gradient: list[Tensor],
    labels: Tensor,
    *,
    side: int = 28,
    steps: int = 1000,
    smoothness: float = 0.01,
) -> Tensor:
    """Images whose gradient has the direction of the one that was seen (Geiping et al. 2020).

    From noise, with Adam on the signs of the derivatives, and a rate that falls three times, as there. The labels are
    taken as known: from the gradient of one image they can be read off (iDLG, Zhao et al. 2020).

    Args:
        model: with the weights at which the gradient was taken; it stays as it is.
        gradient: a tensor for each parameter. The change of an update, times -1, can stand for it: it is the gradient
            itself after one step of plain gradient descent, and less and less like it after more steps, or with Adam.
        labels: int64 (N,), of the images that are looked for.
        side: of the images.
        steps: of the search, at least 8.
        smoothness: the weight of the total variation, which keeps neighbouring pixels alike.

    Returns:
        (N, 1, S, S) in [-1, 1].
    """
    steps = whole_number("steps", steps, 8)
    seen = _flat(gradient)
    images = torch.randn(len(labels), 1, side, side, device=seen.device, requires_grad=True)
    optimizer = torch.optim.Adam([images], lr=0.1)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps * 3 // 8, steps * 5 // 8, steps * 7 // 8], 0.1)
    for _ in range(steps):
        loss = F.cross_entropy(model(images), labels)
        found = torch.autograd.grad(loss, list(model.parameters()), create_graph=True)
        cost = 1 - F.cosine_similarity(_flat(found), seen, dim=0) + smoothness * _total_variation(images)
        (images.grad,) = torch.autograd.grad(cost, [images])
        images.grad.sign_()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            images.clamp_(-1, 1)
    return images.detach()


def inversion_of_update(
    seed: int, *, num_images: int, local_steps: int = 0, rounds_before: int = 0, steps: int = 600
) -> Result:
    """Gradient inversion of what the victim of the attack on the digit 3 would send.

    Args:
        seed: of the federation, and of the search.
        num_images: of the victim, that it trains on.
        local_steps: of an honest client, which the images are dealt out to; 0: it sends the gradient of all of them.
        rounds_before: honest rounds that have passed.
        steps: of the search.

    Returns:
        One row: `error`, the median over the images of the mean squared difference of a pixel, in [-1, 1];
        `other_error`, that of an unseen image of the same digit; and `closer`, the median over the images of the share
        of all training images of the digit that resemble what was found more than the true image does (0: it is the
        image; about 0.5: it is any image of its digit). And pictures, the true ones before the found ones.
    """
    train, test = load_dataset()
    model, clients = build_federation(train, 3, num_rounds=200, seed=seed, device="cpu")
    honest = [Client(client.dataset) for client in clients]
    for _ in federate(model, honest, num_rounds=rounds_before, seed=seed) if rounds_before else ():
        pass
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        own = clients[0].dataset
        own = own.subset(torch.randperm(len(own))[:num_images])
        if local_steps:
            client = Client(own, local_steps=local_steps, batch_size=num_images // local_steps)
            client.fit(model, 1)
            seen = [-change for change in change_between(model, client.model)]
        else:
            seen = gradient_of(model, own.images, own.labels)
        found = invert_gradient(model, seen, own.labels, steps=steps, smoothness=0.001)
    others = torch.stack([test.images_of(train.classes[label])[0] for label in own.labels.tolist()])
    error, other = ((images - own.images).square().mean((1, 2, 3)).median().item() for images in (found, others))
    of_class = [train.images_of(train.classes[label]) for label in own.labels.tolist()]
    closer = np.median([_share_closer(*images) for images in zip(found, own.images, of_class, strict=True)])
    pictures = np.concatenate([to_uint8(own.images[:8]), to_uint8(found[:8])])
    row = {"round": rounds_before + 1, "error": error, "other_error": other, "closer": closer}
    return pd.DataFrame([row]), pictures


# What is inverted, by name.
UPDATES: dict[str, Job] = {
    "gradient of 1 image": partial(inversion_of_update, num_images=1),
    "the same, after 50 rounds": partial(inversion_of_update, num_images=1, rounds_before=50),
    "gradient of 8 images": partial(inversion_of_update, num_images=8),
    "gradient of 32 images": partial(inversion_of_update, num_images=32),
    "1 step of Adam on 1 image": partial(inversion_of_update, num_images=1, local_steps=1),
    "8 steps of Adam on 8 images": partial(inversion_of_update, num_images=8, local_steps=8),
    "an honest update: 8 steps on 256 images": partial(inversion_of_update, num_images=256, local_steps=8),
}


def compare_updates(
    *, seeds: tuple[int, ...] = (0, 1, 2), path: str | Path, num_workers: int | None = None
) -> pd.DataFrame:
    """Invert each of `UPDATES`; the rows go into a csv file, as `sweep` says, and the pictures of the first seed."""
    jobs = {(name, seed): partial(job, seed) for seed in seeds for name, job in UPDATES.items()}
    pictures = {name: (name, seeds[0]) for name in UPDATES}
    return sweep(jobs, ("update", "seed"), path, num_workers=num_workers, pictures=pictures)


def _share_closer(found: Tensor, true: Tensor, others: Tensor) -> float:
    """Of the others, the share that correlates more with what was found than the true image does."""
    found, true, others = (_centred(images.reshape(-1, found.numel())) for images in (found, true, others))
    return (others @ found[0] > (true @ found[0]) + 1e-4).float().mean().item()


def _centred(images: Tensor) -> Tensor:
    return F.normalize(images - images.mean(1, keepdim=True), dim=1)


def _flat(tensors: list[Tensor] | tuple[Tensor, ...]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def _total_variation(images: Tensor) -> Tensor:
    return images.diff(dim=2).abs().mean() + images.diff(dim=3).abs().mean()
