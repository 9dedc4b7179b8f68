"""The apps without Flower's engine: a grid in this process, and nothing that lasts but what the nodes keep."""

import json
import pickle
import re
import time
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import pytest
import torch

flwr = pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

from fl_gan_lib.attack import GENERATOR_STEPS, build_federation, run_attack  # noqa: E402
from fl_gan_lib.datasets import load_dataset  # noqa: E402
from fl_gan_lib.federation import federate  # noqa: E402
from fl_gan_lib.flower.app import RunConfig, client, server  # noqa: E402
from fl_gan_lib.recording import files  # noqa: E402
from fl_gan_lib.records import AttackRecord  # noqa: E402

# What Flower's engine tells its processes; here there is none.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1

RUN = {
    "target": 3,
    "dataset": "mnist-5k",
    "rounds": 3,
    "num-honest": 1,
    "attacker": -1,
    "local-steps": 2,
    "inject": True,
    "seed": 0,
    "frames": 24,
    "output": "",
    "wait": 1.0,
}


class Here(Grid):
    """Nodes in this process. Each message makes the node anew, from what it keeps as bytes."""

    def __init__(self, config: dict, partitions: Iterable[object]) -> None:
        self.config = config
        self.partitions = dict(enumerate(partitions, start=100))
        self.kept = {node: pickle.dumps(RecordDict()) for node in self.partitions}
        self.answers = True
        self.weights = None

    def context(self, node: int) -> Context:
        partition = {"partition-id": self.partitions[node]}
        return Context(1, node, partition, pickle.loads(self.kept[node]), self.config)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.partitions)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        replies = []
        for message in messages if self.answers else []:
            message.metadata.__dict__["_message_id"] = "1"
            self.weights = message.content["arrays"]
            context = self.context(message.metadata.dst_node_id)
            replies.append(client(message, context))
            self.kept[context.node_id] = pickle.dumps(context.state)
        return replies[::-1]

    run = None
    set_run = create_message = push_messages = pull_messages = None


def serve(partitions: Iterable[object], **changes: object) -> Here:
    grid = Here(RUN | {name.replace("_", "-"): value for name, value in changes.items()}, partitions)
    grid.answers = changes.get("answers", True)
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    return grid


def test_it_ends_in_the_same_bits_as_federate_and_keeps_the_same_record(tmp_path):
    grid = serve([0, 1], output=str(tmp_path))
    options = {"client_options": {"local_steps": 2}, "device": "cpu"}
    model, clients = build_federation(load_dataset()[0], 3, num_rounds=3, **options)
    list(federate(model, clients, num_rounds=3))
    weights = grid.weights.to_torch_state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())
    expected = run_attack(3, rounds=3, progress=False, **options)
    record = AttackRecord.load(tmp_path / "attack_3.npz")
    for name in ("samples", "final_samples", "private_samples", "rounds"):
        assert np.array_equal(getattr(record, name), getattr(expected, name)), name
    same = [column for column in expected.metrics if column != "seconds"]
    pd.testing.assert_frame_equal(record.metrics[same], expected.metrics[same])
    assert record.config["engine"] == "flower" and (np.diff(record.metrics["seconds"]) > 0).all()


def test_the_generator_goes_on_where_the_last_message_left_it():
    grid = serve([0, 1], rounds=1)
    after_one = unpack(grid, 101)["generator.average"]["n_averaged"]
    assert after_one == GENERATOR_STEPS
    assert unpack(grid, 100).keys() == {"model", "optimizer"}, "an honest node has no generator"

    model, _ = build_federation(load_dataset()[0], 3, num_rounds=5, device="cpu")
    state = ArrayRecord(model.state_dict())
    steps = []
    for number in (1, 2):
        config = ConfigRecord({"round": number, "seconds": 0.0})
        grid.config = RUN | {"rounds": 5}
        message = Message(RecordDict({"arrays": state, "config": config}), 101, "train")
        if number == 1:
            grid.kept[101] = pickle.dumps(RecordDict())
        list(grid.send_and_receive([message]))
        steps.append(unpack(grid, 101))
    assert [step["generator.average"]["n_averaged"] for step in steps] == [GENERATOR_STEPS, 2 * GENERATOR_STEPS]
    assert [step["generator.schedule"]["last_epoch"] for step in steps] == [GENERATOR_STEPS, 2 * GENERATOR_STEPS]


