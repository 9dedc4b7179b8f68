"""What clients remember between rounds, as bytes and back: for checkpoints, and for Flower's nodes. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fl_gan_lib.federation import Client
from fl_gan_lib.recording import files


def dump(parts: Mapping[str, Any]) -> bytes:
    """The states of `parts`, whatever has a `state_dict`, as the content of a file (`files.pack`)."""
    arrays: dict[str, np.ndarray] = {}

    def set_aside(tensor: Tensor) -> dict[str, Any]:
        name = str(len(arrays))
        arrays[name] = tensor.detach().cpu().numpy()
        # Another layout means the same numbers, and other last digits after a step of the optimiser.
        channels_last = tensor.dim() == 4 and not tensor.is_contiguous()
        return {"tensor": name, "channels_last": channels_last}

    states = json.dumps({name: part.state_dict() for name, part in parts.items()}, default=set_aside)
    return files.pack({"states": states}, arrays, compress=False)


def load_client(content: bytes, client: Client, global_model: nn.Module) -> None:
    """Put `client` into the state that `dump(client.lasting())` has written.

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
    _restore(states, client.lasting())


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
        if not isinstance(part, nn.Module):  # which checks by itself
            _check_kinds(states[name], part, name)
        part.load_state_dict(states[name])


def _check_kinds(state: Mapping[str, Any], part: Any, name: str) -> None:
    """What optimisers and the like take over unseen: the names, the kinds of values, the shapes of moments."""
    kinds, expected = ({key: type(value) for key, value in each.items()} for each in (state, part.state_dict()))
    if kinds != expected:
        raise ValueError(f"the state of {name} has other names or kinds of values than expected")
    if isinstance(part, torch.optim.Optimizer):
        parameters = [parameter for group in part.param_groups for parameter in group["params"]]
        for number, moments in state["state"].items():
            shapes = {moment.shape for moment in moments.values() if moment.dim()}
            if shapes - {parameters[number].shape}:
                raise ValueError(f"moments in the state of {name} have other shapes than its parameters")
