"""What clients remember between rounds, as bytes and back: for checkpoints, and for Flower's nodes. No pickle."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.federation import Client
from fl_gan_lib.recording import files


def dump(parts: Mapping[str, Any]) -> bytes:
    """The states of `parts` as the content of a file (`files.pack`); raises a ValueError if one has no `state_dict`."""
    arrays: dict[str, np.ndarray] = {}
    for name, part in parts.items():
        if not hasattr(part, "state_dict") or not hasattr(part, "load_state_dict"):
            raise ValueError(
                f"lasting_parts names {name}, of type {type(part).__name__}, which has no state_dict and no "
                "load_state_dict: give an object that has both, for instance a torch.nn.Module with a buffer"
            )

    def set_aside(tensor: Tensor) -> dict[str, Any]:
        name = str(len(arrays))
        arrays[name] = tensor.detach().cpu().numpy()
        # Another layout means the same numbers, and other last digits after a step of the optimiser.
        channels_last = tensor.dim() == 4 and not tensor.is_contiguous()
        return {"tensor": name, "channels_last": channels_last}

    states = json.dumps({name: part.state_dict() for name, part in parts.items()}, default=set_aside)
    return files.pack({"states": states}, arrays, compress=False)


def load_client(content: bytes, client: Client, global_model: nn.Module) -> None:
    """Put `client` into the state that `dump(client.lasting_parts())` has written.

    Args:
        content: what `dump` returned.
        client: as it was before its first round.
        global_model: of the federation's architecture; it stays as it is.

    Raises:
        ValueError, RuntimeError, KeyError, TypeError: the content is damaged, or is the state of another client.
    """
    states = _read(content)
    if "model" in states:
        client.receive(global_model)
    _restore(states, client.lasting_parts())


def load(content: bytes, parts: Mapping[str, Any]) -> None:
    """Put `parts` into the states that `dump` has written; errors as for `load_client`."""
    _restore(_read(content), parts)


def _read(content: bytes) -> dict[str, Any]:
    text, arrays = files.unpack(content)

    def put_back(entry: dict[str, Any]) -> Any:
        if "tensor" in entry:
            tensor = torch.from_numpy(arrays[entry["tensor"]])
            return tensor.contiguous(memory_format=torch.channels_last) if entry["channels_last"] else tensor
        if "param_groups" in entry:  # an optimiser's: JSON has made words of the numbers of the parameters
            entry["state"] = {int(number): moments for number, moments in entry["state"].items()}
        return entry

    return json.loads(text["states"], object_hook=put_back)


def _restore(states: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    if states.keys() != parts.keys():
        raise ValueError(f"it is the state of {sorted(states)}, and not of {sorted(parts)}")
    for name, part in parts.items():
        # Modules check by themselves; the others take over what they are given, and fail in the next round.
        if isinstance(part, torch.optim.Optimizer):
            expected = _after_a_step(part) if states[name]["state"] else part.state_dict()
            fits = _kinds(states[name]) == _kinds(expected)
        else:
            fits = isinstance(part, nn.Module) or _kinds(states[name], depth=1) == _kinds(part.state_dict(), depth=1)
        if not fits:
            raise ValueError(f"the state of {name} has other names, kinds or shapes than expected")
        part.load_state_dict(states[name])


def _after_a_step(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of a copy of `optimizer` that has taken a step, and so has all that it will ever remember."""
    stepped = copy.deepcopy(optimizer)
    for group in stepped.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    stepped.step()
    return stepped.state_dict()


def _kinds(value: Any, depth: int = 5) -> Any:
    """Names, types, and shapes, without the values; an optimiser's state is no deeper than that."""
    if isinstance(value, Tensor):
        return value.shape, value.dtype
    if isinstance(value, Mapping) and depth:
        return {name: _kinds(part, depth - 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_kinds(part, depth - 1) for part in value] if depth else list
    return type(value)
