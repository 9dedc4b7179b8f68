"""What holds whatever the input, with hypothesis: some hundred cases in `make test`, and more than 10,000 with

HYPOTHESIS_PROFILE=long python -m pytest tests/test_properties.py --hypothesis-show-statistics
"""

import json
import os
import tempfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.extra import numpy as arrays_of

from fl_gan_lib.federation import Update, fedavg, federate
from fl_gan_lib.partitions import partition_by_label, partition_dirichlet, partition_iid
from fl_gan_lib.recording import files
from fl_gan_lib.recording.faults import FederationError, check_update
from fl_gan_lib.records import AttackRecord

set_hypothesis_home_dir(os.path.join(tempfile.gettempdir(), "hypothesis"))  # not the project's folder
for name, cases in {"few": 50, "long": 2000}.items():
    # However slow: other tests may be running beside these.
    quiet = {"deadline": None, "database": None, "suppress_health_check": [HealthCheck.too_slow]}
    settings.register_profile(name, max_examples=cases, **quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))

labels = arrays_of.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 5))
clients = st.integers(-1, 12)
seeds = st.integers(-1, 2**64)
holdings = st.none() | st.integers(-1, 7) | st.lists(st.sets(st.integers(0, 5)), max_size=6)
numbers = st.floats(-(2.0**53), 2.0**53) | st.just(float("nan"))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.text(max_size=8), json_values, max_size=4)
names = st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=12).filter("text".__ne__)
dtypes = (
    arrays_of.boolean_dtypes()
    | arrays_of.integer_dtypes(endianness="?")
    | arrays_of.unsigned_integer_dtypes(endianness="?")
    | arrays_of.floating_dtypes(endianness="?", sizes=(16, 32, 64))
    | arrays_of.complex_number_dtypes(endianness="?", sizes=(64, 128))
)
shapes = arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def check_partition(partition, labels, clients, *rest, seed):
    try:
        parts = partition(labels, clients, *rest, seed=seed)
    except ValueError:
        return
    assert len(parts) == clients and all(len(part) and part.dtype == np.int64 for part in parts)
    assert all((part[1:] > part[:-1]).all() for part in parts)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
    again = partition(labels, clients, *rest, seed=seed)
    assert all(np.array_equal(part, other) for part, other in zip(parts, again, strict=True))


@given(labels, clients, seeds)
def test_iid_shares_are_disjoint_complete_and_seeded(labels, clients, seed):
    check_partition(partition_iid, labels, clients, seed=seed)


@given(labels, clients, holdings, seeds)
def test_shares_by_label_are_disjoint_complete_and_seeded(labels, clients, holdings, seed):
    check_partition(partition_by_label, labels, clients, holdings, seed=seed)


@given(labels, clients, st.floats() | st.floats(0.01, 100), seeds)
def test_dirichlet_shares_are_disjoint_complete_and_seeded(labels, clients, alpha, seed):
    check_partition(partition_dirichlet, labels, clients, alpha, seed=seed)


@st.composite
def records(draw):
    def pixels(*shape):
        return draw(arrays_of.arrays(np.uint8, (*shape, 28, 28), elements=st.integers(0, 255), fill=st.just(0)))

    rounds = np.array(sorted(draw(st.sets(st.integers(1, 2**40), min_size=1, max_size=4))))
    columns = {"seconds", "accuracy", "gap_closed", "diversity"} | draw(st.sets(st.text(max_size=5), max_size=2))
    metrics = {name: draw(st.lists(numbers, min_size=len(rounds), max_size=len(rounds))) for name in sorted(columns)}
    metrics["recognition"] = draw(st.lists(st.floats(0, 1), min_size=len(rounds), max_size=len(rounds)))
    metrics["round"] = rounds
    config = draw(json_objects) | {"kind": draw(st.text()), "target": draw(st.integers(0, 9)), "dataset": "mnist-5k"}
    config |= {"rounds": draw(st.integers()), "seed": draw(st.integers())}
    samples = pixels(len(rounds), draw(st.integers(1, 3)))
    return AttackRecord(samples, pixels(2), pixels(1), rounds, pd.DataFrame(metrics), config)


def check_same(one, other):
    for name in ("samples", "final_samples", "private_samples", "rounds"):
        assert np.array_equal(getattr(one, name), getattr(other, name))
    pd.testing.assert_frame_equal(one.metrics, other.metrics, check_exact=True)
    assert json.dumps(one.config) == json.dumps(other.config)


@given(records())
def test_any_valid_record_comes_back_the_same(record):
    check_same(AttackRecord.loads(record.dumps()), record)


