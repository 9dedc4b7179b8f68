"""Flower's own server rules, for `federate(aggregate=...)` and on Flower. Nothing of them is written anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

from flwr.app import ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy import (
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
    MultiKrum,
    Strategy,
)
from torch import Tensor

from fl_gan_lib.federation import Aggregate, Update, fedavg

NUM_MALICIOUS = 1  # of whom Krum and MultiKrum know; the trimmed mean cuts off a fifth at either end
CLIPPING_NORM, NOISE_MULTIPLIER = 0.5, 1.0  # of the central DP, as in notebook 06


def make_rule(name: str, num_updates: int) -> Aggregate:
    """The rule of that name (`settings.RULES`), for so many updates: "fedavg" is ours, the others are Flower's."""
    if name == "fedavg":
        return lambda updates, _: fedavg(updates)
    if name == "central DP":
        return _central_privacy
    num_cut = min(max(1, num_updates // 5), (num_updates - 1) // 2)
    strategy: Strategy = {
        "FedMedian": FedMedian,
        # It cuts off int(beta * number): a quarter more keeps the product from falling below a whole number.
        "FedTrimmedAvg": lambda: FedTrimmedAvg(beta=(num_cut + 0.25) / num_updates),
        "Krum": lambda: Krum(num_malicious_nodes=NUM_MALICIOUS),
        "MultiKrum": lambda: MultiKrum(
            num_malicious_nodes=NUM_MALICIOUS, num_nodes_to_select=max(1, num_updates - NUM_MALICIOUS)
        ),
    }[name]()
    return lambda updates, state: _as_state(strategy.aggregate_train(1, _replies(updates)), state)


def _central_privacy(updates: Sequence[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Clips each change and adds noise to their mean. Each counts the same, as the noise is for a plain mean."""
    rule = DifferentialPrivacyServerSideFixedClipping(FedAvg(), NOISE_MULTIPLIER, CLIPPING_NORM, len(updates))
    rule.current_arrays = ArrayRecord(dict(state))
    return _as_state(rule.aggregate_train(1, _replies([Update(update.state, 1) for update in updates])), state)


def _replies(updates: Sequence[Update]) -> list[SimpleNamespace]:
    """What Flower's rules look at in a node's reply."""
    return [
        SimpleNamespace(
            has_error=lambda: False,
            content=RecordDict(
                {
                    "arrays": ArrayRecord(dict(update.state)),
                    "metrics": MetricRecord({"num-examples": update.num_examples}),
                }
            ),
        )
        for update in updates
    ]


def _as_state(result: tuple[ArrayRecord | None, object], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Flower's result in the types of the model.

    Raises:
        RuntimeError: the rule has made no model of the updates.
    """
    arrays, _ = result
    if arrays is None:
        raise RuntimeError("Flower's rule has made no model of these updates: it needs more of them")
    return {name: tensor.to(state[name].dtype) for name, tensor in arrays.to_torch_state_dict().items()}
