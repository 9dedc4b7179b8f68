"""Flower's secure aggregation, SecAgg+, around the same clients: the server learns the sum of their weights alone.

Flower has it for its older messages, which have no names for weights and another place for everything. The two mods
and the strategy below translate; the protocol (keys, masks, shares, quantisation; Bell et al. 2020, Li et al. 2021) is
Flower's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.common import FitIns
from flwr.server import LegacyContext
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from torch import Tensor, nn

from fl_gan_lib.federation import Update
from fl_gan_lib.flower.settings import RunConfig
from fl_gan_lib.recording.faults import check_update

CONFIGS = "secaggplus_configs"  # Flower's name of the record that marks its messages
MOST_EXAMPLES = 10_000.0  # of a participant: weights are scaled by their share of it
CLIPPING_RANGE = 2.0  # of a weight after that; what is further from 0 is cut off


@dataclass(frozen=True)
class Beside:
    """What a node has sent beside its masked weights: its Flower number, and a content as in a reply to "train"."""

    node: int
    content: RecordDict


Handle = Callable[[Message, Context], Message]
Send = Callable[[list[Message]], Iterable[Message]]


def secured(message: Message, context: Context, handle: Handle) -> Message:
    """A mod: Flower's, where the message is one of SecAgg+'s."""
    if CONFIGS not in message.content:
        return handle(message, context)
    return secaggplus_mod(message, context, handle)


def translated(message: Message, context: Context, handle: Handle) -> Message:
    """A mod, within the other one: an older message of Flower's for a handler of newer ones."""
    if "fitins.parameters" not in message.content:
        return handle(message, context)
    names = RunConfig.read(context.run_config).first_model().state_dict()
    arrays = message.content["fitins.parameters"].values()
    message.content = RecordDict(
        {
            "arrays": ArrayRecord(dict(zip(names, arrays, strict=True))),
            "config": message.content["fitins.config"],
        }
    )
    reply = handle(message, context)
    if (number := reply.content["metrics"]["num-examples"]) > MOST_EXAMPLES:
        raise ValueError(
            f"this node has {number} examples, and secure aggregation is set up for {MOST_EXAMPLES:.0f} at the most: "
            "its weights would be cut off"
        )
    # All else goes through as it is: SecAgg+ hides the weights, and nothing beside them.
    beside = dict(reply.content["metrics"]) | dict(reply.content.get("fakes", {}))
    reply.content = RecordDict(
        {
            "fitres.parameters": reply.content["arrays"],
            "fitres.num_examples": MetricRecord({"num_examples": beside.pop("num-examples")}),
            "fitres.metrics": ConfigRecord(beside),
            "fitres.status": ConfigRecord({"code": 0, "message": ""}),
        }
    )
    return reply


def average_securely(
    send: Send, context: Context, model: nn.Module, wishes: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[str, Tensor] | None, list[Beside], list[str]]:
    """A round of federated averaging in which the server sees no single update.

    Args:
        send: sends messages, and returns the replies.
        context: of the ServerApp.
        model: the global model; it stays as it is.
        wishes: what goes to each node with the model, the number of the round among it; at least 2 nodes.

    Returns:
        The averaged state, weighted by the number of examples, or None if the protocol has halted; what the nodes have
        sent beside their weights; and what went wrong.
    """
    before = model.state_dict()
    faults: list[str] = []
    beside: list[Beside] = []

    def send_and_receive(messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        messages = list(messages)
        replies = list(send(messages))
        for reply in replies:
            node = reply.metadata.src_node_id
            if reply.has_error():
                faults.append(f"node {node}: {reply.error.reason}")
            elif "fitres.metrics" in reply.content:
                beside.append(Beside(node, _as_reply(reply.content)))
        if missing := len(messages) - len(replies):
            faults.append(f"{missing} of {len(messages)} nodes have not answered in time")
        return replies

    legacy = LegacyContext(context, strategy=_AllOf(wishes))
    (number,) = {wish["round"] for wish in wishes.values()}
    legacy.state.config_records["config"] = ConfigRecord({"current_round": number})
    sent = ArrayRecord([tensor.numpy() for tensor in before.values()])
    legacy.state.array_records["parameters"] = sent
    workflow = SecAggPlusWorkflow(
        num_shares=1.0, reconstruction_threshold=0.5, max_weight=MOST_EXAMPLES, clipping_range=CLIPPING_RANGE
    )
    try:
        workflow(SimpleNamespace(send_and_receive=send_and_receive), legacy)
        averaged = legacy.state.array_records["parameters"]
        if averaged is sent:
            raise ValueError("too few nodes are left")
        arrays = zip(before.items(), averaged.to_numpy_ndarrays(), strict=True)
        state = {name: torch.from_numpy(array).to(old.dtype) for (name, old), array in arrays}
        check_update(Update(state, 1), before)
    except Exception as error:  # of Flower's protocol, which takes what the nodes send as it comes
        reason = str(error) if isinstance(error, ValueError) else repr(error)
        return None, beside, [*faults, f"secure aggregation has halted: {reason}"]
    return state, beside, faults


def _as_reply(content: RecordDict) -> RecordDict:
    """What a node has sent beside its masked weights, as in a reply to "train"."""
    sent = dict(content["fitres.metrics"])
    fakes = {name: sent.pop(name) for name in ("shown", "judged") if name in sent}
    reply = RecordDict({"metrics": MetricRecord(sent | dict(content["fitres.num_examples"]))})
    if fakes:
        reply["fakes"] = ConfigRecord(fakes)
    return reply


class _AllOf(FedAvg):
    """For SecAgg+, which asks a strategy whom to send to, and what to make of the sum."""

    def __init__(self, wishes: Mapping[int, Mapping[str, Any]]) -> None:
        super().__init__()
        self.wishes = wishes

    def configure_fit(self, server_round, parameters, client_manager):
        return [(SimpleNamespace(node_id=node), FitIns(parameters, dict(wish))) for node, wish in self.wishes.items()]

    def aggregate_fit(self, server_round, results, failures):
        (_, averaged), *_ = results
        return averaged.parameters, {}
