"""The apps without Flower's engine: a grid in this process, and nothing that lasts but what the nodes keep."""

import copy
import json
import math
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

flwr = pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict  # noqa: E402
from flwr.serverapp import Grid  # noqa: E402
from flwr.supercore.task_identity import TaskIdentity  # noqa: E402

from fl_gan_lib.attack import GENERATOR_STEPS, GANAttacker, build_federation, run_attack  # noqa: E402
from fl_gan_lib.classes import DIGITS  # noqa: E402
from fl_gan_lib.data import ImageDataset, from_uint8, to_uint8  # noqa: E402
from fl_gan_lib.datasets import load_dataset  # noqa: E402
from fl_gan_lib.defences import Krum, PrivateMean, TrimmedMean, coordinate_median  # noqa: E402
from fl_gan_lib.federation import Update, draw_clients, federate  # noqa: E402
from fl_gan_lib.flower import publishing, rules  # noqa: E402
from fl_gan_lib.flower.app import RunConfig, client, server  # noqa: E402
from fl_gan_lib.flower.node import own_images, write_shares  # noqa: E402
from fl_gan_lib.flower.rules import make_rule  # noqa: E402
from fl_gan_lib.recording import files  # noqa: E402
from fl_gan_lib.records import AttackRecord, summarise  # noqa: E402
from fl_gan_lib.studies.secrets import draw_symbol  # noqa: E402

# What Flower's engine tells its processes; here there is none.
TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1

ROOT = Path(__file__).parents[2]
RUN = {
    "target": 3,
    "dataset": "mnist-5k",
    "classes": "",
    "side": 0,
    "rounds": 3,
    "num-honest": 1,
    "attacker": -1,
    "per-round": 0,
    "local-steps": 2,
    "generator-steps": 12,
    "inject": True,
    "rule": "fedavg",
    "secure": False,
    "local-epsilon": 0.0,
    "seed": 0,
    "frames": 24,
    "output": "",
    "wait": 1.0,
}


FIRST_NODE = 2**63 - 1


class Here(Grid):
    """Nodes in this process. Each message makes the node anew, from what it keeps as bytes."""

    def __init__(self, config: dict, partitions: Iterable[object], **nodes: dict) -> None:
        self.config = config
        # As Flower's own, of 64 bits and without a sign.
        self.partitions = dict(enumerate(partitions, start=FIRST_NODE))
        self.node_configs = {FIRST_NODE + int(name.removeprefix("node")): own for name, own in nodes.items()}
        self.kept = {node: pickle.dumps(RecordDict()) for node in self.partitions}
        self.arrived: dict[str, Message] = {}
        self.answers = True
        self.num_trained = 0
        self.weights = None

    def context(self, node: int) -> Context:
        node_config = {"partition-id": self.partitions[node]} | self.node_configs.get(node, {})
        return Context(1, node, node_config, pickle.loads(self.kept[node]), self.config)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.partitions)

    def deliver(self, messages: list[Message]) -> list[Message]:
        replies = []
        for message in messages if self.answers else []:
            self.weights = message.content.get("arrays", self.weights)
            self.num_trained += message.metadata.message_type == "train"
            context = self.context(message.metadata.dst_node_id)
            replies.append(client(copy.deepcopy(message), context))  # as on a wire
            self.kept[context.node_id] = pickle.dumps(context.state)
        return replies[::-1]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        for number, message in enumerate(messages, start=len(self.arrived)):
            message.metadata.__dict__["_message_id"] = f"message {number}"
        ids = [message.metadata.message_id for message in messages]
        for reply in self.deliver(messages):
            self.arrived[reply.metadata.reply_to_message_id] = reply
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self.arrived[name] for name in list(message_ids) if name in self.arrived]

    run = None
    set_run = create_message = send_and_receive = None


def serve(partitions: Iterable[object], **changes: object) -> Here:
    grid = Here(RUN | {name.replace("_", "-"): value for name, value in changes.items()}, partitions)
    grid.answers = changes.get("answers", True)
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    return grid


