"""The runs that notebook 06 compares: the attack against each defence, and what a server sees of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from sklearn.metrics import recall_score
from torch import Tensor, nn

from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.data import ImageDataset, load_dataset
from fl_gan_lib.defences import (
    AugmentingClient,
    DropoutClient,
    Krum,
    Quantise,
    TrimmedMean,
    WithholdingClient,
    coordinate_median,
)
from fl_gan_lib.experiments import Result, Run, attack, sweep
from fl_gan_lib.federation import Client, Update, fedavg
from fl_gan_lib.models import FAKE_LABEL, Classifier
from fl_gan_lib.privacy import ClipAndNoise, PrivateClient, PrivateMean
from fl_gan_lib.variants import HedgingAttacker

INSPECT_EVERY = 5


def private_attack(target: int, seed: int, *, epsilon: float, rounds: int, **options: Any) -> Result:
    """The attack on a victim that spends a privacy budget of `epsilon` over all rounds."""
    victim = partial(PrivateClient, epsilon=epsilon, num_rounds=rounds)
    return attack(target, seed, rounds=rounds, make_honest=victim, **options)


def withheld_attack(target: int, seed: int, *, every: int | None, **options: Any) -> Result:
    """The attack on a victim that withholds its images of the target."""
    return attack(target, seed, make_honest=partial(WithholdingClient, digit=target, every=every), **options)


def inspected_attack(target: int, seed: int, *, rounds: int, **options: Any) -> Result:
    """The attack, and what the server sees of each update: a row for each client in every fifth round.

    The columns that end in `_run` are those of the whole run after its last round.
    """
    test = load_dataset()[1]
    seen: list[pd.DataFrame] = []
    number = 0

    def inspect(updates: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        nonlocal number
        number += 1
        updates = list(updates)
        if number % INSPECT_EVERY == 0 or number == rounds:
            seen.append(describe_updates(updates, state, test).assign(round=number))
        return fedavg(updates)

    metrics, pictures = attack(target, seed, rounds=rounds, num_frames=1, aggregate=inspect, **options)
    last = metrics.iloc[-1]
    rows = pd.concat(seen)
    names = ("accuracy", "recognition", "gap_closed", "diversity")
    return rows.assign(**{f"{name}_run": last[name] for name in names}), pictures


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
        `worst_digit`: the accuracy of its model on the digit that it reads worst, from 0 to 1.
    """
    weight, bias = list(state)[-2:]
    changes = [{name: update.state[name] - state[name] for name in state} for update in updates]
    flat = torch.stack([torch.cat([tensor.flatten() for tensor in change.values()]) for change in changes])
    others = (flat.sum(0) - flat) / (len(flat) - 1)
    rows = torch.stack([change[weight] for change in changes]).norm(dim=2)
    return pd.DataFrame(
        {
            "client": range(len(updates)),
            "norm": flat.norm(dim=1),
            "cosine": nn.functional.cosine_similarity(flat, others),
            "fake_bias": [change[bias][FAKE_LABEL].item() for change in changes],
            "fake_row": rows[:, FAKE_LABEL] / rows.median(1).values,
            "largest_row": rows.max(1).values / rows.median(1).values,
            "worst_digit": [_worst_digit(update.state, test) for update in updates],
        }
    )


@torch.no_grad()
def _worst_digit(state: Mapping[str, Tensor], test: ImageDataset) -> float:
    model = Classifier().eval()
    model.load_state_dict(state)
    read = torch.cat([model(images).argmax(1) for images in test.images.split(500)])
    return float(recall_score(test.labels, read, labels=range(10), average=None, zero_division=0).min())


_TEN = {"rounds": 60, "num_honest": 9, "num_without_target": 3}
_CROWDS = {1: {"rounds": 60}, 9: _TEN, 40: {"rounds": 60, "num_honest": 40}}
_NOISE = {"max_norm": 0.5, "noise_multiplier": 1.0}

# By name. Where they say nothing else: 100 rounds, one honest client.
DEFENCES: dict[str, Run] = {
    "none": attack,
    "DP-SGD, clipping alone": partial(private_attack, epsilon=math.inf),
    **{f"DP-SGD, epsilon {epsilon}": partial(private_attack, epsilon=epsilon) for epsilon in (50, 8, 3, 1)},
    "10 % of each update": partial(attack, client_options={"upload_fraction": 0.1}),
    "1 % of each update": partial(attack, client_options={"upload_fraction": 0.01}),
    "2 bits a number": partial(attack, client_options={"protect": Quantise(2)}),
    "20 rounds": partial(attack, rounds=20),
    "class in every 10th round": partial(withheld_attack, every=10),
    "class held back": partial(withheld_attack, every=None),
    "augmentation": partial(attack, make_honest=AugmentingClient),
    "dropout": partial(attack, make_honest=DropoutClient),
    "1 honest": partial(attack, **_CROWDS[1]),
    "9 honest": partial(attack, **_TEN),
    "9 honest, median": partial(attack, aggregate=coordinate_median(10), **_TEN),
    "9 honest, trimmed mean": partial(attack, aggregate=TrimmedMean(10, 2), **_TEN),
    "9 honest, Krum": partial(attack, aggregate=Krum(10, 1), **_TEN),
    **{
        f"{number} honest, noise at the server": partial(attack, aggregate=PrivateMean(**_NOISE), **options)
        for number, options in _CROWDS.items()
    },
    **{
        f"{number} honest, noise at the clients": partial(
            attack, make_honest=partial(Client, protect=ClipAndNoise(**_NOISE)), **options
        )
        for number, options in _CROWDS.items()
    },
    "40 honest": partial(attack, **_CROWDS[40]),
}

