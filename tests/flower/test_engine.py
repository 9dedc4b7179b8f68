"""The attack on Flower's own engine, simulated and deployed: the same pictures and numbers as in one process."""

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import ExitStack

import numpy as np
import pandas as pd
import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from cryptography import x509
from flwr.cli.flower_config import read_superlink_connection
from flwr.common.config import parse_config_args

from fl_gan_lib import judge, metrics
from fl_gan_lib.attack import run_attack
from fl_gan_lib.flower import keys
from fl_gan_lib.flower.engine import connect, deploy, deployment, run, simulate, superlink, supernode
from fl_gan_lib.flower.keys import make_keys
from fl_gan_lib.records import AttackRecord


@pytest.fixture(scope="module")
def one_thread():
    """Another number of threads gives other bits, of the judge as well."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    judge._judges.clear(), metrics._named_yardsticks.cache_clear()
    yield
    torch.set_num_threads(threads)
    judge._judges.clear(), metrics._named_yardsticks.cache_clear()


# A simulation of two nodes is compared in notebook 07.
@pytest.mark.parametrize(("engine", "num_nodes"), [(simulate, 5), (deploy, 2)])
def test_the_engine_ends_in_the_same_bits_as_one_process(engine, num_nodes, one_thread, tmp_path):
    run_options = {"rounds": 2, "local_steps": 2, "frames": 0, "wait": 300.0}  # on a busy machine too
    record = engine(3, output=tmp_path / "Über o'clock", num_nodes=num_nodes, progress=False, **run_options)
    options = {"client_options": {"local_steps": 2}, "device": "cpu", "progress": False}
    expected = run_attack(3, num_honest=num_nodes - 1, rounds=2, num_frames=0, **options)
    for name in ("samples", "final_samples", "private_samples", "rounds"):
        assert np.array_equal(getattr(record, name), getattr(expected, name)), name
    # The node that judges compares the fakes with its own images, and `run_attack` with those of all honest clients.
    other = {"seconds"} if num_nodes == 2 else {"seconds", "copy_ratio"}
    same = [column for column in expected.metrics if column not in other]
    pd.testing.assert_frame_equal(record.metrics[same], expected.metrics[same])


def test_a_node_that_is_killed_and_started_again_goes_on(tmp_path):
    home = tmp_path / "flower"
    config = {"target": 3, "rounds": 4, "local_steps": 1, "frames": 1, "output": str(tmp_path)}
    log = []
    told = {"keep": tmp_path / "kept"}
    with deployment(home, [{}, told]) as (address, nodes), ExitStack() as restarted:
        for line in run(home, config):
            log.append(line)
            if "round 1/4: " in line:
                os.killpg(nodes[1].pid, signal.SIGKILL)
                nodes[1].wait()
                so_far = AttackRecord.load(tmp_path / "attack_3.npz")
            elif "round" in line and nodes[-1].poll() is not None:
                # Flower refuses a second node with the same key until it has missed two heartbeats of the first.
                nodes.append(restarted.enter_context(supernode(home, 1, address, **told)))
    assert so_far.rounds.tolist() == [1]
    record = AttackRecord.load(tmp_path / "attack_3.npz")
    assert record.rounds[0] == 1 and record.rounds[-1] == 4, "\n".join(log)
    assert np.array_equal(record.samples[0], so_far.samples[0])
    assert "Node Unavailable" in "\n".join(log)
    assert "begins anew" not in (home / "node_1.log").read_text(encoding="utf-8")


def test_a_run_that_fails_says_why(tmp_path):
    with superlink(tmp_path, "--insecure") as address:
        connect(tmp_path, address)
        with pytest.raises(RuntimeError, match="attacker is 7: it must be a whole number from -1 to 1 "):
            list(run(tmp_path, {"attacker": 7}))


@pytest.mark.parametrize("engine", [simulate, deploy])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target": 12}, "the target is 12: it must be one of the classes"),
        ({"num_nodes": 1}, "num_nodes is 1: it must be a whole number of at least 2 .*the attacker"),
        ({"num_nodes": 2.0}, r"num_nodes is 2\.0: "),
        ({"rounds": 0}, "rounds is 0"),
        ({"rounds": 3.0}, r"rounds is 3\.0: it must be a whole number"),
        ({"rounds": None}, "rounds is None: it must be a whole number"),
        ({"attacker": 2}, "attacker is 2"),
        ({"inject": "false"}, "inject is 'false': it must be True or False"),
        ({"round": 3}, r"round cannot be given here: give some of attacker, .*, rounds, "),
        ({"num_honest": 3}, r"num-honest cannot be given here: .*num_nodes"),
        ({"output": "out\udcff"}, r"output is '.*out\\udcff': Flower passes on Unicode alone"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_started(engine, changes, message, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        engine(**{"output": "out", "progress": False} | changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("engine", [simulate, deploy])
def test_a_shorter_run_does_not_replace_a_finished_record(engine, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "out" / "attack_3.npz"
    run_attack(3, rounds=2, num_frames=1, device="cpu", progress=False, path=path)
    finished = path.read_bytes()
    with pytest.raises(
        ValueError, match=r"rounds is 1, and the record in .*attack_3\.npz reaches round 2: .*delete it"
    ):
        engine(3, output="~/out", rounds=1, progress=False)
    assert path.read_bytes() == finished and not (tmp_path / "out" / "flower").exists()


AWKWARD = '/o\'clock "x=1" back\\slash Übung \U0001f600\n#.toml'


def test_a_path_with_any_signs_is_what_flower_reads(tmp_path, monkeypatch):
    connect(tmp_path, "127.0.0.1:9093", root_certificates=AWKWARD)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    link = read_superlink_connection("here")
    assert (link.address, link.root_certificates) == ("127.0.0.1:9093", AWKWARD)

    def refuse(command, **options):
        raise OSError(command[command.index("--run-config") + 1])

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(OSError) as started:
        list(run(tmp_path, {"target": 3, "output": AWKWARD, "inject": True, "wait": 1.5, "local_steps": 2}))
    text = str(started.value)
    expected = {"target": 3, "output": AWKWARD, "inject": True, "wait": 1.5, "local-steps": 2}
    assert parse_config_args([text]) == expected and text.isascii()


def test_no_locale_spoils_a_path(tmp_path):
    """As on Windows, where files are not in UTF-8 unless one says so."""
    code = """