def test_it_ends_in_the_same_bits_as_federate_and_keeps_the_same_record(tmp_path):
    grid = serve([0, 1], output=str(tmp_path), generator_steps=5)
    attacker = partial(GANAttacker, generator_steps=5)
    options = {"client_options": {"local_steps": 2}, "make_attacker": attacker, "device": "cpu"}
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
    after_one = unpack(grid, FIRST_NODE + 1)["generator.average"]["n_averaged"]
    assert after_one == GENERATOR_STEPS
    assert unpack(grid, FIRST_NODE).keys() == {"model", "optimizer"}, "an honest node has no generator"

    model, _ = build_federation(load_dataset()[0], 3, num_rounds=5, device="cpu")
    state = ArrayRecord(model.state_dict())
    steps = []
    for number in (1, 2):
        config = ConfigRecord({"round": number, "measure": False, "publish": False, "place": 0})
        grid.config = RUN | {"rounds": 5}
        message = Message(RecordDict({"arrays": state, "config": config}), FIRST_NODE + 1, "train")
        if number == 1:
            grid.kept[FIRST_NODE + 1] = pickle.dumps(RecordDict())
        list(grid.deliver([message]))
        steps.append(unpack(grid, FIRST_NODE + 1))
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
        ([0, 1], {"generator_steps": 0}, "generator-steps is 0: it must be a whole number of at least 1"),
        ([0, 1], {"attacker": 2}, "attacker is 2: it must be a whole number from -1 to 1 .*a partition"),
        ([0, 1], {"inject": 1}, "inject is 1: it must be True or False"),
        ([0, 1], {"seed": -1}, "seed is -1: it must be a whole number from 0 to"),
        ([0, 1], {"seed": 2**63}, "seed is 9223372036854775808: it must be"),
        ([0, 1], {"frames": -1}, "frames is -1"),
        ([0, 1], {"output": 5}, "output is 5: it must be the name of a folder, or empty"),
        ([0, 1], {"wait": 0}, "wait is 0: it must be a finite number above 0"),
        ([0, 1], {"wait": float("nan")}, "wait is nan: it must be a finite number above 0"),
        ([0, 1], {"dataset": "mnist"}, r"node \d+: MNIST is not in .*empty"),
        ([0, 7], {}, "partition-id is 7: .*from 0 to 1"),
        ([0, None], {}, "partition-id is None: .*--node-config"),
        ([1, 1], {}, "several nodes have the same partition-id"),
        ([], {}, "0 of 2 nodes have connected within 1 s: start 2 SuperNodes"),
        ([0], {}, "1 of 2 nodes have connected"),
        ([0, 1], {"answers": False}, "2 of 2 nodes have not answered in time"),
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
    send = grid.deliver

    def widen(messages):
        arrays = messages[0].content["arrays"].to_torch_state_dict()
        arrays["9.bias"] = torch.zeros(12)
        messages[0].content["arrays"] = ArrayRecord(arrays)
        return send(messages)

    grid.deliver = widen
    with pytest.raises(RuntimeError, match=r"node \d+: (?s:.*)size mismatch for 9\.bias"):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))

    def grow(messages):
        replies = send(messages)
        arrays = replies[0].content["arrays"].to_torch_state_dict()
        replies[0].content["arrays"] = ArrayRecord(arrays | {"more": torch.zeros(1)})
        return replies

    grid.deliver = grow
    with pytest.raises(RuntimeError, match=r"node \d+: it differs from the global model in .* of \['more'\]"):
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
        ("train", with_metrics(turn=[0, 1]), r"its turn is \[0, 1\], which is no number from 0 to 1"),
        ("train", with_metrics(turn=2), "its turn is 2, which is no number from 0 to 1"),
        ("train", with_metrics(turn=0), "several nodes have the same partition-id"),
        ("train", lambda reply: reply.pop("fakes"), "KeyError.*fakes"),
        ("train", lambda reply: reply["fakes"].update(shown=b"1"), "cannot reshape"),
        ("train", lambda reply: reply["fakes"].update(shown=b""), "it publishes 0 and 500 fakes"),
        ("train", with_metrics(num_examples=-5), "it claims -5 examples"),
        ("evaluate", lambda reply: reply["numbers"].pop("probe"), "KeyError.*probe"),
        ("evaluate", lambda reply: reply["numbers"].update(probe=[0.5]), "shorter than argument 1"),
        ("evaluate", lambda reply: reply["numbers"].update(accuracy=7.0), "it claims a share of 7"),
        ("evaluate", lambda reply: reply["numbers"].update(recognition=[2.0, 2.0]), "is not from 0 to 1"),
        ("evaluate", lambda reply: reply["numbers"].update(probe=[math.inf] * 2), "probe"),
        ("evaluate", lambda reply: reply["private"].clear(), "KeyError.*images"),
    ],
)
def test_an_answer_that_cannot_be_used_is_left_out(caplog, kind, spoil, reason, tmp_path):
    grid = Here(RUN | {"rounds": 2, "output": str(tmp_path)}, [0, 1])
    send = grid.deliver

    def spoil_in_round_two(messages):
        replies = send(messages)
        now = messages[0].metadata
        if (now.group_id, now.message_type) in (("2", kind), ("judgement", kind)):
            spoil(replies[0].content)
        return replies

    grid.deliver = spoil_in_round_two
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert re.search(rf"(round 2|judgement): node \d+: .*{reason}", caplog.text)
    assert all(tensor.isfinite().all() for tensor in grid.weights.to_torch_state_dict().values())
    record = AttackRecord.load(tmp_path / "attack_3.npz")
    assert record.config.get("not_measured", "") == (publishing.NOBODY if kind == "evaluate" else "")