# Those whose records are kept, for the explorer: the rows of the README's table.
RECORDED = (
    "DP-SGD, epsilon 8",
    "1 % of each update",
    "2 bits a number",
    "20 rounds",
    "class in every 10th round",
    "class held back",
    "augmentation",
    "dropout",
    "9 honest",
    "9 honest, median",
    "9 honest, trimmed mean",
    "9 honest, Krum",
    "40 honest",
    "40 honest, noise at the server",
)

# Attackers that know what the server looks at, against nine honest clients, three of which lack the target as well.
_INSPECTED = partial(inspected_attack, **_TEN)
ATTACKERS: dict[str, Run] = {
    "as it is": _INSPECTED,
    "calls its fakes a 0": partial(_INSPECTED, make_attacker=partial(GANAttacker, fake_label=0)),
    "calls half of them the target": partial(_INSPECTED, make_attacker=HedgingAttacker),
    "small updates": partial(_INSPECTED, make_attacker=partial(GANAttacker, protect=ClipAndNoise(0.5, 0))),
    "all of this at once": partial(
        _INSPECTED, make_attacker=partial(HedgingAttacker, fake_label=0, protect=ClipAndNoise(0.5, 0))
    ),
}


def compare_defences(
    names: Sequence[str] = tuple(DEFENCES),
    *,
    digits: Sequence[int] = (3, 9),
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Run the attack against `DEFENCES`, a row of csv for each recorded round.

    Args:
        names: of `DEFENCES`.
        digits: that the attacker lacks.
        seeds: of the runs.
        rounds: of every run, for a quick look; by default what the defence says, or 100.
        path, num_workers: as for `sweep`. The pictures of the first digit and seed go into a file of the same name
            ending in `.npz`, and the records of `RECORDED` and seed 0 beside it.

    Raises:
        ValueError: a name is unknown.
    """
    jobs = {}
    for key, run, options in _runs(DEFENCES, names, digits, seeds, rounds):
        keep = key[0] in RECORDED and key[2] == 0
        recorded = {"folder": Path(path).parent, "kind": record_kind(key[0])} if keep else {}
        jobs[key] = partial(run, *key[1:], num_frames=12, **options, **recorded)
    pictures = {name: (name, digits[0], seeds[0]) for name in names}
    return sweep(jobs, ("defence", "digit", "seed"), path, num_workers=num_workers, pictures=pictures)


def record_kind(name: str) -> str:
    """How the record of a defence is called: a file's name that still reads as the defence's."""
    return name.replace("%", "percent").replace(",", "").replace(" ", "_")


def compare_attackers(
    names: Sequence[str] = tuple(ATTACKERS),
    *,
    digits: Sequence[int] = (3, 9),
    seeds: Sequence[int] = (0, 1, 2),
    rounds: int | None = None,
    path: str | Path,
    num_workers: int | None = None,
) -> pd.DataFrame:
    """Let `ATTACKERS` try to pass unseen, a row of csv for each inspected update. Arguments as `compare_defences`."""
    jobs = {
        key: partial(run, *key[1:], **options) for key, run, options in _runs(ATTACKERS, names, digits, seeds, rounds)
    }
    return sweep(jobs, ("attacker", "digit", "seed"), path, num_workers=num_workers)


def _runs(
    runs: Mapping[str, Run], names: Sequence[str], digits: Sequence[int], seeds: Sequence[int], rounds: int | None
) -> Iterator[tuple[tuple[str, int, int], Run, dict[str, Any]]]:
    """Key, run and number of rounds of all that is wanted, seed by seed."""
    unknown = sorted(set(names) - set(runs))
    if unknown:
        raise ValueError(f"unknown names {unknown}: choose from {list(runs)}")
    for seed, digit, name in product(seeds, digits, names):
        wanted = getattr(runs[name], "keywords", {}).get("rounds", 100) if rounds is None else rounds
        yield (name, digit, seed), runs[name], {"rounds": wanted}
