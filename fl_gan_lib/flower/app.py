"""The attack on Flower (https://flower.ai): the same clients, each on a node of its own.

Flower makes its apps anew for each message. What must last (local model, optimisers, generator, the record so far)
goes into `context.state`, which each node keeps for itself. Random numbers need no keeping: as in `federate`, those of
a turn come from the seed, the round and the client alone.

The run configuration, with its defaults, is in `pyproject.toml` under `[tool.flwr.app.config]`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import wraps
from logging import INFO, WARNING
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from torch import nn

from fl_gan_lib.arguments import real_number, truth, whole_number
from fl_gan_lib.attack import GANAttacker, build_federation
from fl_gan_lib.datasets import check_target, describe_dataset, load_dataset
from fl_gan_lib.federation import Client, Update, fedavg
from fl_gan_lib.metrics import accuracies, accuracy
from fl_gan_lib.models import Classifier
from fl_gan_lib.recording import states
from fl_gan_lib.recording.faults import check_update
from fl_gan_lib.recording.recorder import Recorder, snapshot_rounds
from fl_gan_lib.records import AttackRecord, record_path, rounds_reached
from fl_gan_lib.seeding import seeded

server = ServerApp()
client = ClientApp()


@dataclass(frozen=True)
class RunConfig:
    """The run configuration, checked.

    Attributes:
        target: the number of the class that the attacker lacks and wants.
        dataset: its name, see `load_dataset`.
        rounds: of federated averaging.
        num_honest: honest participants; the federation has one node more.
        attacker: the partition of the node that attacks; -1 is the last one.
        local_steps: of each participant in each round.
        inject: whether the attacker injects its fakes.
        seed: of the split, the weights and every round.
        frames: how many rounds the record keeps at the most (`recording.recorder.snapshot_rounds`); the last one it
            keeps in any case.
        output: the folder, on the attacker's node, that its record goes to; none if it is empty.
        wait: how many seconds the server waits for nodes to connect, and for the replies of a round.
    """

    target: int
    dataset: str
    rounds: int
    num_honest: int
    attacker: int
    local_steps: int
    inject: bool
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
        return cls(
            target=check_target(config["target"], config["dataset"]),
            dataset=config["dataset"],
            rounds=whole_number("rounds", config["rounds"], 1),
            num_honest=num_honest,
            attacker=whole_number(
                "attacker", config["attacker"], -1, num_honest, why="(a partition; -1: the last one)"
            ),
            local_steps=whole_number("local-steps", config["local-steps"], 1),
            inject=truth("inject", config["inject"]),
            seed=whole_number("seed", config["seed"], 0, 2**63 - 1),
            frames=whole_number("frames", config["frames"], 0),
            output=output,
            wait=real_number("wait", config["wait"], above=0),
        )

    @property
    def target_name(self) -> str:
        return describe_dataset(self.dataset)[0][self.target]

    @property
    def num_nodes(self) -> int:
        return self.num_honest + 1

    @property
    def path(self) -> Path | None:
        """Where the record goes, on this computer."""
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
        """The global model before the first round, the one of `build`: the server needs no images for it."""
        classes, side = describe_dataset(self.dataset)
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            return Classifier(len(classes) + 1, side=side)

    def build(self) -> tuple[nn.Module, list[Client]]:
        """The global model and all participants, as `run_attack` makes them."""
        return build_federation(
            load_dataset(self.dataset)[0],
            self.target,
            num_rounds=self.rounds,
            num_honest=self.num_honest,
            inject=self.inject,
            seed=self.seed,
            device="cpu",
            client_options={"local_steps": self.local_steps},
        )


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Federated averaging: send the global model to all nodes, average what comes back, round by round.

    Raises:
        ValueError: a setting is wrong.
        RuntimeError: too few nodes have connected, one cannot take part in the first round, or no reply can be used.
    """
    run = RunConfig.read(context.run_config)
    model = run.first_model()
    recorded = snapshot_rounds(run.rounds, run.frames)
    seconds, num_bytes = 0.0, 0
    for number in range(1, run.rounds + 1):
        start = time.perf_counter()
        updates = _collect_answers(grid, run, "train", model, {"round": number})
        model.load_state_dict(fedavg(updates))
        seconds += time.perf_counter() - start
        num_bytes += 2 * len(updates) * ArrayRecord(model.state_dict()).count_bytes()
        words = f"round {number}/{run.rounds}: {seconds:.1f} s, {num_bytes / 1e6:.1f} MB"
        if number in recorded:
            now = {"round": number, "seconds": seconds, "bytes": num_bytes}
            accuracies = _collect_answers(grid, run, "evaluate", model, now)
            words += f", accuracy {sum(accuracies) / len(accuracies):.3f}"
        log(INFO, words)


def _collect_answers(grid: Grid, run: RunConfig, kind: str, model: nn.Module, now: dict[str, float]) -> list[Any]:
    """The answers that can be used, in the order of `build_federation`; `now` is told to all nodes.

    To "train" they are updates, to "evaluate" accuracies.
    """
    number = now["round"]
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "config": ConfigRecord(now)})
    nodes = _connected(grid, run, number)
    messages = [Message(content, dst_node_id=node, message_type=kind, group_id=str(number)) for node in nodes]
    answers, faults = [], []
    for reply in grid.send_and_receive(messages, timeout=run.wait):
        try:
            if reply.has_error():
                raise ValueError(reply.error.reason)
            turn = reply.content["metrics"]["turn"]
            if not isinstance(turn, int):
                raise ValueError(f"its turn is {turn!r}, which is no number")
            answers.append((turn, _READERS[kind](reply.content, model)))
        except Exception as error:  # a node is somebody else's computer
            reason = str(error) if isinstance(error, ValueError) else f"{error!r}"
            faults.append(f"node {reply.metadata.src_node_id}: {reason}")
    if missing := len(nodes) - len(answers) - len(faults):
        faults.append(f"{missing} of {len(nodes)} nodes have not answered within {run.wait:.0f} s")
    turns = {turn for turn, _ in answers}
    if len(turns) < len(answers):
        faults.append("several nodes have the same partition-id")
    for fault in faults:
        log(WARNING, "round %d: %s", number, fault)
    if not answers or (faults and number == 1):
        raise RuntimeError(f"round {number} cannot go on: {'; '.join(faults)}")
    return [answer for _, answer in sorted(answers, key=itemgetter(0))]