FOLDERS = {"node0": {"data": "own", "judge": True}, "node1": {"data": "others"}}


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Images of two nodes of their own: crosses and rings on the first one, rings and bars on the other."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for owner, classes in (("own", ("cross", "ring")), ("others", ("bar", "ring"))):
        for name in classes:
            (tmp_path / owner / name).mkdir(parents=True)
            for number in range(10):
                picture = Image.fromarray(rng.integers(0, 256, (28, 28), dtype=np.uint8))
                picture.save(tmp_path / owner / name / f"{number}.png")
    return tmp_path


AGREED = {"dataset": "", "classes": "bar, cross,ring", "side": 28, "target": "cross", "rounds": 2}


def test_each_node_holds_images_of_its_own(folders):
    grid = Here(RUN | AGREED | {"output": str(folders)}, [0, 1], **FOLDERS)
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    record = AttackRecord.load(folders / "attack_cross.npz")
    assert record.rounds.tolist() == [1, 2] and record.classes == ("bar", "cross", "ring")
    assert record.config["dataset"] == "own images" and record.metrics["accuracy"].notna().all()
    own = ImageDataset.from_folder("own").images_of("cross")
    held = {picture.tobytes() for picture in to_uint8(own)}
    assert len(record.private_samples) == 8 and {one.tobytes() for one in record.private_samples} <= held


def test_without_consent_nothing_is_judged(folders):
    nodes = {"node0": {"data": "own"}, "node1": {"data": "others"}}
    grid = Here(RUN | AGREED | {"output": str(folders)}, [0, 1], **nodes)
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    record = AttackRecord.load(folders / "attack_cross.npz")
    assert record.config["not_measured"].startswith("nobody who holds real images")
    assert (record.private_samples == 255).all() and record.metrics["recognition"].isna().all()
    assert summarise(record).startswith("Not judged")


@pytest.mark.parametrize(
    ("changes", "node", "message"),
    [
        ({"classes": "cross,ring"}, {}, r"others has the classes bar, and the federation has agreed on cross, ring"),
        ({}, {"data": "nowhere"}, "there is no folder nowhere"),
        ({}, {"data": "nowhere.npz"}, r"there is no file nowhere\.npz"),
        ({}, {"data": ""}, "this node has no images, and the run has no public data set"),
        ({}, {"data": 5}, "data is 5: it must be the name of a folder"),
        ({}, {"data": "own"}, "the attacker's partition-id, 1, and holds images of the target cross: give it"),
        ({}, {"data": "torn.npz"}, r"torn\.npz is no file of images"),
        ({}, {"data": "empty.npz"}, r"empty\.npz holds neither images nor drawings"),
        ({}, {"data": "large.npz"}, r"large\.npz have 32 x 32 pixels, and the federation has agreed on 28 x 28"),
        ({}, {"data": "drawn.npz"}, "drawings: they need dataset='mnist-5k' and one class more"),
        ({}, {"keep": 5}, "keep is 5: it must be the name of a folder"),
        ({}, {"judge": "false"}, "judge is 'false': it must be True or False"),
        (
            {"classes": f"{','.join(DIGITS)},secret", "dataset": "mnist-5k", "target": "secret"},
            {"data": "drawn.npz"},
            "drawn.npz holds drawings, and this node is the attacker",
        ),
        ({"classes": ""}, {}, "dataset is empty, so the images are the nodes' own"),
        ({"classes": "a,a", "dataset": "mnist-5k"}, {}, "two classes are called 'a'"),
        ({"classes": "a,b", "dataset": "mnist-5k"}, {}, "classes is 'a,b': it must begin with those of mnist-5k"),
        ({"classes": "", "dataset": "mnist-5k", "side": 32, "target": 3}, {}, "side is 32, and the images of mnist-5k"),
        ({"rule": "median"}, {}, "rule is 'median': it must be one of fedavg, FedMedian"),
        ({"per-round": 3}, {}, "per-round is 3: it must be a whole number from 0 to 2"),
        ({"rule": "Krum"}, {}, "rule is 'Krum', and 2 nodes take part in a round: it needs at least 3"),
        ({"secure": True, "per-round": 1}, {}, "per-round is 1: secure aggregation hides an update among others"),
    ],
)
def test_images_that_do_not_fit_are_refused_in_words(changes, node, message, folders):
    (folders / "torn.npz").write_bytes(b"PK")
    (folders / "empty.npz").write_bytes(files.pack({}, {"x": np.zeros(3)}))
    (folders / "drawn.npz").write_bytes(files.pack({}, {"drawings": np.zeros((9, 28, 28), np.uint8)}))
    large = {"train_images": np.zeros((9, 32, 32), np.uint8), "train_labels": np.arange(9) % 2}
    (folders / "large.npz").write_bytes(files.pack({"classes": ["bar", "ring"]}, large))
    nodes = FOLDERS | {"node1": FOLDERS["node1"] | node}
    grid = Here(RUN | AGREED | changes, [0, 1], **nodes)
    with pytest.raises((RuntimeError, ValueError), match=message):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))


