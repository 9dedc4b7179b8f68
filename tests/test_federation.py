import copy
import gc
import re
import sys
import weakref

import pytest
import torch

from fl_gan_lib.federation import Client, FederationError, Round, Update, fedavg, federate
from fl_gan_lib.metrics import accuracy
from fl_gan_lib.models import Classifier


def make_update(value: float, num_examples: int) -> Update:
    return Update({"w": torch.full((2, 3), value), "steps": torch.tensor(int(value))}, num_examples)


def states_equal(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_one_client_is_the_identity():
    state = Classifier().state_dict()
    assert states_equal(fedavg([Update(state, 7)]), state)


def test_equal_weights_match_a_hand_mean():
    states = [Classifier().state_dict() for _ in range(3)]
    average = fedavg(Update(state, 5) for state in states)
    for name, mean in average.items():
        torch.testing.assert_close(mean, torch.stack([state[name] for state in states]).mean(0))


def test_weights_are_numbers_of_examples_and_dtypes_stay():
    average = fedavg([make_update(0, 1), make_update(4, 3)])
    assert torch.equal(average["w"], torch.full((2, 3), 3.0))
    assert average["steps"].dtype == torch.int64 and average["steps"] == 3


def test_fedavg_holds_one_update_at_a_time():
    alive: list[weakref.ref] = []

    def updates():
        for value in range(5):
            gc.collect()
            assert sum(ref() is not None for ref in alive[:-1]) == 0
            update = make_update(value, 1)
            alive.append(weakref.ref(update))
            yield update
            del update

    assert fedavg(updates())["w"][0, 0] == 2


@pytest.mark.parametrize(
    ("updates", "message"),
    [
        ([], "no update"),
        ([make_update(1, 0)], "num_examples of update 0 is 0"),
        ([make_update(1, 1), Update({"w": torch.zeros(2, 3).long()}, 1)], r"update 1 .*\['steps'\]"),
        ([make_update(1, 1), Update({"w": torch.zeros(2), "steps": torch.tensor(1)}, 1)], r"update 1 .*\['w'\]"),
    ],
)
def test_updates_that_cannot_be_averaged_are_refused(updates, message):
    with pytest.raises(ValueError, match=message):
        fedavg(updates)


def test_a_client_leaves_the_received_model_untouched_and_reports_what_it_did(tiny_dataset):
    model = Classifier()
    before = copy.deepcopy(model.state_dict())
    update = Client(tiny_dataset, local_steps=3).fit(model, 1)
    assert states_equal(model.state_dict(), before)
    assert not states_equal(update.state, before)
    assert update.num_examples == len(tiny_dataset) and update.metrics["loss"] > 0


def test_one_client_with_one_step_is_one_step_of_adam(tiny_dataset):
    model = Classifier()
    reference = copy.deepcopy(model)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3)
    torch.nn.functional.cross_entropy(reference(tiny_dataset.images), tiny_dataset.labels).backward()
    optimizer.step()
    list(federate(model, [Client(tiny_dataset, local_steps=1, batch_size=100)], num_rounds=1))
    for name, tensor in model.state_dict().items():
        # On average over the weights: where a gradient is nearly 0, Adam's first step is the sign of its rounding.
        assert (tensor - reference.state_dict()[name]).abs().mean() < 1e-5


def run(tiny_dataset, *, disturb: bool = False, seed: int = 0) -> dict:
    torch.manual_seed(0)
    model = Classifier()
    for _ in federate(model, [Client(tiny_dataset), Client(tiny_dataset)], num_rounds=3, seed=seed):
        if disturb:
            torch.randn(1000)
    return model.state_dict()


def test_same_seed_same_bits_whatever_the_caller_does_in_between(tiny_dataset):
    state = run(tiny_dataset)
    assert states_equal(state, run(tiny_dataset, disturb=True))
    assert not states_equal(state, run(tiny_dataset, seed=1))


def test_federate_yields_round_by_round_and_spares_the_callers_random_state(tiny_dataset):
    model = Classifier()
    clients = [Client(tiny_dataset), Client(tiny_dataset)]
    rounds = federate(model, clients, num_rounds=5, evaluate=lambda m: accuracy(m, tiny_dataset))
    before = copy.deepcopy(model.state_dict())
    random_state = torch.get_rng_state()
    first = next(rounds)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert first.number == 1 and 0 <= first.accuracy <= 1 and first.seconds > 0
    assert len(first.client_metrics) == 2
    after_one = copy.deepcopy(model.state_dict())
    assert not states_equal(before, after_one)
    assert next(rounds).number == 2
    assert not states_equal(after_one, model.state_dict())


