"""What does not fit is named before it costs a run: images, labels, models, clients, what an aggregation returns."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.arguments import SIDES

if TYPE_CHECKING:
    from fl_gan_lib.data import ImageDataset
    from fl_gan_lib.federation import Client
    from fl_gan_lib.models import AveragedGenerator


def check_images(images: Tensor) -> None:
    """Raise a ValueError that says how to convert them, unless these can be the images of a data set."""
    if not isinstance(images, Tensor):
        raise ValueError(
            f"images is of type {type(images).__name__}: give a tensor; from_uint8(array) makes one of grey values"
        )
    if images.dtype != torch.float32:
        raise ValueError(
            f"images are {images.dtype}: they must be float32 in [-1, 1]. Of grey values from 0 to 255, (N, S, S), "
            "from_uint8(images) makes them; for other floats, images.float()"
        )
    if images.dim() != 4 or images.shape[1] != 1 or images.shape[2] != images.shape[3] or images.shape[2] not in SIDES:
        raise ValueError(
            f"images are of shape {tuple(images.shape)}: it must be (N, 1, S, S), one grey channel and a side S that "
            "is a multiple of 4 from 16 to 64. For (N, S, S), images.unsqueeze(1); for colours, "
            "images.mean(1, keepdim=True); for another size, torch.nn.functional.interpolate(images, (S, S))"
        )
    if not len(images):
        return
    low, high = images.min().item(), images.max().item()
    if not (low >= -1 and high <= 1):
        raise ValueError(
            f"images have values from {low:g} to {high:g}: they must be in [-1, 1]. From [0, 255], "
            "images / 127.5 - 1; from [0, 1], images * 2 - 1; if they were normalised otherwise, undo that first"
        )
    if low >= 0 and high > 0:
        warnings.warn(
            "no pixel is below 0: are these images in [0, 1], as ToTensor makes them? They must be in [-1, 1], with "
            "black at -1: images * 2 - 1",
            stacklevel=4,
        )


def check_labels(labels: Tensor, images: Tensor) -> None:
    """Raise a ValueError that says how to convert them, unless these can be the labels of `images`."""
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.dim() != 1:
        what = f"{labels.dtype} of shape {tuple(labels.shape)}" if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"labels are {what}: they must be a tensor of int64 and shape (N,): torch.as_tensor(labels).long(); for "
            "one-hot labels, labels.argmax(1)"
        )
    if len(labels) != len(images):
        raise ValueError(f"there are {len(images)} images and {len(labels)} labels: each image needs a label")
    if labels.device != images.device:
        raise ValueError(f"images are on {images.device} and labels on {labels.device}: move both to one device")
    if len(labels) and int(labels.min()) < 0:
        raise ValueError(f"there is a label {int(labels.min())}: labels are numbers of classes, from 0")


def find_places(indices: np.ndarray | Tensor | Sequence[int], labels: Tensor) -> Tensor:
    """The places that indices or a mask stand for; `labels` are those of all images (see `ImageDataset.subset`)."""
    try:
        places = torch.as_tensor(np.asarray(indices) if not isinstance(indices, Tensor) else indices)
    except (TypeError, ValueError) as error:
        raise ValueError(f"indices are {indices!r:.80}: give whole numbers of shape (n,), or a mask") from error
    places = places.to(labels.device)
    if places.numel() == 0 and places.dtype != torch.bool:
        places = places.long()  # an empty list is one of floats
    # Bytes were masks once: as indices they would be the first two images, again and again.
    if places.dim() != 1 or places.is_floating_point() or places.is_complex() or places.dtype == torch.uint8:
        raise ValueError(
            f"indices are {places.dtype} of shape {tuple(places.shape)}: give whole numbers of shape (n,), or a mask"
        )
    if places.dtype == torch.bool:
        if len(places) != len(labels):
            raise ValueError(f"the mask is for {len(places)} images, and there are {len(labels)}: give one for each")
        return torch.nonzero(places).squeeze(1)
    places = places.long()
    if len(places) and not (int(places.min()) >= 0 and int(places.max()) < len(labels)):
        raise ValueError(
            f"indices are from {int(places.min())} to {int(places.max())}: they must be from 0 to {len(labels) - 1}, "
            f"as there are {len(labels)} images"
        )
    return places


def as_list(clients: Any) -> list[Client]:
    """The clients in a list; raises a ValueError if it is none, for instance a single client."""
    try:
        return list(clients)
    except TypeError:
        raise ValueError(f"clients is of type {type(clients).__name__}: give a list of clients") from None


def check_clients(model: nn.Module, clients: Sequence[Client], rounds_done: int = 0) -> None:
    """Raise a ValueError that says which client cannot take part, and why; `model` stays as it is."""
    check_model(model)
    for number, client in enumerate(clients):
        if isinstance(client, type) or not callable(getattr(client, "fit", None)):
            what = f"the class {client.__name__}" if isinstance(client, type) else f"of type {type(client).__name__}"
            raise ValueError(f"client {number} is {what}: make a Client, or something else with a method `fit`")
    if len(set(map(id, clients))) < len(clients):
        raise ValueError("a client is there twice: make each one anew, as each has a model and an optimiser of its own")
    for number, client in enumerate(clients):
        if rounds_done == 0 and getattr(client, "model", None) is not None:
            raise ValueError(
                f"client {number} has trained in another federation, and remembers its optimiser: make new clients, or "
                "go on with that federation (rounds_done says how many rounds it has had)"
            )
        try:
            if hasattr(client, "check_model"):
                client.check_model(model)
        except ValueError as error:
            raise ValueError(f"client {number} cannot take part: {error}") from error


def check_model(model: Any) -> None:
    """Raise a ValueError unless it is a model of torch."""
    if not isinstance(model, nn.Module):
        what = (
            f"the class {model.__name__}: make one of it"
            if isinstance(model, type)
            else f"of type {type(model).__name__}"
        )
        raise ValueError(f"the model is {what}; it must be a torch.nn.Module")


@torch.no_grad()
def count_outputs(model: nn.Module, dataset: ImageDataset, batch_size: int) -> int:
    """How many outputs `model` has for the images of `dataset`; raises a ValueError if it cannot take them."""
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    images = dataset.images[: min(2, batch_size)].to(device)
    probe = copy.deepcopy(model).train()  # as it will be trained: batch norm refuses a single image
    try:
        with torch.random.fork_rng():
            logits = probe(images)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"the model cannot take images of shape {tuple(images.shape)} ({error})") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"the model makes {shape} of {len(images)} images: it must return logits, (N, number of outputs)"
        )
    return logits.shape[1]


def check_generator(generator: AveragedGenerator, side: int) -> None:
    """Raise a ValueError unless it draws images of that side, (N, 1, side, side) in [-1, 1]."""
    try:
        with torch.random.fork_rng():
            fakes = copy.deepcopy(generator).draw(2)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise ValueError(f"the generator cannot take latent vectors of shape (N, 100) ({error})") from error
    if fakes.shape[1:] != (1, side, side) or not fakes.abs().max() <= 1:
        raise ValueError(
            f"the generator draws images of shape {tuple(fakes.shape[1:])} with values from {fakes.min():g} to "
            f"{fakes.max():g}: they must be of shape {(1, side, side)}, with values in [-1, 1] (end it with tanh)"
        )


def check_outputs(num_outputs: int, labels: Tensor, name: str) -> None:
    """Raise a ValueError unless the model has an output for each of the labels."""
    largest = int(labels.max())
    if largest >= num_outputs:
        raise ValueError(
            f"there is the {name} {largest}, and the model has {num_outputs} outputs, 0 to {num_outputs - 1}: give it "
            f"{largest + 1}"
        )


def check_state(state: Any, old: Mapping[str, Tensor], round: int) -> Mapping[str, Tensor]:
    """What `aggregate` has returned; raises a ValueError unless it can take the place of the `old` global state."""
    shapes, old_shapes = (
        {name: tensor.shape if isinstance(tensor, Tensor) else None for name, tensor in each.items()}
        if isinstance(each, Mapping)
        else {}
        for each in (state, old)
    )
    wrong = ""
    if not isinstance(state, Mapping) or None in shapes.values():
        wrong = f"is of type {type(state).__name__}, and must be a state: tensors by name"
    elif names := sorted(name for name in shapes | old_shapes if shapes.get(name) != old_shapes.get(name)):
        wrong = f"differs from the global model in the names or shapes of {names}"
    elif names := [name for name, tensor in state.items() if not tensor.isfinite().all()]:
        wrong = f"has NaN or infinity in {names}"
    if wrong:
        raise ValueError(f"round {round}: what aggregate returned {wrong}. The model is as after round {round - 1}")
    return state
