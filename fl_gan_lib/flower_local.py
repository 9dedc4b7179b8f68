"""Flower's engine on this computer: a simulation, or a SuperLink and SuperNodes as processes of their own.

Nothing here is a substitute for a part of Flower: its own commands are started, with what a laboratory needs. That is
no telemetry, no installation of packages at run time (Flower would fetch all of torch again), a folder of its own
instead of the user's, and free ports.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from fl_gan_lib.flower_keys import make_keys

APP = Path(__file__).parents[1]


def simulate(output: str | Path, *, num_nodes: int = 2, home: str | Path | None = None, **config: Any) -> Iterator[str]:
    """Run the attack on Flower's simulation (its Ray back end), and yield the lines of its log.

    Args:
        output: the folder that the attacker's record goes to, `attack_<target>.npz`.
        num_nodes: the attacker and `num_nodes - 1` honest participants.
        home: Flower's folder; by default `flower` in `output`.
        config: of the run, see `flower_app.Run`; the defaults are in `pyproject.toml`.

    Raises:
        RuntimeError: the run has failed; the last lines of the log are in the message.
    """
    output = Path(output).resolve()
    home = Path(home or output / "flower").resolve()
    with superlink(home, "--simulation", "--insecure") as address:
        connect(home, address)
        config = {"output": str(output), "num-honest": num_nodes - 1} | config
        yield from run(home, config, "--federation-config", f"num-supernodes={num_nodes}")


def deploy(output: str | Path, *, num_nodes: int = 2, home: str | Path | None = None, **config: Any) -> Iterator[str]:
    """The same with a SuperLink and SuperNodes as processes of their own, with TLS and node authentication.

    Arguments and errors as for `simulate`; certificates and keys are made new in `keys`, in Flower's folder.
    """
    output = Path(output).resolve()
    home = Path(home or output / "flower").resolve()
    shutil.rmtree(home / "keys", ignore_errors=True)
    keys = make_keys(home / "keys", num_nodes=num_nodes)
    trust = ("--root-certificates", str(keys / "ca.crt"))
    link = ("--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile", str(keys / "server.crt"))
    with (
        superlink(home, *link, "--ssl-keyfile", str(keys / "server.key"), "--enable-supernode-auth") as address,
        ExitStack() as nodes,
    ):
        connect(home, address, root_certificates=str(keys / "ca.crt"))
        for number in range(num_nodes):
            flwr(home, "supernode", "register", str(keys / f"node_{number}.pub"))
            nodes.enter_context(supernode(home, number, address, *trust, private_key=keys / f"node_{number}"))
        yield from run(home, {"output": str(output), "num-honest": num_nodes - 1} | config)


def supernode(
    home: Path, number: int, address: str, *options: str, private_key: Path
) -> AbstractContextManager[subprocess.Popen]:
    """A SuperNode for one partition, until the block ends."""
    command = ["flower-supernode", "--superlink", address, "--port", str(_free_port())]
    command += ["--auth-supernode-private-key", str(private_key)]
    return started(home, f"node_{number}", [*command, "--node-config", f"partition-id={number}", *options])


def flwr(home: Path, *arguments: str) -> str:
    """Run one of Flower's commands, and return what it prints; raises a RuntimeError if it fails."""
    command = [_command("flwr"), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment(home))
    if answer.returncode:
        raise RuntimeError(f"flwr {' '.join(arguments)} has failed: {answer.stdout}{answer.stderr}")
    return answer.stdout


@contextmanager
def superlink(home: Path, *options: str) -> Iterator[str]:
    """A SuperLink on a free port of this computer, from when it answers until the block ends; its address."""
    home.mkdir(parents=True, exist_ok=True)
    address = f"127.0.0.1:{_free_port()}"
    port = address.partition(":")[2]
    command = ["flower-superlink", "--port", port, "--disable-runtime-dependency-installation", *options]
    with started(home, "superlink", command) as process:
        scheme = "http" if "--insecure" in options else "https"
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"the SuperLink ended at once: {_tail(home / 'superlink.log')}")
            try:
                urllib.request.urlopen(f"{scheme}://{address}/health", timeout=1).close()
                break
            except urllib.error.URLError as error:
                if isinstance(error.reason, ConnectionRefusedError | TimeoutError):
                    time.sleep(0.1)
                else:
                    break
            except OSError:
                time.sleep(0.1)
        else:
            raise RuntimeError(f"the SuperLink does not answer: {_tail(home / 'superlink.log')}")
        yield address


@contextmanager
def started(home: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen]:
    """One of Flower's commands in a process group of its own, until the block ends; its log is `<name>.log` in home."""
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [_command(command[0]), *command[1:]],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(home),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def connect(home: Path, address: str, **options: Any) -> None:
    """Tell the `flwr` command, in its folder, where the SuperLink is."""
    lines = ["[superlink]", 'default = "here"', "", "[superlink.here]", f'address = "{address}"']
    options = options or {"insecure": True}
    lines += [f"{name.replace('_', '-')} = {_toml(value)}" for name, value in options.items()]
    (home / "config.toml").write_text("\n".join(lines) + "\n")


def run(home: Path, config: Mapping[str, Any], *options: str) -> Iterator[str]:
    """Start a run of the app, and yield the lines of its log until it ends.

    Raises:
        RuntimeError: the run has failed; the last lines of the log are in the message.
    """
    settings = " ".join(f"{name.replace('_', '-')}={_toml(value)}" for name, value in config.items())
    command = [_command("flwr"), "run", str(APP), "--run-config", settings, *options, "--stream"]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(home)
    ) as process:
        for line in process.stdout:
            lines.append(line.rstrip())
            yield lines[-1]
    # `flwr run` ends well when it has shown the log to its end, whatever has become of the run.
    status = _status(home)
    if not status.startswith("finished:completed"):
        raise RuntimeError(f"the run has ended as {status!r}:\n" + "\n".join(lines[-12:]))


def _status(home: Path) -> str:
    """Of the latest run."""
    runs = json.loads(flwr(home, "ls", "--format", "json"))["runs"]
    return runs[0]["status"] if runs else "not started"


def environment(home: Path) -> dict[str, str]:
    """Of all of Flower's processes: no telemetry, no look for updates, one thread each, a folder of its own."""
    wanted = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return os.environ | wanted


def _command(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RuntimeError(f"{name} is not installed beside {sys.executable}: pip install -e '.[flower]'")
    return str(path)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _toml(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-10:])
