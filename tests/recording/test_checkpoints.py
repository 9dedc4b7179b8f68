import json
import os
import pickle
import shutil
import subprocess
import sys
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from interrupt import same

from fl_gan_lib import attack
from fl_gan_lib.attack import GANAttacker, run_attack
from fl_gan_lib.defences import DropoutClient, KeepLargest, PartialDownloadClient, PrivateClient
from fl_gan_lib.federation import federate
from fl_gan_lib.recording import files
from fl_gan_lib.recording.identity import describe
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.studies.variants import MLPGenerator, PartialDownloadAttacker

RUN = {"rounds": 4, "num_frames": 3, "progress": False, "device": "cpu"}


class PowerCut(Exception):
    """What an interruption looks like from within one process."""


@pytest.fixture
def interrupted(monkeypatch):
    """`run_attack` that ends in the middle of its third round."""

    def run(**options):
        def until_the_third(*args, **kwargs):
            for round in federate(*args, **kwargs):
                if round.number == 3:
                    raise PowerCut
                yield round

        with monkeypatch.context() as patch:
            patch.setattr(attack, "federate", until_the_third)
            with pytest.raises(PowerCut):
                run_attack(3, **(RUN | options))

    return run


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_honest": 3, "clients_per_round": 2, "make_honest": DropoutClient},
        {"make_honest": partial(PrivateClient, epsilon=8.0, num_rounds=4)},
        {
            "make_honest": partial(PartialDownloadClient, download_fraction=0.1),
            "make_attacker": partial(PartialDownloadAttacker, download_fraction=0.1, make_generator=MLPGenerator),
            "client_options": {"protect": KeepLargest(0.1)},
        },
    ],
    ids=["plain", "sampled clients", "DP-SGD", "partial sharing"],
)
def test_an_interrupted_run_goes_on_to_the_same_bits(interrupted, options, tmp_path, capsys):
    path = tmp_path / "new" / "attack_3.npz"
    interrupted(path=path, **options)
    assert not path.exists() and path.with_suffix(".partial").exists()
    seen = []
    record = run_attack(3, path=path, watch=lambda round, _: seen.append(round), **(RUN | options))
    assert seen == [3, 4] and "going on after round 2" in capsys.readouterr().out
    assert same(record, run_attack(3, **(RUN | options)))
    assert same(record, AttackRecord.load(path)) and not path.with_suffix(".partial").exists()
    assert (np.diff(record.metrics["seconds"]) > 0).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked")
