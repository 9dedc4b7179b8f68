import pytest
import torch

from fl_gan_lib.datasets import load_dataset
from fl_gan_lib.federation import Client, Update
from fl_gan_lib.models import Classifier
from fl_gan_lib.records import load_all_records
from fl_gan_lib.studies.defences import (
    ADAPTED,
    COMPARED,
    DEFENCES,
    FURTHER_RUNS,
    RECORDED,
    SETTINGS,
    WithholdingPrivateClient,
)
from fl_gan_lib.studies.detection import ATTACKERS, describe_updates
from fl_gan_lib.studies.jobs import compare


def test_each_kind_of_defence_runs_and_those_of_the_explorer_leave_a_record(tmp_path):
    names = ["DP-SGD, epsilon 1", "1 % of each update", "9 honest, Krum", "1 honest, noise at the clients"]
    options = {"digits": [7], "seeds": [0], "rounds": 1, "num_workers": 1}
    table = compare(DEFENCES, "defence", names, recorded=RECORDED, path=tmp_path / "defences.csv", **options)
    assert set(table["defence"]) == set(names) and (table["digit"] == 7).all() and (table["round"] == 1).all()
    assert table["probe"].notna().all() and table["accuracy"].between(0, 1).all()
    runs = load_all_records(tmp_path)
    assert {name for name, records in runs.items() if records} == {"1 percent of each update", "9 honest Krum"}


def test_each_inspected_update_is_a_row(tmp_path):
    options = {"digits": [7], "seeds": [1], "rounds": 6, "num_workers": 1}
    table = compare(ATTACKERS, "attacker", ["small updates"], path=tmp_path / "detection.csv", **options)
    places = [[number, client] for number in range(1, 7) for client in range(10)]
    assert table[["round", "client"]].values.tolist() == places
    assert table.loc[table["round"] == 6, "probe_run"].nunique() == 1 and table["probe_run"].count() == 10
    # In the last tenth, here round 6, the attacker is quiet; before, its update is as small as it wants.
    assert table["norm"].iloc[49] == pytest.approx(0.5, abs=1e-3)
    assert table["norm"].between(0.05, 5).all() and table["cosine"].between(-1, 1).all()


def test_what_a_server_sees_of_an_update():
    torch.manual_seed(0)
    state = Classifier().state_dict()

    def update(**changes: torch.Tensor) -> Update:
        return Update({name: state[name] + changes.get(name, 0) for name in state}, 1)

    ones = torch.full_like(state["7.weight"], 0.01)
    row = torch.zeros_like(state["9.bias"])
    row[10] = 2.0
    rows = torch.ones_like(state["9.weight"])
    rows[4] = 3.0
    updates = [
        update(**{"7.weight": ones}),
        update(**{"7.weight": ones, "9.weight": rows}),
        update(**{"7.weight": -ones, "9.weight": rows, "9.bias": row}),
    ]
    seen = describe_updates(updates, state, load_dataset()[1])
    assert seen["client"].tolist() == [0, 1, 2]
    assert seen["norm"].iloc[0] == pytest.approx(ones.norm().item(), rel=1e-3)
    one, two, three = (torch.cat([(each.state[name] - state[name]).flatten() for name in state]) for each in updates)
    assert seen["cosine"].iloc[2] == pytest.approx(
        torch.dot(three, one + two).item() / three.norm() / (one + two).norm()
    )
    assert seen["fake_bias"].tolist() == pytest.approx([0, 0, 2])
    assert seen["fake_row"].iloc[1] == pytest.approx(1, rel=1e-3)
    assert seen["largest_row"].iloc[1] == pytest.approx(3, rel=1e-3)
    assert seen["worst_digit"].between(0, 1).all()


def test_the_worst_digit_is_the_one_that_the_model_has_not_learned():
    train, test = load_dataset()
    torch.manual_seed(0)
    model = Classifier()
    state = dict(model.state_dict())
    without = train.subset(torch.where(train.labels != 7)[0])
    updates = [Client(data, local_steps=120, batch_size=64).fit(model, 1) for data in (train, without)]
    seen = describe_updates(updates, state, test)
    assert seen["worst_digit"].iloc[0] > 0.7 and seen["worst_digit"].iloc[1] == 0


def test_further_runs_stand_beside_the_others_and_leave_no_record(tmp_path):
    more = [("1 % of each update", 5, 0), ("none", 3, 2)]
    options = {"digits": [7], "seeds": [0], "rounds": 1, "num_workers": 1, "recorded": RECORDED, "more": more}
    table = compare(SETTINGS, "defence", ["1 % of each update"], path=tmp_path / "defences.csv", **options)
    runs = set(table[["defence", "digit", "seed"]].itertuples(index=False, name=None))
    assert runs == {("1 % of each update", 7, 0), *more}
    assert [path.name for path in tmp_path.glob("*_7.npz")] and not list(tmp_path.glob("*_[35].npz"))


def test_names_are_known_and_records_are_of_defences(tmp_path):
    assert set(ADAPTED) <= set(DEFENCES) and {*COMPARED, *(name for name, *_ in FURTHER_RUNS)} <= set(SETTINGS)
    assert len(set(FURTHER_RUNS)) == len(FURTHER_RUNS)
    assert not set(DEFENCES) & set(ATTACKERS) and set(RECORDED) <= set(DEFENCES)
    for settings in (DEFENCES, ATTACKERS):
        with pytest.raises(ValueError, match=r"unknown names \['nothing'\]: choose from"):
            compare(settings, "name", ["nothing"], digits=[3], path=tmp_path / "table.csv")


def test_a_private_client_that_withholds_a_class_never_trains_on_it():
    own = load_dataset()[0].subset(range(400))
    client = WithholdingPrivateClient(own, target=int(own.labels[0]), epsilon=8, num_rounds=1)
    assert set(client.private.dataset.labels.tolist()) == set(own.labels.tolist()) - {int(own.labels[0])}
    update = client.fit(Classifier(), 1)
    assert update.num_examples == 400 and client.private.spent > 0
