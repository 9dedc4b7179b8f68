"""What holds whatever the input, with hypothesis: some hundred cases in `make test`, and more than 10,000 with

HYPOTHESIS_PROFILE=long python -m pytest tests/test_properties.py --hypothesis-show-statistics
"""

import json
import os
import re
import tempfile
import unicodedata
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.extra import numpy as arrays_of
from PIL import Image

from fl_gan_lib.attack import GANAttacker, build_federation
from fl_gan_lib.data import ImageDataset, to_uint8
from fl_gan_lib.defences import ClipAndNoise, Krum, Quantise, TrimmedMean
from fl_gan_lib.federation import Client, Update, fedavg, federate
from fl_gan_lib.models import Classifier
from fl_gan_lib.partitions import partition_by_label, partition_dirichlet, partition_iid, split_participants
from fl_gan_lib.recording import files
from fl_gan_lib.recording.faults import FederationError, check_update
from fl_gan_lib.records import AttackRecord, load_records, record_path

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
    columns = {"seconds", "accuracy", "probe", "diversity"} | draw(st.sets(st.text(max_size=5), max_size=2))
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


# What a caller may give: families of mistakes, each with the right value beside it.

DATASET = ImageDataset(torch.zeros(12, 1, 16, 16) - torch.arange(12).view(-1, 1, 1, 1) / 12, torch.arange(12) % 3)
wrappers = st.sampled_from([int, np.int64, np.uint64, np.array, torch.tensor])
no_numbers = st.booleans() | st.floats() | st.text(max_size=5) | st.none() | st.lists(st.integers(), max_size=2)
file_names = (
    st.text(st.characters(codec="utf-8", exclude_characters="/\\\0"), min_size=1, max_size=40)
    .map(lambda name: unicodedata.normalize("NFC", name))
    .filter(lambda name: name.strip() and name.isprintable() and name[0] not in ".~" and len(name.encode()) < 120)
)


@given(st.lists(st.booleans(), max_size=20), st.sampled_from([list, np.array, torch.tensor]))
def test_a_mask_picks_what_it_marks_or_is_refused(mask, make):
    if len(mask) == len(DATASET):
        assert DATASET.subset(make(mask)) == DATASET.subset(np.flatnonzero(mask))
    elif mask:  # an empty list is a list of no indices
        with pytest.raises(ValueError, match=f"mask is for {len(mask)} images, and there are 12"):
            DATASET.subset(make(mask))


@given(st.lists(st.integers(-20, 20), max_size=20))
def test_indices_pick_what_they_name_or_are_refused(indices):
    if all(0 <= index < 12 for index in indices):
        part = DATASET.subset(indices)
        assert torch.equal(part.labels, torch.tensor([index % 3 for index in indices], dtype=torch.long))
    else:
        with pytest.raises(ValueError, match="they must be from 0 to 11"):
            DATASET.subset(indices)


@given(st.integers(0, 5), st.integers(0, 5), st.integers(-1, 4), st.integers(0, 5))
def test_images_labels_and_names_fit_each_other_or_are_refused(num_images, num_labels, label, num_names):
    fits = num_images == num_labels and (not num_labels or 0 <= label < num_names)
    parts = torch.zeros(num_images, 1, 16, 16), torch.full((num_labels,), label), tuple("abcde"[:num_names])
    if fits:
        assert len(ImageDataset(*parts)) == num_images
    else:
        with pytest.raises(ValueError, match=r"labels|label|names|name"):
            ImageDataset(*parts)


@given(st.floats(-300, 300), st.floats(-300, 300))
def test_images_are_in_range_or_refused(low, high):
    images = torch.zeros(1, 1, 16, 16)
    images[0, 0, 0, :2] = torch.tensor([low, high])
    if images.abs().max() <= 1:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            ImageDataset(images, torch.tensor([0]))
        assert bool(said) == bool(images.min() >= 0 and images.max() > 0)
    else:
        with pytest.raises(ValueError, match=r"they must be in \[-1, 1\]"):
            ImageDataset(images, torch.tensor([0]))