def test_runs_that_are_ended_at_random_moments_lose_a_round_at_most_and_no_bit():
    script = Path(__file__).with_name("interrupt.py")
    answer = subprocess.run([sys.executable, script, "6"], capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    counts = json.loads(answer.stdout.replace("'", '"'))
    assert counts["kill -9"] + counts["Ctrl-C"] == 6 and counts["finished"] >= 1
    assert counts["rounds lost at a time"] <= 1


def test_an_interrupt_saves_the_record_so_far_and_the_run_can_still_go_on(monkeypatch, tmp_path):
    path = tmp_path / "attack_3.npz"

    def interrupt(round, _record):
        if round == 2:
            raise KeyboardInterrupt

    assert run_attack(3, path=path, watch=interrupt, **RUN).rounds.tolist() == [1, 2]
    assert AttackRecord.load(path).rounds.tolist() == [1, 2]
    assert run_attack(3, path=path, **RUN).rounds.tolist() == [1, 2, 4]


def test_a_record_that_reaches_further_is_not_replaced_by_that_of_an_interrupted_run(monkeypatch, tmp_path):
    path = tmp_path / "attack_3.npz"
    run_attack(3, path=path, **RUN)
    whole = path.read_bytes()

    def stop(*args, **kwargs):
        yield from islice(federate(*args, **kwargs), 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(attack, "federate", stop)
    assert run_attack(3, path=path, **RUN).rounds[-1] < 4
    assert path.read_bytes() == whole and path.with_suffix(".partial").exists()


@pytest.mark.parametrize("name", ["attack_3.partial", "attack_3", "attack_0.1"])
def test_a_record_has_a_name_of_its_own(tmp_path, name):
    with pytest.raises(ValueError, match=r"must end in \.npz"):
        run_attack(3, path=tmp_path / name, **RUN)


def test_another_run_is_not_mixed_with_an_unfinished_one(interrupted, tmp_path, monkeypatch):
    path = tmp_path / "attack_3.npz"
    interrupted(path=path)
    before = path.with_suffix(".partial").read_bytes()
    monkeypatch.setattr(GANAttacker, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=r"holds another run.*rounds is 4 there and 9 here, seed is 0 there"):
        run_attack(3, path=path, **(RUN | {"rounds": 9, "seed": 1}))
    assert path.with_suffix(".partial").read_bytes() == before


def test_functions_among_the_arguments_are_the_same_in_another_process():
    assert describe(run_attack) == "run_attack"


def test_two_runs_do_not_write_into_one_record(tmp_path):
    path = tmp_path / "attack_3.npz"

    def another(_round, _record):
        with pytest.raises(ValueError, match=r"another process is writing .*attack_3.npz: wait until it has ended"):
            run_attack(3, path=path, **RUN)

    run_attack(3, path=path, watch=another, **(RUN | {"rounds": 1}))


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(GANAttacker, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(OSError, match="file"):
        run_attack(3, path=tmp_path / "file" / "attack_3.npz", **RUN)


def test_half_written_files_of_a_killed_process_are_cleared_away(tmp_path):
    left = tmp_path / ".attack_3.partial.4711.tmp"
    left.touch()
    run_attack(3, path=tmp_path / "attack_3.npz", **(RUN | {"rounds": 1}))
    assert not left.exists()


FULL_DISK = """
import os, sys, warnings
from pathlib import Path
sys.path.insert(0, {tests!r})
from interrupt import same
from fl_gan_lib.attack import (run_attack)
from fl_gan_lib.records import (AttackRecord)
disk, run = Path({disk!r}), dict(rounds=3, num_frames=2, progress=False, device="cpu")
path = disk / "attack_3.npz"

def fill(round, _record):
    if round == 1:
        (disk / "other").write_bytes(bytes(os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize))

with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    first = run_attack(3, path=path, watch=fill, **run)
words = " ".join(str(warning.message) for warning in told)
assert "round 2 is not in" in words and "No space left on device" in words and "not saved" in words, words
assert sorted(os.listdir(disk)) == [".attack_3.lock", "attack_3.partial", "other"], os.listdir(disk)
(disk / "other").unlink()
seen = []
assert same(run_attack(3, path=path, watch=lambda round, _: seen.append(round), **run), first) and seen == [2, 3]
before = path.read_bytes()
fill(1, None)
first.metrics["noise"] = 0.5
try:
    first.save(path)
except OSError:
    assert path.read_bytes() == before and AttackRecord.load(path)
    print("survived")
"""


def test_a_full_disk_costs_nothing_that_was_written(tmp_path):
    mount = f"mount -t tmpfs -o size=30m none '{tmp_path}'"
    namespace = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    if not shutil.which("unshare") or subprocess.run([*namespace, mount], capture_output=True).returncode:
        pytest.skip("no small file system can be mounted here")
    code = FULL_DISK.format(disk=str(tmp_path), tests=str(Path(__file__).parent))
    command = [*namespace, f'{mount} && exec "$@"', "sh", sys.executable, "-c", code]
    answer = subprocess.run(command, capture_output=True, text=True)
    assert answer.stdout.endswith("survived\n"), answer.stderr


def rewrite(content: bytes, change) -> bytes:
    text, arrays = files.unpack(content)
    change(text, arrays)
    return files.pack(text, arrays, compress=False)


def change_client(change):
    """Change the text and the arrays of the last client's state."""

    def within(_text, arrays):
        content = rewrite(arrays["client_1"].tobytes(), change)
        arrays["client_1"] = np.frombuffer(content, np.uint8)

    return within


def reshape_a_moment(text, arrays):
    name = json.loads(text["states"])["optimizer"]["state"]["0"]["exp_avg"]["tensor"]
    arrays[name] = arrays[name][:1]


def another_schedule(text, _arrays):
    text["states"] = text["states"].replace('"last_epoch": ', '"last_epoch": "many", "x": ')


DAMAGE = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "flipped": lambda content: content[:5_000_000] + bytes([content[5_000_000] ^ 1]) + content[5_000_001:],
    "a pickle": lambda content: pickle.dumps({"version": 1}),
    "torch": lambda content: b"PK\x03\x04" + pickle.dumps(torch.zeros(3)),
    "version": lambda content: rewrite(content, lambda text, _: text.update(version=1)),
    "no config": lambda content: rewrite(content, lambda text, _: text.pop("config")),
    "round": lambda content: rewrite(content, lambda text, _: text.update(round="many")),
    "later round": lambda content: rewrite(content, lambda text, _: text.update(round=5)),
    "no state": lambda content: rewrite(content, change_client(lambda text, _: text.pop("states"))),
    "no generator": lambda content: rewrite(content, change_client(lambda text, _: text.update(states="{}"))),
    "schedule": lambda content: rewrite(content, change_client(another_schedule)),
    "shape": lambda content: rewrite(content, change_client(reshape_a_moment)),
    "an array less": lambda content: rewrite(content, change_client(lambda _, arrays: arrays.popitem())),
    "record": lambda content: rewrite(content, lambda _, arrays: arrays.update(record=np.zeros(9, np.uint8))),
}


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory) -> bytes:
    """A checkpoint after the first round."""
    path = tmp_path_factory.mktemp("unfinished") / "attack_3.npz"

    def interrupt(_round, _record):
        raise KeyboardInterrupt

    run_attack(3, path=path, watch=interrupt, **RUN)
    return path.with_suffix(".partial").read_bytes()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_nothing_is_trained(unfinished, damage, tmp_path, monkeypatch):
    path = tmp_path / "attack_3.npz"
    content = DAMAGE[damage](unfinished)
    path.with_suffix(".partial").write_bytes(content)
    monkeypatch.setattr(GANAttacker, "fit", lambda *_: pytest.fail("training has begun"))
    with pytest.raises(ValueError, match=r"attack_3.partial is damaged \(.*\): delete it to begin afresh"):
        run_attack(3, path=path, **RUN)
    assert path.with_suffix(".partial").read_bytes() == content


def test_every_flipped_bit_is_found_or_changes_nothing(unfinished, tmp_path):
    text, arrays = files.unpack(unfinished)
    rng = np.random.default_rng(0)
    found = 0
    for position in rng.integers(0, len(unfinished), 60):
        content = bytearray(unfinished)
        content[position] ^= 1 << int(rng.integers(8))
        try:
            read, other = files.unpack(bytes(content))
        except ValueError:
            found += 1
        else:
            assert read == text and all(np.array_equal(other[name], arrays[name]) for name in arrays)
    assert found > 50