def unpack(grid: Here, node: int) -> dict:
    """What a node remembers, as JSON; in the place of each tensor there is its value, if it is a number."""
    text, arrays = files.unpack(grid.context(node).state["client"]["state"])

    def value(entry: dict) -> object:
        return arrays[entry["tensor"]].tolist() if entry.keys() == {"tensor", "channels_last"} else entry

    return json.loads(text["states"], object_hook=value)


@pytest.mark.parametrize(
    ("partitions", "changes", "message"),
    [
        ([0, 1], {"target": 12}, "target"),
        ([0, 1], {"rounds": 0}, "rounds is 0"),
        ([0, 1], {"dataset": "cifar"}, "unknown data set 'cifar'"),
        ([0, 1], {"rounds": 2.0}, r"rounds is 2\.0: it must be a whole number"),
        ([0, 1], {"rounds": "2"}, "rounds is '2': it must be a whole number"),
        ([0, 1], {"num_honest": 0}, "num-honest is 0"),
        ([0, 1], {"local_steps": True}, "local-steps is True: it must be a whole number of at least 1"),
        ([0, 1], {"attacker": 2}, "attacker is 2: it must be a whole number from -1 to 1 .*a partition"),
        ([0, 1], {"inject": 1}, "inject is 1: it must be True or False"),
        ([0, 1], {"seed": -1}, "seed is -1: it must be a whole number from 0 to"),
        ([0, 1], {"seed": 2**63}, "seed is 9223372036854775808: it must be"),
        ([0, 1], {"frames": -1}, "frames is -1"),
        ([0, 1], {"output": 5}, "output is 5: it must be the name of a folder, or empty"),
        ([0, 1], {"wait": 0}, "wait is 0: it must be a finite number above 0"),
        ([0, 1], {"wait": float("nan")}, "wait is nan: it must be a finite number above 0"),
        ([0, 1], {"dataset": "mnist"}, "node 100: MNIST is not in .*empty"),
        ([0, 7], {}, "partition-id is 7: .*from 0 to 1"),
        ([0, None], {}, "partition-id is None: .*--node-config"),
        ([1, 1], {}, "several nodes have the same partition-id"),
        ([], {}, "0 of 2 nodes have connected within 1 s: start 2 SuperNodes"),
        ([0], {}, "1 of 2 nodes have connected"),
        ([0, 1], {"answers": False}, "2 of 2 nodes have not answered within 1 s"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(partitions, changes, message, monkeypatch, tmp_path):
    monkeypatch.setenv("FL_GAN_DATA", str(tmp_path / "empty"))
    start = time.monotonic()
    with pytest.raises((ValueError, RuntimeError), match=message):
        serve(partitions, **changes)
    assert time.monotonic() - start < 30


def test_a_node_without_images_takes_no_part():
    with pytest.raises(RuntimeError, match="num_honest is 4000: it must be"):
        serve(range(4001), num_honest=4000)


def test_a_model_of_another_shape_is_refused_on_both_sides():
    grid = Here(RUN, [0, 1])
    send = grid.send_and_receive

    def widen(messages, *, timeout=None):
        messages = list(messages)
        arrays = messages[0].content["arrays"].to_torch_state_dict()
        arrays["9.bias"] = torch.zeros(12)
        messages[0].content["arrays"] = ArrayRecord(arrays)
        return send(messages, timeout=timeout)

    grid.send_and_receive = widen
    with pytest.raises(RuntimeError, match=r"node 100: (?s:.*)size mismatch for 9\.bias"):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))

    def grow(messages, *, timeout=None):
        replies = send(messages, timeout=timeout)
        arrays = replies[0].content["arrays"].to_torch_state_dict()
        replies[0].content["arrays"] = ArrayRecord(arrays | {"more": torch.zeros(1)})
        return replies

    grid.send_and_receive = grow
    with pytest.raises(RuntimeError, match=r"node 10[01]: it differs from the global model in .* of \['more'\]"):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))


def with_nan(reply: RecordDict) -> None:
    arrays = reply["arrays"].to_torch_state_dict()
    reply["arrays"] = ArrayRecord(arrays | {"9.bias": torch.full((11,), torch.nan)})


def with_bytes(data: bytes) -> Callable[[RecordDict], None]:
    def spoil(reply: RecordDict) -> None:
        array = reply["arrays"]["9.bias"]
        reply["arrays"]["9.bias"] = Array(array.dtype, array.shape, array.stype, data)

    return spoil


def with_metrics(**changes: object) -> Callable[[RecordDict], None]:
    return lambda reply: reply["metrics"].update({name.replace("_", "-"): value for name, value in changes.items()})