def _read_update(reply: RecordDict, model: nn.Module) -> Update:
    update = Update(reply["arrays"].to_torch_state_dict(), reply["metrics"]["num-examples"])
    check_update(update, model.state_dict())
    return update


def _read_accuracy(reply: RecordDict, model: nn.Module) -> float:
    value = float(reply["metrics"]["accuracy"])
    if not 0 <= value <= 1:
        raise ValueError(f"it claims an accuracy of {value}")
    return value


_READERS = {"train": _read_update, "evaluate": _read_accuracy}


def _connected(grid: Grid, run: RunConfig, number: int) -> list[int]:
    """The nodes that are there: all of them in the first round, later those that have not failed."""
    wanted = run.num_nodes if number == 1 else 1
    deadline = time.monotonic() + run.wait
    while len(nodes := sorted(grid.get_node_ids())) < wanted:
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"{len(nodes)} of {run.num_nodes} nodes have connected within {run.wait:.0f} s: "
                f"start {run.num_nodes} SuperNodes, or give another num-honest"
            )
        time.sleep(0.2)
    if len(nodes) < run.num_nodes:
        log(WARNING, "round %d: %d of %d nodes are connected", number, len(nodes), run.num_nodes)
    return nodes


Handle = Callable[[Message, Context], Message]


def _errors_as_replies(handle: Handle) -> Handle:
    """What is wrong on a node is told to the server in words, instead of the first line of a traceback."""

    @wraps(handle)
    def answer(message: Message, context: Context) -> Message:
        try:
            return handle(message, context)
        except (ValueError, OSError, RuntimeError) as error:
            return Message(Error(code=0, reason=str(error)), reply_to=message)

    return answer


@client.train()
@_errors_as_replies
def train(message: Message, context: Context) -> Message:
    """A turn of the node's client: `fit` on the global model that came, and the update back."""
    run, turn, model, clients = _resume(message, context)
    number = message.content["config"]["round"]
    if number == 1 and isinstance(clients[turn], GANAttacker):
        run.check_path()
    with seeded(run.seed, number, turn):
        update = clients[turn].fit(model, number)
    context.state["client"] = ConfigRecord({"state": states.dump(clients[turn].lasting_parts())})
    metrics = {"turn": turn, "num-examples": update.num_examples, **update.metrics}
    content = RecordDict({"arrays": ArrayRecord(update.state), "metrics": MetricRecord(metrics)})
    return Message(content, reply_to=message)


@client.evaluate()
@_errors_as_replies
def evaluate(message: Message, context: Context) -> Message:
    """The accuracy of the global model on the node's own images; the attacker also records what it draws by now."""
    run, turn, model, clients = _resume(message, context)
    if isinstance(clients[turn], GANAttacker):
        _record(run, message.content["config"], context, model, clients)
    metrics = {"turn": turn, "accuracy": accuracy(model, clients[turn].dataset)}
    return Message(RecordDict({"metrics": MetricRecord(metrics)}), reply_to=message)


def _resume(message: Message, context: Context) -> tuple[RunConfig, int, nn.Module, list[Client]]:
    """The run, which client of it this node is, the global model that came, and the clients, this one as it was left.

    Every node of this laboratory could make all clients, as the images come with the library. It uses its own.
    """
    run = RunConfig.read(context.run_config)
    turn = run.turn(context.node_config.get("partition-id"))
    model, clients = run.build()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    if "client" in context.state:
        states.load_client(context.state["client"]["state"], clients[turn], model)
    return run, turn, model, clients


def _record(run: RunConfig, now: ConfigRecord, context: Context, model: nn.Module, clients: list[Client]) -> None:
    """The laboratory's measurements on the attacker's node: they need the victim's images and the test set."""
    *honest, attacker = clients
    _, test = load_dataset(run.dataset)
    config = {"kind": "attack", "engine": "flower"} | asdict(run) | {"classes": list(test.classes)}
    del config["output"], config["wait"]
    private = torch.cat([each.dataset.images_of(run.target_name) for each in honest])
    recorder = Recorder(config, private, num_frames=run.frames)
    recorder.resume(_past(run, now["round"], context, config))
    recorder.take(attacker.generator, dict(now) | accuracies(model, test, run.target))
    record = recorder.record()
    context.state["record"] = ConfigRecord({"npz": record.dumps()})
    # What an earlier run has left stays until this one has as much: it may be interrupted.
    if run.path and record.rounds[-1] >= rounds_reached(run.path):
        record.save(run.path)


def _past(run: RunConfig, number: int, context: Context, config: dict[str, Any]) -> AttackRecord | None:
    """The record so far. A node that was started again has lost its state, and finds what it had written."""
    if "record" in context.state:
        return AttackRecord.loads(context.state["record"]["npz"])
    if run.path and run.path.exists():
        try:
            record = AttackRecord.load(run.path)
        except ValueError as error:
            log(WARNING, "not gone on from: %s", error)
            return None
        if config.items() <= record.config.items() and record.rounds[-1] < number:
            return record
    return None