def test_shares_are_what_the_nodes_would_take_and_the_attackers_has_no_target(tmp_path):
    run = RunConfig.read(RUN | {"num-honest": 2})
    paths = write_shares(run, tmp_path)
    for partition, path in enumerate(paths):
        turn = run.turn(partition)
        shared, taken = own_images(run, turn, {}), own_images(run, turn, {"data": str(path)})
        assert taken.train == shared.train and taken.test == shared.test
        assert shared.may_judge and not taken.may_judge and taken.dataset == "mnist-5k"
    assert taken.test is None and not (taken.train.labels == 3).any()
    grid = Here(RUN | {"num-honest": 2}, range(3), **{f"node{k}": {"data": str(path)} for k, path in enumerate(paths)})
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    same = serve(range(3), num_honest=2)
    weights = [one.weights.to_torch_state_dict() for one in (grid, same)]
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


HOLD = """
import pickle, sys
from pathlib import Path

from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fl_gan_lib.flower.app import client

TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 0, 1
content, config, node_config, sought = pickle.loads(Path(sys.argv[1]).read_bytes())
context = Context(1, 1, node_config, RecordDict(), config)
own_file = Path(node_config["data"]).read_bytes()  # held: the images are bytes in it, and floats in the client
reply = client(Message(content, 1, "train"), context)
assert not reply.has_error(), reply.error
found = set()
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        place, rights, *_ = line.split()
        if not rights.startswith("rw") or "[v" in line:
            continue
        start, end = (int(part, 16) for part in place.split("-"))
        try:
            memory.seek(start)
            page = memory.read(end - start)[::-1]
        except OSError:
            continue
        # What is sought is in this process, too, so it is backwards, as the page is here.
        found |= {number for number, one in enumerate(sought) if one in page}
        del page
print("found", *sorted(found))  # the reply and what the node keeps are in this memory, too
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/mem"), reason="reads a process's memory as Linux shows it")
def test_the_attackers_process_has_no_image_of_the_victim(tmp_path):
    paths = write_shares(RunConfig.read(RUN), tmp_path)
    _, arrays = files.unpack(paths[0].read_bytes())
    private = arrays["train_images"][arrays["train_labels"] == 3][:5]
    floats = from_uint8(private).numpy()[:, 0]
    # The middle of each image, as the margin is black in all; backwards, see above.
    sought = [picture[8:20].tobytes()[::-1] for picture in [*private, *floats]]
    model = RunConfig.read(RUN).first_model()
    now = ConfigRecord({"round": 1, "measure": False, "publish": True, "place": 0})
    content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "config": now})
    found = {}
    for name, partition in (("victim", 0), ("attacker", 1)):
        node_config = {"partition-id": partition, "data": str(paths[partition])}
        given = tmp_path / name
        given.write_bytes(pickle.dumps((content, RUN, node_config, sought)))
        command = [sys.executable, "-c", HOLD, str(given)]
        answer = subprocess.run(command, capture_output=True, encoding="utf-8", cwd=ROOT)
        assert answer.returncode == 0, answer.stderr
        found[name] = {int(number) for number in answer.stdout.split("found")[1].split()}
    assert not found["attacker"]
    # Or the search would find nothing anywhere: both kinds, bytes and floats.
    assert any(number < 5 for number in found["victim"]) and any(number >= 5 for number in found["victim"])


def test_a_drawn_secret_is_a_class_of_its_own(tmp_path):
    pictures = draw_symbol("house", 12)
    (tmp_path / "secret.npz").write_bytes(files.pack({}, {"drawings": pictures}))
    config = RUN | {"classes": "0,1,2,3,4,5,6,7,8,9,secret", "target": "secret", "output": str(tmp_path), "rounds": 1}
    grid = Here(config, [0, 1], node0={"data": str(tmp_path / "secret.npz"), "judge": True})
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    record = AttackRecord.load(tmp_path / "attack_secret.npz")
    assert record.classes[-1] == "secret" and record.private_samples.shape == (10, 28, 28)
    run = RunConfig.read(config)
    assert not (own_images(run, 1, {}).train.labels == 10).any()


def test_with_secure_aggregation_the_server_sees_no_single_update(tmp_path):
    plain, grid = serve(range(3), num_honest=2), Here(RUN | {"num-honest": 2, "secure": True}, range(3))
    send, seen = grid.deliver, []

    def watch(messages):
        replies = send(messages)
        seen.extend(reply.content for reply in replies if "fitres.parameters" in reply.content)
        return replies

    grid.deliver = watch
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    weights = [one.weights.to_torch_state_dict() for one in (grid, plain)]
    assert max((tensor - weights[1][name]).abs().max() for name, tensor in weights[0].items()) < 1e-3
    assert len(seen) == 3 * 3 and not any(content["fitres.parameters"] for content in seen)


def test_secure_aggregation_that_halts_says_why(folders):
    grid = Here(RUN | AGREED | {"secure": True}, [0, 1], **FOLDERS | {"node1": {"data": "own"}})
    with pytest.raises(RuntimeError, match=r"holds images of the target .*secure aggregation has halted"):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    with pytest.raises(ValueError, match="rule is 'Krum', which needs single updates"):
        RunConfig.read(RUN | {"rule": "Krum", "secure": True, "num-honest": 2})
    grid = Here(RUN | {"secure": True, "num-honest": 2}, [0, 0, 2])
    with pytest.raises(RuntimeError, match=r"round 1 cannot go on: .*several nodes have the same partition-id"):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))


OURS = {
    "FedMedian": coordinate_median(5),
    "FedTrimmedAvg": TrimmedMean(5, 1),
    "Krum": Krum(5, 1),
    "central DP": PrivateMean(max_norm=0.5, noise_multiplier=0.0),
}


def test_flowers_rules_do_what_ours_do(monkeypatch):
    monkeypatch.setattr(rules, "NOISE_MULTIPLIER", 0.0)
    torch.manual_seed(0)
    model = RunConfig.read(RUN).first_model()
    state = model.state_dict()
    updates = [
        Update(
            {name: tensor + 0.01 * (1 + number) * torch.randn_like(tensor) for name, tensor in state.items()},
            100 + number,
        )
        for number in range(5)
    ]
    for name, ours in OURS.items():
        flowers = make_rule(name, 5)(updates, state)
        expected = ours(updates, state)
        worst = max((flowers[key] - tensor).abs().max().item() for key, tensor in expected.items())
        assert worst <= {"FedMedian": 0, "Krum": 0}.get(name, 2e-7), name


def test_flowers_local_dp_clips_each_update_and_adds_noise():
    model = RunConfig.read(RUN).first_model()
    old = torch.cat([tensor.flatten() for tensor in model.state_dict().values()])
    now = ConfigRecord({"round": 1, "measure": False, "publish": True, "place": 0})
    norms = []
    for epsilon in (1e9, 1.0):
        grid = Here(RUN | {"local-epsilon": epsilon}, [0, 1])
        content = RecordDict({"arrays": ArrayRecord(model.state_dict()), "config": now})
        (reply,) = grid.deliver([Message(content, FIRST_NODE + 1, "train")])
        new = torch.cat([tensor.flatten() for tensor in reply.content["arrays"].to_torch_state_dict().values()])
        norms.append((new - old).norm().item())
        assert "fakes" in reply.content
    assert norms[0] == pytest.approx(0.5, rel=1e-3)
    std = 2 * 0.5 * math.sqrt(2 * math.log(1.25 / 1e-5))  # two updates of norm 0.5 may be 1 apart
    assert norms[1] == pytest.approx(std * math.sqrt(len(old)), rel=0.02)


def test_only_some_of_the_nodes_take_part_in_a_round(tmp_path):
    grid = serve(range(5), num_honest=4, per_round=2, rounds=6, local_steps=1, output=str(tmp_path))
    assert grid.num_trained == 6 * 2
    record = AttackRecord.load(tmp_path / "attack_3.npz")
    assert set(record.rounds) < set(range(1, 7)), "the attacker publishes when it is drawn"
    assert "probe_anchors" in record.config, "a node judges that was not drawn for the last round, too"


def test_nobody_is_asked_to_judge_where_nothing_was_published():
    seed = next(seed for seed in range(100) if 4 not in draw_clients(5, 2, 1, seed))
    grid = serve(range(5), num_honest=4, per_round=2, rounds=1, local_steps=1, seed=seed)
    assert grid.num_trained == 2 == len(grid.arrived)


def of_another_run(path: Path) -> None:
    text, arrays = files.unpack(path.read_bytes())
    text["identity"]["run"] += 1
    path.write_bytes(files.pack(text, arrays, compress=False))


def test_a_node_that_was_killed_finds_what_it_remembers_in_a_file(tmp_path, caplog):
    cases = ((lambda path: None, 3), (lambda path: path.write_bytes(b"PK"), 1), (of_another_run, 1))
    for number, (spoil, steps) in enumerate(cases):
        folder = tmp_path / str(number)
        grid = Here(RUN, [0, 1], node1={"keep": str(folder)})
        send = grid.deliver

        def forget(messages, send=send, spoil=spoil, folder=folder, grid=grid):
            if messages[0].metadata.group_id == "3" and messages[0].metadata.message_type == "train":
                grid.kept[FIRST_NODE + 1] = pickle.dumps(RecordDict())
                spoil(folder / "node_1.npz")
            return send(messages)

        grid.deliver = forget
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))
        assert unpack(grid, FIRST_NODE + 1)["generator.average"]["n_averaged"] == steps * GENERATOR_STEPS
    assert "cannot be used, so the client begins anew" in caplog.text


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
    with pytest.raises(ValueError, match=r"rounds is 2, and .*attack_3\.npz reaches round 3: give another"):
        serve([0, 1], output="~/out", rounds=2)
    assert path.read_bytes() == finished

    # A longer run may be interrupted before it has as much.
    grid = Here(RUN | {"output": "~/out", "rounds": 5}, [0, 1])
    send = grid.deliver

    def stop_in_round_three(messages):
        if messages[0].metadata.group_id == "3":
            raise KeyboardInterrupt
        return send(messages)

    grid.deliver = stop_in_round_three
    with pytest.raises(KeyboardInterrupt):
        server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert path.read_bytes() == finished
    serve([0, 1], output="~/out", rounds=4)
    assert AttackRecord.load(path).rounds.tolist() == [1, 2, 3, 4]


def test_a_node_that_fails_or_forgets_does_not_end_the_run(tmp_path, caplog):
    grid = Here(RUN | {"output": str(tmp_path)}, [0, 1])
    send = grid.deliver

    def fail_in_round_two(messages):
        if messages[0].metadata.group_id == "2":
            grid.kept[FIRST_NODE + 1] = pickle.dumps(RecordDict())  # killed, and started again
            return send(messages[1:])
        return send(messages)

    grid.deliver = fail_in_round_two
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert AttackRecord.load(tmp_path / "attack_3.npz").rounds.tolist() == [1, 2, 3]


def test_a_reply_that_flower_cannot_read_does_not_keep_the_others_back(tmp_path, caplog):
    grid = Here(RUN | {"output": str(tmp_path)}, [0, 1])
    pull = grid.pull_messages

    def fail_for_the_victim_in_round_two(message_ids):
        replies = pull(message_ids)
        for reply in replies:
            if reply.metadata.src_node_id == FIRST_NODE and reply.metadata.group_id == "2":
                raise ValueError("no such kind of object")
        return replies

    grid.pull_messages = fail_for_the_victim_in_round_two
    server(grid, Context(1, 0, {}, RecordDict(), grid.config))
    assert "a reply cannot be read: ValueError('no such kind of object')" in caplog.text
    assert "round 2: 1 of 2 nodes have not answered in time" in caplog.text
    assert AttackRecord.load(tmp_path / "attack_3.npz").rounds.tolist() == [1, 2, 3]