HUGE = b"\x93NUMPY\x01\x00F\x00{'descr': '<f4', 'fortran_order': False, 'shape': (100000000000000,)}  \n"


@pytest.mark.parametrize(
    ("kind", "spoil", "reason"),
    [
        ("train", with_nan, r"there is NaN or infinity in \['9.bias'\]"),
        ("train", with_bytes(b""), "EOFError"),
        ("train", with_bytes(HUGE), "Error"),
        ("train", lambda reply: reply.pop("arrays"), "KeyError.*arrays"),
        ("train", lambda reply: reply.update(arrays=MetricRecord({"a": 1})), "AttributeError"),
        ("train", lambda reply: reply["metrics"].pop("num-examples"), "KeyError.*num-examples"),
        ("train", lambda reply: reply["metrics"].pop("turn"), "KeyError.*turn"),
        ("train", with_metrics(turn=[0, 1]), r"its turn is \[0, 1\], which is no number"),
        ("train", with_metrics(num_examples=-5), "it claims -5 examples"),
        ("evaluate", lambda reply: reply["metrics"].pop("accuracy"), "KeyError.*accuracy"),
        ("evaluate", with_metrics(accuracy=7.0), "it claims an accuracy of 7"),
    ],
)
def test_an_answer_that_cannot_be_used_is_left_out(caplog, kind, spoil, reason):
    grid = Here(RUN | {"rounds": 2}, [0, 1])
    send = grid.send_and_receive

    def spoil_in_round_two(messages, *, timeout=None):
        messages = list(messages)
        replies = send(messages, timeout=timeout)
        if messages[0].metadata.group_id == "2" and messages[0].metadata.message_type == kind:
            spoil(replies[0].content)
        return replies

    grid.send_and_receive = spoil_in_round_two
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert re.search(f"round 2: node 101: .*{reason}", caplog.text)
    assert all(tensor.isfinite().all() for tensor in grid.weights.to_torch_state_dict().values())


def test_the_node_that_attacks_is_chosen_in_the_run_configuration(tmp_path):
    grid = serve([0, 1, 2], rounds=1, num_honest=2, attacker=1)
    assert ["generator.model" in unpack(grid, node) for node in grid.partitions] == [False, True, False]


def test_numbers_of_other_libraries_become_those_of_python():
    changes = {"target": np.int64(4), "rounds": np.int32(5), "attacker": torch.tensor(0), "inject": np.False_}
    run = RunConfig.read(RUN | changes | {"num-honest": np.uint8(2), "wait": np.float32(2)})
    expected = {"target": 4, "rounds": 5, "attacker": 0, "inject": False, "num_honest": 2, "wait": 2.0}
    assert {name: getattr(run, name) for name in expected} == expected
    assert {type(getattr(run, name)) for name in expected} == {int, bool, float}


def test_a_record_that_reaches_further_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "out" / "attack_3.npz"
    serve([0, 1], output="~/out", rounds=3)
    finished = path.read_bytes()
    with pytest.raises(RuntimeError, match=r"node 101: rounds is 2, and .*attack_3\.npz reaches round 3: give another"):
        serve([0, 1], output="~/out", rounds=2)
    assert path.read_bytes() == finished

    # A longer run may be interrupted before it has as much.
    grid = Here(RUN | {"output": "~/out", "rounds": 5}, [0, 1])
    send = grid.send_and_receive

    def stop_in_round_three(messages, *, timeout=None):
        messages = list(messages)
        if messages[0].metadata.group_id == "3":
            raise KeyboardInterrupt
        return send(messages, timeout=timeout)

    grid.send_and_receive = stop_in_round_three
    with pytest.raises(KeyboardInterrupt):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert path.read_bytes() == finished
    serve([0, 1], output="~/out", rounds=4)
    assert AttackRecord.load(path).rounds.tolist() == [1, 2, 3, 4]


def test_a_node_that_fails_or_forgets_does_not_end_the_run(tmp_path, caplog):
    grid = Here(RUN | {"output": str(tmp_path)}, [0, 1])
    send = grid.send_and_receive

    def fail_in_round_two(messages, *, timeout=None):
        messages = list(messages)
        if messages[0].metadata.group_id == "2":
            grid.kept[101] = pickle.dumps(RecordDict())  # killed, and started again
            return send(messages[1:], timeout=timeout)
        return send(messages, timeout=timeout)

    grid.send_and_receive = fail_in_round_two
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert AttackRecord.load(tmp_path / "attack_3.npz").rounds.tolist() == [1, 2, 3]