def test_the_server_draws_who_takes_part_each_time_anew_and_the_same_for_the_same_seed(tiny_dataset):
    def taking_part(seed):
        clients = [Counting(tiny_dataset, local_steps=1) for _ in range(5)]
        rounds = list(federate(Classifier(), clients, num_rounds=40, clients_per_round=2, seed=seed))
        assert {len(round.client_metrics) for round in rounds} == {2}
        return [client.rounds for client in clients]

    drawn = taking_part(0)
    assert sum(map(len, drawn)) == 80 and all(5 <= len(rounds) <= 30 for rounds in drawn)
    assert drawn == taking_part(0) != taking_part(1)


class Counting(Client):
    """Writes down the rounds that it takes part in."""

    def fit(self, global_model, round):
        self.rounds = [*getattr(self, "rounds", []), round]
        return super().fit(global_model, round)


def test_bad_arguments_are_refused_before_any_training(tiny_dataset):
    with pytest.raises(ValueError, match="at least one client"):
        federate(Classifier(), [], num_rounds=1)
    with pytest.raises(ValueError, match="num_rounds is 0"):
        federate(Classifier(), [Client(tiny_dataset)], num_rounds=0)
    with pytest.raises(ValueError, match="clients_per_round is 2: it must be a whole number from 1 to 1"):
        federate(Classifier(), [Client(tiny_dataset)], num_rounds=1, clients_per_round=2)
    with pytest.raises(ValueError, match="rounds_done is 2: it must be a whole number from 0 to 1"):
        federate(Classifier(), [Client(tiny_dataset)], num_rounds=1, rounds_done=2)
    with pytest.raises(ValueError, match="at least one image"):
        Client(tiny_dataset.subset([]))


def test_a_federation_learns_to_read(tiny_dataset):
    from fl_gan_lib.datasets import load_dataset
    from fl_gan_lib.partitions import partition_iid

    train, test = load_dataset()
    torch.manual_seed(0)
    model = Classifier()
    clients = [Client(train.subset(part)) for part in partition_iid(train.labels, 2)]
    *_, last = federate(model, clients, num_rounds=12, evaluate=lambda m: accuracy(m, test))
    assert last.accuracy > 0.85


def test_a_client_sends_what_its_protection_leaves_of_the_change(tiny_dataset):
    torch.manual_seed(0)
    model, seen = Classifier(), []

    def halve(change):
        seen.extend(change)
        return [tensor / 2 for tensor in change]

    torch.manual_seed(1)
    plain = Client(tiny_dataset).fit(model, 1).state
    torch.manual_seed(1)
    protected = Client(tiny_dataset, protect=halve).fit(model, 1).state
    before = model.state_dict()
    for name, change in zip(plain, seen, strict=True):
        torch.testing.assert_close(change, plain[name] - before[name])
        torch.testing.assert_close(protected[name], before[name] + change / 2)


def test_the_server_may_aggregate_in_another_way(tiny_dataset):
    model = Classifier()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def nothing(updates, state):
        assert len(updates) == 2 and all(torch.equal(state[name], before[name]) for name in before)
        return state

    for _ in federate(model, [Client(tiny_dataset), Client(tiny_dataset)], num_rounds=1, aggregate=nothing):
        pass
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class Faulty(Client):
    """In rounds 2 and 3 it hands its update to `spoil` before it sends it."""

    spoil = staticmethod(lambda update: update)

    def fit(self, global_model, round):
        update = super().fit(global_model, round)
        return self.spoil(update) if round in (2, 3) else update


def with_state(change):
    def spoil(update):
        change(update.state)
        return update

    return spoil


def raises(_update):
    raise KeyError("the disk of this client")


