"""The federation on three hosts, each a network namespace with an address of its own; one wire is listened to."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

pytest.importorskip("flwr", reason="Flower is not installed: pip install -e '.[flower]'")

from fl_gan_lib.classes import DIGITS
from fl_gan_lib.flower.engine import answers, as_settings, connect, flwr, run, secured, started
from fl_gan_lib.flower.keys import make_keys
from fl_gan_lib.models import Classifier
from fl_gan_lib.recording import files
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.studies.secrets import draw_symbol

# Each net joins the server, which has the first address in it, and one other host, with the second: a network
# namespace for each node, and this process, on a fourth host, so to say, that starts the run.
SERVER = {"node0": "10.77.0.1", "node1": "10.77.1.1", None: "10.77.2.1"}
NODES = ("node0", "node1")
LISTENER = """
import socket, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.ntohs(3))
wire.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE: miss nothing
wire.bind(("to_node1", 0))
with open(sys.argv[1], "wb", buffering=0) as file:
    while True:
        file.write(wire.recv(65536))
"""


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def hosts() -> Iterator[dict[str, list[str]]]:
    """What to put before a command to run it on the host "server", "node0" or "node1"."""
    if not shutil.which("ip") or os.geteuid():
        pytest.skip("network namespaces need Linux, the command ip, and the rights of root")
    names = {host: f"flgan_{host}_{os.getpid()}" for host in ("server", *NODES)}
    with ExitStack() as stack:
        try:
            for name in names.values():
                ip("netns", "add", name)
                stack.callback(ip, "netns", "del", name)
                ip("-n", name, "link", "set", "lo", "up")
            for host, address in SERVER.items():
                near, far = ("-n", names["server"]), ("-n", names[host]) if host else ()
                device, there = f"to_{host or 'start'}", f"flgan{os.getpid()}"
                ip("link", "add", there, "type", "veth", "peer", device, "netns", names["server"])
                if host:
                    ip("link", "set", there, "netns", names[host])
                for where, name, own in ((near, device, address), (far, there, address[:-1] + "2")):
                    ip(*where, "address", "add", f"{own}/24", "dev", name)
                    ip(*where, "link", "set", name, "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine allows no network namespaces: {error.stderr.decode().strip()}")
        yield {host: ["ip", "netns", "exec", name] for host, name in names.items()}


@pytest.mark.parametrize("tls", [True, False])
def test_an_attack_across_hosts_and_what_the_wire_shows(hosts, tls, tmp_path):
    home = {host: tmp_path / host for host in hosts}
    secret = tmp_path / 'Müller\'s "secret".npz'
    secret.write_bytes(files.pack({}, {"drawings": draw_symbol("house")}))
    for folder in home.values():
        folder.mkdir()
    keys = make_keys(tmp_path / "keys", hosts=list(SERVER.values()))
    link, trust = ["--insecure"], ["--insecure"]
    if tls:
        link = secured(keys)
        trust = ["--root-certificates", str(keys / "ca.crt")]
    deadline = time.monotonic() + 30
    with ExitStack() as stack:

        def start(host: str, name: str, *command: str) -> None:
            stack.enter_context(started(home[host], name, [*hosts[host], *command]))

        start("server", "listener", sys.executable, "-c", LISTENER, str(tmp_path / "heard"))
        superlink = ["flower-superlink", "--host", "0.0.0.0", "--disable-runtime-dependency-installation"]
        start("server", "superlink", *superlink, *link)
        while not answers(f"{SERVER[None]}:8000"):
            assert time.monotonic() < deadline, (home["server"] / "superlink.log").read_text(encoding="utf-8")
            time.sleep(0.2)
        connect(tmp_path, f"{SERVER[None]}:8000", **({"root_certificates": str(keys / "ca.crt")} if tls else {}))
        for k, node in enumerate(NODES):
            key = []
            if tls:
                flwr(tmp_path, "supernode", "register", str(keys / f"node_{k}.pub"))
                key = ["--auth-supernode-private-key", str(keys / f"node_{k}")]
            supernode = ["flower-supernode", "--superlink", f"{SERVER[node]}:8000"]
            told = {"partition-id": k} | ({"data": secret, "judge": True} if node == "node0" else {})
            start(node, "supernode", *supernode, "--node-config", as_settings(told), *trust, *key)
        before = transferred(hosts)
        settings = {"target": "secret", "classes": f"{','.join(DIGITS)},secret", "rounds": 1, "local_steps": 1}
        log = list(run(tmp_path, settings | {"output": str(home["server"])}))
        wire = transferred(hosts) - before
    record = AttackRecord.load(home["server"] / "attack_secret.npz")
    assert record.rounds.tolist() == [1] and record.metrics["probe"].notna().all(), "\n".join(log)
    assert len(record.private_samples) == 10, "the victim's drawings, which it has agreed to show"

    # The model goes down and up in the round, and down again when the attacker is asked for a judgement.
    derived = 3 * sum(4 * parameter.numel() for parameter in first_model().parameters())
    print(f"TLS {tls}: {wire:,} bytes on the wire to a node, {wire / derived:.3f} times what the weights take")
    code = sum(
        path.stat().st_size for path in (Path(__file__).parents[2] / "fl_gan_lib").rglob("*.py")
    )  # Flower sends it
    assert derived < wire < 1.25 * (derived + code)
    heard = (tmp_path / "heard").read_bytes()
    weights = first_model().state_dict()["7.weight"].numpy().tobytes()
    seen = sum(weights[start : start + 64] in heard for start in range(0, len(weights) - 64, 4096))
    assert seen == 0 if tls else seen > 100


def first_model() -> Classifier:
    """The global model that the server sends in the first round."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Classifier(12)


def transferred(hosts: dict[str, list[str]]) -> int:
    """Bytes between the server and the attacker's node so far, both ways, with the headers of all layers."""
    words = [*hosts["server"], "ip", "-s", "-j", "link", "show", "to_node1"]
    counters = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)[0]["stats64"]
    return counters["rx"]["bytes"] + counters["tx"]["bytes"]
