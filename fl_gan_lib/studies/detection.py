"""What a server sees of each update, and attackers that know what it looks at (notebook 06)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from sklearn.metrics import recall_score
from torch import Tensor, nn

from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.data import ImageDataset
from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.defences import ClipAndNoise
from fl_gan_lib.federation import Update, fedavg
from fl_gan_lib.models import Classifier
from fl_gan_lib.studies.adapted import BlendingAttacker, PatientAttacker
from fl_gan_lib.studies.jobs import NO_PICTURES, TEN_PARTICIPANTS, attack_job
from fl_gan_lib.studies.sweep import Job, Result
from fl_gan_lib.studies.variants import HedgingAttacker

# How suspicious more of it is: 1, or -1 where less is suspicious.
SIGNALS = {"norm": 1, "cosine": -1, "fake_bias": 1, "fake_row": 1, "largest_row": 1, "worst_digit": -1}


class BlendingHedgingAttacker(BlendingAttacker, HedgingAttacker):
    """An attacker that keeps near honest updates, and calls half of its fakes the target. Arguments: those of both."""


def inspected_attack(target: int, seed: int, *, rounds: int, **options: Any) -> Result:
    """The attack, and what the server sees of each update: a row for each client and round.

    The server holds twenty labelled images of each class, which nobody trained on.

    `probe` is what the attacker has drawn by then, in the recorded rounds. The columns that end in `_run` are those of
    the whole run after its last round, in the rows of that round.
    """
    test = load_dataset()[1]
    few = test.subset(torch.cat([torch.where(test.labels == label)[0][:20] for label in range(len(test.classes))]))
    seen: list[pd.DataFrame] = []

    def inspect(updates: list[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        seen.append(describe_updates(updates, state, few).assign(round=len(seen) + 1))
        return fedavg(updates)

    metrics, _ = attack_job(target, seed, rounds=rounds, aggregate=inspect, **options)
    of_run = metrics.drop(columns=["seconds", "copy_ratio"]).tail(1).add_suffix("_run")
    of_run = of_run.rename(columns={"round_run": "round"})
    rows = pd.concat(seen).merge(metrics[["round", "probe"]], how="left").merge(of_run, how="left")
    return rows, NO_PICTURES


def remembered(seen: pd.DataFrame, signal: str, *, window: int | None = None) -> pd.DataFrame:
    """What a server that remembers makes of a signal: how far each client stands out, so far.

    A client's score is its mean of the signal over the rounds so far: how many standard deviations of the other
    clients' means it lies above their mean.

    Args:
        seen: what `inspected_attack` returns, of one run.
        signal: of `SIGNALS`.
        window: of how many rounds the mean is; by default of all so far.

    Returns:
        A row for each round, a column for each client; more is more suspicious.
    """
    by_client = SIGNALS[signal] * seen.pivot(index="round", columns="client", values=signal)
    means = (by_client.expanding() if window is None else by_client.rolling(window, min_periods=1)).mean()
    others = {client: means.drop(columns=client) for client in means}
    apart = {client: means[client] - rest.mean(axis=1) for client, rest in others.items()}
    return pd.DataFrame({client: apart[client] / (rest.std(axis=1) + 1e-6) for client, rest in others.items()})


def round_found(scores: pd.DataFrame, client: int, threshold: float) -> float:
    """The first round in which the client's score is above the threshold; infinite if it never is."""
    above = scores.index[scores[client] > threshold]
    return math.inf if above.empty else above[0]


def describe_updates(updates: Sequence[Update], state: Mapping[str, Tensor], test: ImageDataset) -> pd.DataFrame:
    """What a server can see of the updates of one round, a row for each client.

    Args:
        updates: of the clients, of a federation whose model is a `Classifier`.
        state: of the global model that they received.
        test: images that the server holds.

    Returns:
        `client`: its place.
        `norm`: of its change.
        `cosine`: between its change and the mean change of the others.
        `fake_bias`: how much it raised the bias of the extra output.
        `fake_row`: how far it moved the row of the extra output in the last layer, over the median of the rows.
        `largest_row`: the same for the row that moved farthest.
        `worst_digit`: the accuracy of its model on the class that it classifies worst, from 0 to 1.
    """
    weight, bias = list(state)[-2:]
    fake = len(test.classes)
    changes = [{name: update.state[name] - state[name] for name in state} for update in updates]
    flat = torch.stack([torch.cat([tensor.flatten() for tensor in change.values()]) for change in changes])
    others = (flat.sum(0) - flat) / (len(flat) - 1)
    rows = torch.stack([change[weight] for change in changes]).norm(dim=2)
    return pd.DataFrame(
        {
            "client": range(len(updates)),
            "norm": flat.norm(dim=1),
            "cosine": nn.functional.cosine_similarity(flat, others),
            "fake_bias": [change[bias][fake].item() for change in changes],
            "fake_row": rows[:, fake] / rows.median(1).values,
            "largest_row": rows.max(1).values / rows.median(1).values,
            "worst_digit": [_worst_digit(update.state, test) for update in updates],
        }
    )


@torch.no_grad()
def _worst_digit(state: Mapping[str, Tensor], test: ImageDataset) -> float:
    model = Classifier(len(test.classes) + 1, side=test.side).eval()
    model.load_state_dict(state)
    predicted = torch.cat([model(images).argmax(1) for images in test.images.split(500)])
    return float(
        recall_score(test.labels, predicted, labels=range(len(test.classes)), average=None, zero_division=0).min()
    )


# Attackers that know what the server looks at, against nine honest clients, three of which lack the target as well.
_INSPECTED = partial(inspected_attack, **TEN_PARTICIPANTS)

ATTACKERS: dict[str, Job] = {
    "as it is": _INSPECTED,
    "calls its fakes a 0": partial(_INSPECTED, make_attacker=partial(GANAttacker, fake_label=0)),
    "calls half of them the target": partial(_INSPECTED, make_attacker=HedgingAttacker),
    "small updates": partial(_INSPECTED, make_attacker=partial(GANAttacker, protect=ClipAndNoise(0.5, 0))),
    "all of this at once": partial(
        _INSPECTED, make_attacker=partial(HedgingAttacker, fake_label=0, protect=ClipAndNoise(0.5, 0))
    ),
    # Against a server that remembers.
    "nobody injects": partial(_INSPECTED, inject=False),
    "waits for 20 rounds": partial(_INSPECTED, make_attacker=partial(PatientAttacker, first_round=21)),
    "every third round": partial(_INSPECTED, make_attacker=partial(PatientAttacker, every=3)),
    "blends in": partial(_INSPECTED, make_attacker=partial(BlendingAttacker, width=4)),
    "blends in more": partial(_INSPECTED, make_attacker=partial(BlendingAttacker, width=2)),
    "blends in closely": partial(_INSPECTED, make_attacker=partial(BlendingAttacker, width=1)),
    "blends in, with other labels": partial(
        _INSPECTED, make_attacker=partial(BlendingHedgingAttacker, width=2, fake_label=0)
    ),
}