import sys
from pathlib import Path
from fl_gan_lib.flower.engine import _tail, connect, flwr
home, log = Path(sys.argv[1]), Path(sys.argv[1], "x.log")
connect(home, "x:1", root_certificates="/\\u00dcbung/ca.crt")
log.write_bytes("\\u00dcbung".encode())
print(ascii(_tail(log)), len(flwr(home, "--help")) > 100)
"""
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-c", code, str(tmp_path)]
    answer = subprocess.run(command, env=os.environ | locale, capture_output=True, encoding="utf-8")
    assert answer.stdout == "'\\xdcbung' True\n", answer.stderr
    config = tomllib.loads((tmp_path / "config.toml").read_text(encoding="utf-8"))
    assert config["superlink"]["here"]["root-certificates"] == "/Übung/ca.crt"


def test_a_superlink_that_is_not_there_is_said_within_30_seconds(tmp_path):
    make_keys(tmp_path / "keys")
    start = time.monotonic()
    with supernode(tmp_path, 0, "127.0.0.1:1") as node:
        connect(tmp_path, "127.0.0.1:1")
        with pytest.raises(RuntimeError, match=r"127\.0\.0\.1:1"):
            list(run(tmp_path, {}))
        assert node.wait(30) != 0
    assert time.monotonic() - start < 30
    assert re.search("onnect", (tmp_path / "node_0.log").read_text(encoding="utf-8"))


def test_keys_are_made_once_and_are_readable_for_nobody_else(tmp_path):
    folder = make_keys(tmp_path / "keys", num_nodes=3)
    assert {path.name for path in folder.iterdir()} == {
        "ca.crt",
        "server.crt",
        "server.key",
        *(f"node_{number}{end}" for number in range(3) for end in ("", ".pub")),
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    with pytest.raises(FileExistsError, match="take another folder"):
        make_keys(folder)
    for number in (0, 2.0, True):
        with pytest.raises(ValueError, match=f"num_nodes is {number}: it must be a whole number of at least 1"):
            make_keys(tmp_path / "others", num_nodes=number)
    assert not (tmp_path / "others").exists()


def test_the_certificate_has_the_names_that_the_nodes_verify(monkeypatch, tmp_path):
    hosts = {
        "lab-server:9092": "lab-server",
        "https://lab-server": "lab-server",
        "grpc://lab.example.org.:8000/": "lab.example.org",
        "*.example.org": "*.example.org",
        "labor-süd": "xn--labor-sd-d6a",
        "192.168.1.5:9092": "192.168.1.5",
        "10.0.0.1": "10.0.0.1",
        "2001:db8::7": "2001:db8::7",
        "[2001:db8::5]:9092": "2001:db8::5",
        "https://[2001:DB8::6]/": "2001:db8::6",
    }
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = make_keys("~/keys", hosts=list(hosts))
    assert folder == tmp_path / "keys"
    leaf = x509.load_pem_x509_certificate((folder / "server.crt").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert {str(each.value) for each in names} == {*hosts.values(), "localhost", "127.0.0.1"}
    assert len(names.get_values_for_type(x509.IPAddress)) == 6


@pytest.mark.parametrize(
    "host",
    [
        *("", " ", "lab server", " lab-server", "a,b", "lab\n", "-lab", "lab_server", "me@lab-server", "[lab-server]"),
        *("https://", ":9092", "lab-server:port", "https://lab-server/page"),
        *("10.0.0.0/8", "300.1.1.1", "192.168.1", "0.0.0.0", "[::]:9092", "fe80::1%eth0", 5, b"lab", None),
    ],
)
def test_what_is_no_host_is_refused_before_anything_is_written(host, tmp_path):
    with pytest.raises(ValueError, match=f"hosts .*{re.escape(repr(host))}.*: .*address"):
        make_keys(tmp_path / "keys", hosts=["10.0.0.1", host])
    assert not (tmp_path / "keys").exists()


def test_one_host_alone_is_not_taken_for_a_list_of_letters(tmp_path):
    with pytest.raises(ValueError, match=r"hosts is the text 'lab-server': .* as in \['lab-server'\]"):
        make_keys(tmp_path / "keys", hosts="lab-server")


def test_keys_that_were_not_all_written_are_made_again(monkeypatch, tmp_path):
    names = []

    def full(path, content):
        names.append(path.name)
        if len(names) == 5:
            raise OSError("no space left on device")
        path.write_bytes(content)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left"):
        patch.setattr(keys, "_write", full)
        make_keys(tmp_path)
    assert len(names) == 5
    make_keys(tmp_path)
    assert (tmp_path / "node_1.pub").stat().st_size > 0


def test_a_python_in_a_folder_with_a_space_is_named_before_anything_is_started(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", "/my environment/bin/python")
    with pytest.raises(RuntimeError, match=r"Python's path has a space \(/my environment/bin/python\): .*deploy"):
        simulate(output=tmp_path, progress=False)
    assert not (tmp_path / "flower").exists()
