"""The attack on Flower (https://flower.ai): the same clients, each on a node of its own, with images of its own.

Flower makes its apps anew for each message. What must last (local model, optimisers, generator) goes into
`context.state`, which each node keeps for itself. Random numbers need no keeping: as in `federate`, those of a turn
come from the seed, the round and the client alone.

There is one message a round. A node measures the global model that comes with it, which is that of the round before.
The attacker publishes its fakes, for the lesson. They are judged at the end, where real images are, if their owner
agrees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from logging import INFO, WARNING
from typing import Any

from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.logger import log
from flwr.serverapp import Grid, ServerApp
from torch import Tensor, nn

from fl_gan_lib.attack import GANAttacker
from fl_gan_lib.federation import Update, draw_clients
from fl_gan_lib.flower import publishing, secure
from fl_gan_lib.flower.node import Images, Memory, build_client, own_images
from fl_gan_lib.flower.publishing import Answer
from fl_gan_lib.flower.rules import make_rule
from fl_gan_lib.flower.settings import RunConfig
from fl_gan_lib.metrics import accuracies
from fl_gan_lib.recording.faults import check_update
from fl_gan_lib.recording.recorder import draw_snapshot
from fl_gan_lib.seeding import seeded

server = ServerApp()
client = ClientApp()

CLIPPING_NORM, DELTA = 0.5, 1e-5  # of the local DP
POLL = 0.25  # seconds; Flower's own loop looks for replies every three
CONNECTING = 20.0  # seconds at the most that the server waits for nodes: they are started before the run
JUDGING = 600.0  # seconds: four networks are trained for it, and each recorded round is measured


@server.main()
def serve(grid: Grid, context: Context) -> None:
    """Federated averaging: send the global model to the nodes, average what comes back, round by round.

    Raises:
        ValueError: a setting is wrong.
        RuntimeError: too few nodes have connected, one cannot take part in the first round, or no reply can be used.
    """
    run = RunConfig.read(context.run_config)
    run.check_path()
    model, published, federation = run.first_model(), publishing.Published(run), Federation(grid, run)
    seconds, num_bytes = 0.0, 0
    for number in range(1, run.rounds + 1):
        start = time.perf_counter()
        nodes = federation.draw(number)
        if run.secure:
            state, answers = _train_securely(federation, context, model, nodes, published.wishes(number))
        else:
            state, answers = _train(federation, model, nodes, published.wishes(number))
        model.load_state_dict(state)
        seconds += time.perf_counter() - start
        num_bytes += 2 * len(answers) * ArrayRecord(model.state_dict()).count_bytes()
        published.add(answers, number, seconds=seconds, num_bytes=num_bytes)
        log(INFO, f"round {number}/{run.rounds}: {seconds:.2f} s, {num_bytes / 1e6:.2f} MB")
    _have_judged(federation, published, model)
    log(INFO, published.summary())


class Federation:
    """The nodes, as the server knows them: who is there, who is which client, how long an answer may take."""

    def __init__(self, grid: Grid, run: RunConfig) -> None:
        self.grid = grid
        self.run = run
        self.nodes: dict[int, int] = {}  # by turn, the node that has answered for it
        self._longest = 0.0

    def draw(self, number: int) -> list[int]:
        """The nodes that take part in a round: all that are there, or as many as the run draws.

        Raises:
            RuntimeError: too few have connected, in the first round not all.
        """
        wanted, patience = self.run.num_nodes if number == 1 else 1, min(self.run.wait, CONNECTING)
        deadline = time.monotonic() + patience
        while len(nodes := self.connected()) < wanted:
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"{len(nodes)} of {self.run.num_nodes} nodes have connected within {patience:.0f} s: "
                    f"start {self.run.num_nodes} SuperNodes, or give another num-honest"
                )
            time.sleep(0.2)
        if len(nodes) < self.run.num_nodes:
            log(WARNING, "round %d: %d of %d nodes are connected", number, len(nodes), self.run.num_nodes)
        if not 0 < self.run.per_round < len(nodes):
            return nodes
        return [nodes[place] for place in draw_clients(len(nodes), self.run.per_round, number, self.run.seed)]

    def connected(self) -> list[int]:
        return sorted(self.grid.get_node_ids())

    def honest(self, nodes: Iterable[int]) -> list[int]:
        """Those of `nodes` that are known as honest participants, in the order of their turns."""
        nodes = set(nodes)
        return [node for turn, node in sorted(self.nodes.items()) if turn < self.run.num_honest and node in nodes]

    def patience(self, number: int) -> float:
        """Seconds that a round may take: less when it is known what rounds take, as a node may have left."""
        return self.run.wait if number <= 2 else min(self.run.wait, max(30.0, 5 * self._longest))

    def replies(self, messages: list[Message], patience: float) -> Iterator[Message]:
        """As `grid.send_and_receive`, and more often: that one looks for replies every three seconds."""
        missing = set(self.grid.push_messages(messages))
        start = time.monotonic()
        while missing and time.monotonic() < start + patience:
            # One by one: a reply that Flower cannot read would keep the others back.
            for identity in sorted(missing):
                try:
                    replies = list(self.grid.pull_messages([identity]))
                except Exception as error:  # a node is somebody else's computer
                    log(WARNING, "a reply cannot be read: %r", error)
                    missing.discard(identity)
                    continue
                for reply in replies:
                    missing.discard(identity)
                    yield reply
            if missing:
                time.sleep(POLL)
        if not missing:
            self._longest = max(self._longest, time.monotonic() - start)

    def recognise(self, turn: Any, node: int) -> int:
        """The turn that a node claims, checked.

        Raises:
            ValueError: there is no such turn, or another node that is connected has it.
        """
        if not isinstance(turn, int) or isinstance(turn, bool) or not 0 <= turn < self.run.num_nodes:
            raise ValueError(f"its turn is {turn!r}, which is no number from 0 to {self.run.num_nodes - 1}")
        known = self.nodes.setdefault(turn, node)
        if known != node and known in self.connected():
            raise ValueError("several nodes have the same partition-id: start each SuperNode with its own")
        self.nodes[turn] = node
        return turn


def _train(
    federation: Federation, model: nn.Module, nodes: list[int], now: dict[str, Any]
) -> tuple[Mapping[str, Tensor], list[Answer]]:
    """The next global state, by the rule of the run, and the nodes' answers.

    Raises:
        RuntimeError: no answer can be used, or in the first round not all of them.
    """
    run, number = federation.run, now["round"]
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    messages = [
        Message(_content(model, wishes), dst_node_id=node, message_type="train", group_id=str(number))
        for node, wishes in _wishes(federation, nodes, now).items()
    ]

    def read(reply: Message) -> Answer:
        update = Update(reply.content["arrays"].to_torch_state_dict(), reply.content["metrics"]["num-examples"])
        check_update(update, state)
        return _read_answer(federation, reply.metadata.src_node_id, reply.content, now, update)

    replies = federation.replies(messages, federation.patience(number))
    answers, faults = _read_all(replies, read, len(nodes))
    _complain(faults, number, fatal=not answers)
    answers.sort(key=lambda answer: answer.turn)
    updates = [answer.update for answer in answers]
    with seeded(run.seed, number, run.num_nodes):  # the numbers after the nodes' own, as in `federate`
        return make_rule(run.rule, len(updates))(updates, state), answers


def _train_securely(
    federation: Federation, context: Context, model: nn.Module, nodes: list[int], now: dict[str, Any]
) -> tuple[Mapping[str, Tensor], list[Answer]]:
    """As `_train`, where the server learns the sum of the updates alone. A later round that halts is left out."""
    number = now["round"]
    wishes = _wishes(federation, nodes, now)
    state, replies, faults = secure.average_securely(
        lambda messages: federation.replies(messages, federation.patience(number)), context, model, wishes
    )
    answers, more = _read_all(
        replies,
        lambda reply: _read_answer(federation, reply.node, reply.content, now, None),
        len(replies),
    )
    _complain([*faults, *more], number, fatal=state is None and number == 1)
    return model.state_dict() if state is None else state, sorted(answers, key=lambda answer: answer.turn)


def _wishes(federation: Federation, nodes: list[int], now: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What each node is asked for: one of them, an honest one, measures the model."""
    measuring = federation.honest(nodes)[:1]
    return {node: now | {"measure": now["measure"] and node in measuring} for node in nodes}