# Where whole numbers enter: what they are called, the smallest and the largest that are allowed, and who takes them.
WHOLE_NUMBERS = [
    ("local_steps", 1, None, lambda value: Client(DATASET, local_steps=value)),
    ("batch_size", 1, None, lambda value: Client(DATASET, batch_size=value)),
    ("num_rounds", 1, None, lambda value: federate(Classifier(4, side=16), [Client(DATASET)], num_rounds=value)),
    ("clients_per_round", 1, 1, lambda value: start(clients_per_round=value)),
    ("rounds_done", 0, 1, lambda value: start(rounds_done=value)),
    ("num_clients", 1, 12, lambda value: partition_iid(DATASET.labels, value)),
    ("labels_per_client", 3, 3, lambda value: partition_by_label(DATASET.labels, 1, value)),
    ("num_honest", 1, None, lambda value: split_participants(MANY.labels, 0, num_classes=3, num_honest=value)),
    ("generator_steps", 1, None, lambda value: GANAttacker(OTHERS, 0, num_rounds=2, generator_steps=value)),
    ("fake_label", 1, 3, lambda value: GANAttacker(OTHERS, 0, num_rounds=2, fake_label=value)),
    ("num_honest", 1, None, lambda value: build_federation(MANY, 0, num_rounds=1, device="cpu", num_honest=value)),
    ("num_outputs", 2, None, lambda value: Classifier(value, side=16)),
    ("bits", 2, 32, Quantise),
    ("num_trimmed", 1, 2, lambda value: TrimmedMean(5, value)),
    ("num_malicious", 1, 1, lambda value: Krum(5, value)),
]
OTHERS, MANY = DATASET.subset(DATASET.labels != 0), DATASET.subset(np.arange(132) % 12)


def start(**options):
    return federate(Classifier(4, side=16), [Client(DATASET)], num_rounds=1, **options)


@pytest.mark.parametrize(
    ("name", "least", "most", "take"), WHOLE_NUMBERS, ids=lambda value: value if type(value) is str else ""
)
@given(value=st.integers(-5, 40), wrap=wrappers)
def test_a_whole_number_is_taken_from_any_library_or_refused_by_name(name, least, most, take, value, wrap):
    if value < 0 and wrap is np.uint64:
        return
    if value >= least and (most is None or value <= most):
        take(wrap(value))
    else:
        with pytest.raises(ValueError, match=re.escape(name)):
            take(wrap(value))


@pytest.mark.parametrize(
    ("name", "least", "most", "take"), WHOLE_NUMBERS, ids=lambda value: value if type(value) is str else ""
)
@given(value=no_numbers)
def test_what_is_no_whole_number_is_refused_by_name(name, least, most, take, value):
    if value is None and name in ("clients_per_round", "labels_per_client", "fake_label"):
        return  # the default
    with pytest.raises(ValueError, match=name):
        take(value)


@given(st.floats() | st.booleans() | st.text(max_size=3) | st.none() | st.just([0.5]))
def test_a_real_number_is_taken_or_refused_by_name(value):
    for name, least, take in (
        ("alpha", 0, lambda number: partition_dirichlet(DATASET.labels, 1, number)),
        ("learning_rate", 0, lambda number: Client(DATASET, learning_rate=number)),
        ("max_norm", 0, lambda number: ClipAndNoise(number, 0.0)),
    ):
        if type(value) is float and least < value < np.inf:
            take(value), take(np.float64(value)), take(torch.tensor(value, dtype=torch.float64))
        else:
            with pytest.raises(ValueError, match=name):
                take(value)


@given(file_names, file_names)
def test_a_record_survives_any_path_and_any_name_of_a_class(folder, name):
    record = AttackRecord(
        samples=np.zeros((1, 2, 16, 16), np.uint8),
        final_samples=np.zeros((2, 16, 16), np.uint8),
        private_samples=np.zeros((1, 16, 16), np.uint8),
        rounds=np.array([1]),
        metrics=pd.DataFrame([dict.fromkeys(("round", "seconds", "accuracy", "recognition", "probe", "diversity"), 1)]),
        config={"kind": "attack", "target": 1, "dataset": "d", "rounds": 1, "seed": 0, "classes": [name + "x", name]},
    )
    with tempfile.TemporaryDirectory() as root:
        path = record.save(record_path(os.path.join(root, folder), record.target_name))
        assert AttackRecord.load(path) == record == load_records(os.path.join(root, folder))[1]


@given(st.lists(file_names, min_size=2, max_size=3, unique_by=str.casefold))
def test_a_folder_of_images_may_have_any_names(classes):
    with tempfile.TemporaryDirectory() as root:
        for grey, name in enumerate(classes):
            os.makedirs(os.path.join(root, name))
            Image.new("L", (16, 16), grey).save(os.path.join(root, name, f"{name[:20]}.png"))
        dataset = ImageDataset.from_folder(root, side=16)
    assert sorted(dataset.classes) == sorted(classes)
    for grey, name in enumerate(classes):
        assert (to_uint8(dataset.images_of(name)) == grey).all()
