"""The run configuration of the attack on Flower, checked; its defaults are in `pyproject.toml`. Needs no Flower."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fl_gan_lib.arguments import check_side, real_number, truth, whole_number
from fl_gan_lib.classes import check_class_names, find_class
from fl_gan_lib.datasets import describe_dataset
from fl_gan_lib.models import Classifier
from fl_gan_lib.recording.recorder import snapshot_rounds
from fl_gan_lib.records import record_path, rounds_reached

SINGLING_OUT = ("FedMedian", "FedTrimmedAvg", "Krum", "MultiKrum")
RULES = ("fedavg", *SINGLING_OUT, "central DP")


@dataclass(frozen=True)
class RunConfig:
    """The run configuration, checked.

    Attributes:
        target: the number of the class that the attacker lacks and wants.
        dataset: the public data set of which each node takes its share, unless it has images of its own; none if empty.
        classes: the names of all classes, on which the nodes have agreed; those of `dataset` come first.
        side: of the images, in pixels.
        rounds: of federated averaging.
        num_honest: honest participants; the federation has one node more.
        attacker: the partition of the node that attacks; -1 is the last one.
        per_round: how many nodes the server draws for a round; 0 is all of them.
        local_steps: of each participant in each round.
        generator_steps: of the attacker's generator in each round.
        inject: whether the attacker injects its fakes.
        rule: how the server makes one model of the updates: "fedavg", our own, or one of Flower's, see `rules`.
        secure: whether the updates are added up by secure aggregation (`secure`).
        local_epsilon: with which each participant protects each of its updates, by Flower's local DP; 0 is without.
        seed: of the split, the weights and every round.
        frames: how many rounds the record keeps at the most (`recording.recorder.snapshot_rounds`); the last one it
            keeps in any case.
        output: the folder, on the server's computer, that the record goes to; none if it is empty.
        wait: how many seconds the server waits for nodes to connect, and for the replies of a round.
    """

    target: int
    dataset: str
    classes: tuple[str, ...]
    side: int
    rounds: int
    num_honest: int
    attacker: int
    per_round: int
    local_steps: int
    generator_steps: int
    inject: bool
    rule: str
    secure: bool
    local_epsilon: float
    seed: int
    frames: int
    output: str
    wait: float

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> RunConfig:
        """Raises a ValueError that says which setting is wrong, and how."""
        num_honest = whole_number("num-honest", config["num-honest"], 1)
        if not isinstance(output := config["output"], str):
            raise ValueError(f"output is {output!r:.80}: it must be the name of a folder, or empty")
        classes, side = _agreed(config)
        secure = truth("secure", config["secure"])
        per_round = whole_number("per-round", config["per-round"], 0, num_honest + 1, why="(nodes; 0: all of them)")
        return cls(
            target=find_class(config["target"], classes),
            dataset=config["dataset"],
            classes=classes,
            side=side,
            rounds=whole_number("rounds", config["rounds"], 1),
            num_honest=num_honest,
            attacker=whole_number(
                "attacker", config["attacker"], -1, num_honest, why="(a partition; -1: the last one)"
            ),
            per_round=per_round,
            local_steps=whole_number("local-steps", config["local-steps"], 1),
            generator_steps=whole_number("generator-steps", config["generator-steps"], 1),
            inject=truth("inject", config["inject"]),
            rule=_check_rule(config["rule"], secure, per_round or num_honest + 1),
            secure=secure,
            local_epsilon=real_number("local-epsilon", config["local-epsilon"], least=0),
            seed=whole_number("seed", config["seed"], 0, 2**63 - 1),
            frames=whole_number("frames", config["frames"], 0),
            output=output,
            wait=real_number("wait", config["wait"], above=0),
        )

    @property
    def target_name(self) -> str:
        return self.classes[self.target]

    @property
    def num_nodes(self) -> int:
        return self.num_honest + 1

    @property
    def recorded(self) -> list[int]:
        """Which rounds are recorded."""
        return snapshot_rounds(self.rounds, self.frames)

    @property
    def path(self) -> Path | None:
        """Where the record goes, on the server's computer."""
        return record_path(self.output, self.target_name) if self.output else None

    def check_path(self) -> None:
        """Raises a ValueError if a record is there that reaches further than this run will."""
        if self.path and (reached := rounds_reached(self.path)) > self.rounds:
            raise ValueError(
                f"rounds is {self.rounds}, and the record in {self.path} reaches round {reached}: give another output, "
                "or delete it"
            )

    def turn(self, partition: Any) -> int:
        """Which client of `build_federation` a node is: the attacker comes last there."""
        if not isinstance(partition, int) or not 0 <= partition < self.num_nodes:
            raise ValueError(
                f"partition-id is {partition}: in a federation of {self.num_nodes} nodes it must be from 0 to "
                f"{self.num_nodes - 1}; start each SuperNode with its own --node-config 'partition-id=...'"
            )
        attacker = self.attacker % self.num_nodes
        if partition == attacker:
            return self.num_honest
        return partition - (partition > attacker)

    def first_model(self) -> nn.Module:
        """The global model before the first round, the same as in `attack.build_federation`; it needs no images."""
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return self.make_model()

    def make_model(self) -> nn.Module:
        """A model of the federation's architecture."""
        return Classifier(len(self.classes) + 1, side=self.side)

    def as_config(self) -> dict[str, Any]:
        """What `read` makes this of."""
        return asdict(self) | {"target": self.target_name, "classes": ",".join(self.classes)}

    def describe(self) -> dict[str, Any]:
        """What a record, or what a node keeps, is known by: all but the folder and the patience."""
        config = asdict(self) | {"classes": list(self.classes), "dataset": self.dataset or "own images"}
        del config["output"], config["wait"]
        return config


def _agreed(config: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """The names of the classes, and the side of the images."""
    dataset, names, side = config["dataset"], config["classes"], whole_number("side", config["side"], 0)
    if not isinstance(names, str):
        raise ValueError(f"classes is {names!r:.80}: give names with commas between them, or '' for those of dataset")
    classes = check_class_names([name.strip() for name in names.split(",")]) if names else ()
    if dataset == "":
        if len(classes) < 2 or not side:
            raise ValueError(
                "dataset is empty, so the images are the nodes' own: then say which classes there are (classes='house,"
                "ring') and the side of the images in pixels (side=28)"
            )
        return classes, check_side(side)
    known, known_side = describe_dataset(dataset)
    if classes[: len(known)] not in ((), known):
        raise ValueError(
            f"classes is {names!r:.80}: it must begin with those of {dataset}, {','.join(known)}; or give dataset=''"
        )
    if side not in (0, known_side):
        raise ValueError(f"side is {side}, and the images of {dataset} have {known_side}: leave it out, or dataset=''")
    return classes or known, known_side


def _check_rule(rule: Any, secure: bool, num_updates: int) -> str:
    if secure and num_updates < 2:
        raise ValueError("per-round is 1: secure aggregation hides an update among others, so give at least 2")
    if rule in SINGLING_OUT and num_updates < 3:
        raise ValueError(f"rule is {rule!r}, and {num_updates} nodes take part in a round: it needs at least 3")
    if rule not in RULES:
        raise ValueError(f"rule is {rule!r:.80}: it must be one of {', '.join(RULES)}")
    if secure and rule != "fedavg":
        raise ValueError(f"rule is {rule!r}, which needs single updates, and secure aggregation hides them: use fedavg")
    return rule