def _read_answer(
    federation: Federation, node: int, content: RecordDict, now: dict[str, Any], update: Update | None
) -> Answer:
    """Raises an error, of any kind, if what a node has sent cannot be used."""
    turn = federation.recognise(content["metrics"]["turn"], node)
    measured = fakes = None
    if now["measure"] and publishing.ACCURACIES[0] in content["metrics"]:
        measured = {name: publishing.as_share(content["metrics"][name]) for name in publishing.ACCURACIES}
    if now["publish"] and turn == federation.run.num_honest:
        fakes = publishing.unpack_fakes(content["fakes"], federation.run.side)
    return Answer(node, turn, update, measured, fakes)


def _read_all(replies: Iterable[Any], read: Callable[[Any], Answer], expected: int) -> tuple[list[Answer], list[str]]:
    """The answers that can be used, and what is wrong with the others."""
    answers, faults = [], []
    for reply in replies:
        try:
            if isinstance(reply, Message) and reply.has_error():
                raise ValueError(reply.error.reason)
            answers.append(read(reply))
        except Exception as error:  # a node is somebody else's computer
            node = reply.metadata.src_node_id if isinstance(reply, Message) else reply.node
            faults.append(f"node {node}: {error if isinstance(error, ValueError) else repr(error)}")
    if missing := expected - len(answers) - len(faults):
        faults.append(f"{missing} of {expected} nodes have not answered in time")
    return answers, faults