FAULTS = {
    "raises": (raises, r"KeyError\('the disk of this client'\)"),
    "NaN": (with_state(lambda state: state["0.weight"].view(-1)[7].fill_(torch.nan)), r"NaN or infinity in \['0.wei"),
    "infinity": (with_state(lambda state: state["9.bias"].fill_(-torch.inf)), r"NaN or infinity in \['9.bias'\]"),
    "missing": (with_state(lambda state: state.pop("9.bias")), r"differs .* of \['9.bias'\]"),
    "extra": (with_state(lambda state: state.update({"10.bias": torch.zeros(3)})), r"differs .* of \['10.bias'\]"),
    "shape": (with_state(lambda state: state.update({"9.bias": torch.zeros(1, 11)})), r"differs .* of \['9.bias'\]"),
    "type": (with_state(lambda state: state.update({"9.bias": torch.zeros(11).int()})), r"differs .* of \['9.bias'\]"),
    "no tensor": (
        with_state(lambda state: state.update({"9.bias": [0.0] * 11})),
        "its state has values of type Tensor, list",
    ),
    "no update": (lambda update: update.state, r"fit returned something of type dict: it must return an Update\(state"),
    "none": (lambda update: None, "fit returned something of type NoneType"),
    "negative": (lambda update: Update(update.state, -5), "claims -5 examples"),
    "zero": (lambda update: Update(update.state, 0), "claims 0 examples"),
    "absurd": (lambda update: Update(update.state, 10**12), "claims 1000000000000 examples.* to 1,000,000"),
    "fraction": (lambda update: Update(update.state, 2.5), "claims 2.5 examples"),
    "NaN examples": (lambda update: Update(update.state, float("nan")), "claims nan examples"),
    "a word": (lambda update: Update(update.state, "many"), "claims 'many' examples"),
    "layout": (
        with_state(lambda state: state.update({"9.weight": state["9.weight"].to_sparse()})),
        r"differs .* of \['9.weight'\]",
    ),
    "exits": (lambda update: sys.exit("enough"), r"SystemExit\('enough'\)"),
}


@pytest.mark.filterwarnings("ignore:left out")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_and_the_round_goes_on_as_if_the_client_had_not_taken_part(tiny_dataset, fault):
    spoil, reason = FAULTS[fault]

    def run(num_faulty: int) -> tuple[Classifier, list[Round]]:
        torch.manual_seed(0)
        model, clients = Classifier(), [Client(tiny_dataset), Client(tiny_dataset)]
        faulty = [Faulty(tiny_dataset) for _ in range(num_faulty)]
        for client in faulty:
            client.spoil = spoil
        return model, list(federate(model, clients + faulty, num_rounds=3, rounds_done=1))

    (model, rounds), (without, _) = run(1), run(0)
    assert states_equal(model.state_dict(), without.state_dict())
    assert [[(fault.round, fault.client) for fault in round.faults] for round in rounds] == [[(2, 2)], [(3, 2)]]
    assert all(re.search(reason, fault.reason) for round in rounds for fault in round.faults)
    assert [len(round.client_metrics) for round in rounds] == [2, 2]


def test_a_client_that_spoils_the_model_it_received_spoils_its_own_copy(tiny_dataset):
    class Spoiling(Client):
        def fit(self, global_model, round):
            global_model[0].weight.data.fill_(torch.nan)
            raise RuntimeError("too late")

    torch.manual_seed(0)
    model = Classifier()
    with pytest.warns(RuntimeWarning, match=r"left out: round 1, client 0: RuntimeError\('too late'\)"):
        list(federate(model, [Spoiling(tiny_dataset), Client(tiny_dataset)], num_rounds=1))
    assert all(tensor.isfinite().all() for tensor in model.state_dict().values())


def test_a_client_may_train_the_model_that_it_received(tiny_dataset):
    class InPlace(Client):
        def fit(self, global_model, round):
            global_model[-1].bias.data.fill_(round)
            global_model.requires_grad_(False)
            return Update(global_model.state_dict(), 1)

    model = Classifier()
    list(federate(model, [InPlace(tiny_dataset)], num_rounds=2))
    assert (model[-1].bias == 2).all() and model[-1].bias.requires_grad


@pytest.mark.filterwarnings("ignore:left out")
def test_when_all_fail_the_run_ends_with_the_last_good_model(tiny_dataset):
    clients = [Faulty(tiny_dataset) for _ in range(7)]
    for client in clients:
        client.spoil = raises
    model, after = Classifier(), {}
    with pytest.raises(FederationError, match=r"round 2: no client .*client 4: KeyError.*; and 2 more\).*round 1"):
        for _ in federate(model, clients, num_rounds=5):
            after = copy.deepcopy(model.state_dict())
    assert states_equal(model.state_dict(), after)