def check_refused_or_valid(content):
    try:
        record = AttackRecord.loads(content)
    except ValueError as error:
        assert "not a readable attack record" in str(error)
    else:
        check_same(AttackRecord.loads(record.dumps()), record)


@given(records(), st.data())
def test_a_record_with_changed_bytes_is_refused_or_valid(record, data):
    content = bytearray(record.dumps())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(content)))
        length = data.draw(st.sampled_from([0, 1, 2, 4, 100, len(content)]))
        content[start : start + length] = data.draw(st.binary(max_size=8))
    check_refused_or_valid(bytes(content))


@given(records(), st.data())
def test_a_record_with_changed_contents_is_refused_or_valid(record, data):
    text, arrays = files.unpack(record.dumps())
    place = data.draw(st.sampled_from([text, text["config"], text["metrics"]]))
    key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(json_values | st.lists(st.integers() | st.floats(), max_size=4))
    name = data.draw(st.sampled_from(sorted(arrays)))
    arrays[name] = data.draw(st.just(arrays[name]) | arrays_of.arrays(dtypes, shapes) | st.just(arrays[name][::-1]))
    check_refused_or_valid(files.pack(text, arrays))


@given(json_objects, st.dictionaries(names, arrays_of.arrays(dtypes, shapes), max_size=4), st.booleans())
def test_what_is_packed_is_unpacked_the_same(text, arrays, compress):
    same_text, same = files.unpack(files.pack(text, arrays, compress=compress))
    assert json.dumps(same_text) == json.dumps(text) and list(same) == list(arrays)
    for name, array in arrays.items():
        assert same[name].dtype == array.dtype and same[name].shape == array.shape
        assert same[name].tobytes() == array.tobytes()


weights = st.floats(-(2.0**100), 2.0**100, width=32)
examples = st.integers(1, 1_000_000)


def make_update(values, num_examples):
    return Update({"w": torch.tensor(values[:2]), "b": torch.tensor(values[2])}, num_examples)


updates = st.builds(make_update, st.lists(weights, min_size=3, max_size=3), examples)


@given(st.lists(updates, min_size=1, max_size=6))
def test_an_average_is_the_weighted_mean_and_lies_between_the_updates(updates):
    average = fedavg(updates)
    for name in average:
        states = np.stack([update.state[name].double().numpy() for update in updates])
        expected = np.average(states, axis=0, weights=[update.num_examples for update in updates])
        largest = np.abs(states).max(0)
        assert (np.abs(average[name].numpy() - expected) <= 1e-6 * largest + 1e-44).all()
        assert (average[name].numpy() <= states.max(0)).all() and (average[name].numpy() >= states.min(0)).all()


@given(updates, st.lists(examples, min_size=1, max_size=6))
def test_the_average_of_one_and_the_same_state_is_that_state_within_the_last_digit(update, counts):
    average = fedavg(Update(update.state, count) for count in counts)
    for name, tensor in update.state.items():
        torch.testing.assert_close(average[name], tensor, rtol=2e-7, atol=0)


anything = st.floats(width=32) | st.none() | st.text(max_size=3) | st.integers()
tensors = st.builds(torch.tensor, st.lists(st.floats(width=32), max_size=3) | st.floats(width=32) | st.integers(-9, 9))
strange = st.builds(
    Update, st.dictionaries(st.sampled_from(["weight", "bias", "w"]), tensors | anything), anything | examples
)
usable = st.builds(
    lambda values, count: Update({"weight": torch.tensor([values[:2]]), "bias": torch.tensor(values[2:])}, count),
    st.lists(weights, min_size=3, max_size=3),
    examples,
)


class Sending:
    """A client that has its update already."""

    def __init__(self, answer):
        self.answer = answer

    def fit(self, global_model, round):
        global_model.weight.data.fill_(torch.nan)  # whatever it does to what it received
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.filterwarnings("ignore:left out")
@given(st.lists(usable | strange | st.builds(OSError) | anything, min_size=1, max_size=5))
def test_a_round_is_the_average_of_what_can_be_used_and_the_rest_are_faults(answers):
    model = torch.nn.Linear(2, 1)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    good = []
    for answer in answers:
        try:
            check_update(answer, state)
        except Exception:
            continue
        good.append(answer)
    rounds = federate(model, [Sending(answer) for answer in answers], num_rounds=1)
    if good:
        assert len(next(rounds).faults) == len(answers) - len(good)
        state = fedavg(good)
    else:
        with pytest.raises(FederationError, match="round 1: no client has sent an update that can be used"):
            next(rounds)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())