def _complain(faults: list[str], number: int, *, fatal: bool) -> None:
    """Warn of faults; a RuntimeError if they are fatal, or if this is the first round, where each one is a mistake."""
    for fault in faults:
        log(WARNING, "round %d: %s", number, fault)
    if fatal or (number == 1 and faults):
        raise RuntimeError(f"round {number} cannot go on: {'; '.join(faults)}")


def _content(model: nn.Module, config: Mapping[str, Any]) -> RecordDict:
    return RecordDict({"arrays": ArrayRecord(model.state_dict()), "config": ConfigRecord(dict(config))})


def _have_judged(federation: Federation, published: publishing.Published, model: nn.Module) -> None:
    """Ask the honest nodes, one after another, to judge what the attacker has published, until one agrees."""
    if published.is_empty:
        return
    content = published.add_to(_content(model, {"round": published.run.rounds}))
    for node in federation.honest(federation.connected()):
        message = Message(content, dst_node_id=node, message_type="evaluate", group_id="judgement")
        for reply in federation.replies([message], JUDGING):
            try:
                if reply.has_error():
                    raise ValueError(reply.error.reason)
                judged = published.read_judgement(reply.content)
            except Exception as error:  # a node is somebody else's computer
                log(WARNING, "judgement: node %d: %s", node, error if isinstance(error, ValueError) else repr(error))
                continue
            if judged is not None:
                published.take_over(judged)
                return


def in_words(message: Message, context: Context, handle: secure.Handle) -> Message:
    """A mod: what is wrong on a node is told to the server in words, instead of the first line of a traceback."""
    try:
        return handle(message, context)
    except (ValueError, OSError, RuntimeError) as error:
        return Message(Error(code=0, reason=str(error)), reply_to=message)


def private(message: Message, context: Context, handle: secure.Handle) -> Message:
    """A mod: Flower's local DP, if the run asks for it. The noise is new each time, whatever the seed."""
    run = RunConfig.read(context.run_config)
    if not run.local_epsilon:
        return handle(message, context)
    from flwr.clientapp.mod import LocalDpMod

    # Two updates of that norm are up to twice as far apart.
    return LocalDpMod(CLIPPING_NORM, 2 * CLIPPING_NORM, run.local_epsilon, DELTA)(message, context, handle)


@client.train(mods=[in_words, secure.secured, secure.translated, private])
def train(message: Message, context: Context) -> Message:
    """A turn of the node's client: `fit` on the global model that came, and the update back."""
    run, turn, images, model = _open(message, context)
    now = message.content["config"]
    measured = {}
    if now["measure"] and images.test is not None:
        measured = accuracies(model, images.test, run.target)
    memory = Memory.of(context, run, turn)
    own = build_client(run, turn, images.train)
    if not memory.recall(own, model) and now["round"] > 1 and isinstance(own, GANAttacker):
        log(WARNING, "round %d: this node remembers no earlier one, so its generator begins anew", now["round"])
    with seeded(run.seed, now["round"], turn):
        update = own.fit(model, now["round"])
    memory.keep(own)
    metrics = {"turn": turn, "num-examples": update.num_examples, **update.metrics, **measured}
    content = RecordDict({"arrays": ArrayRecord(update.state), "metrics": MetricRecord(metrics)})
    if now["publish"] and isinstance(own, GANAttacker):
        content["fakes"] = publishing.pack_fakes(*draw_snapshot(own.generator, run.seed, now["place"]))
    return Message(content, reply_to=message)


@client.evaluate(mods=[in_words])
def judge(message: Message, context: Context) -> Message:
    """What the attacker has published, judged by a node that holds real images of the target; or that it does not."""
    run, turn, images, model = _open(message, context)
    if (
        turn == run.num_honest
        or not images.may_judge
        or images.test is None
        or not len(images.train.images_of(run.target))
    ):
        return Message(RecordDict({"judgement": ConfigRecord({"agrees": False})}), reply_to=message)
    return Message(publishing.judge(run, images, model, message.content), reply_to=message)


def _open(message: Message, context: Context) -> tuple[RunConfig, int, Images, nn.Module]:
    """The run, which client of it this node is, its images, and the global model that came."""
    run = RunConfig.read(context.run_config)
    turn = run.turn(context.node_config.get("partition-id"))
    images = own_images(run, turn, context.node_config)
    model = run.first_model()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return run, turn, images, model
