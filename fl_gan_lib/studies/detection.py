"""What a server sees of each update, and attackers that know what it looks at (notebook 06)."""

from __future__ import annotations

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
from fl_gan_lib.studies.jobs import NO_PICTURES, TEN_PARTICIPANTS, attack_job
from fl_gan_lib.studies.sweep import Job, Result
from fl_gan_lib.studies.variants import HedgingAttacker

INSPECT_EVERY = 5


def inspected_attack(target: int, seed: int, *, rounds: int, **options: Any) -> Result:
    """The attack, and what the server sees of each update: a row for each client in every fifth round.

    The columns that end in `_run` are those of the whole run after its last round.
    """
    test = load_dataset()[1]
    seen: list[pd.DataFrame] = []
    number = 0

    def inspect(updates: list[Update], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        nonlocal number
        number += 1
        if number % INSPECT_EVERY == 0 or number == rounds:
            seen.append(describe_updates(updates, state, test).assign(round=number))
        return fedavg(updates)

    metrics, _ = attack_job(target, seed, rounds=rounds, num_frames=1, aggregate=inspect, **options)
    last = metrics.iloc[-1]
    rows = pd.concat(seen)
    kept = last.drop(["round", "seconds", "target_accuracy", "copy_ratio"])
    return rows.assign(**kept.add_suffix("_run")), NO_PICTURES


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
}
