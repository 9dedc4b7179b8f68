"""Flower's engine on this computer: a simulation, or a SuperLink and SuperNodes as processes of their own.

Nothing here is a substitute for a part of Flower: its own commands are started, with what a laboratory needs. That is
no telemetry, no installation of packages at run time (Flower would fetch all of torch again), a folder of its own
instead of the user's, and free ports.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fl_gan_lib.data import check_digit
from fl_gan_lib.flower.keys import make_keys
from fl_gan_lib.records import AttackRecord, record_path

APP = Path(__file__).parents[2]


def simulate(
    target: int = 3, *, output: str | Path, num_nodes: int = 2, progress: bool = True, **config: Any
) -> AttackRecord:
    """Run the attack on Flower's simulation, its Ray back end, with one CPU core a node.

    Args:
        target: the digit that the attacker lacks and wants, 0 to 9.
        output: the folder that the attacker's record goes to, and Flower's own files, its logs among them, in `flower`.
        num_nodes: the attacker and `num_nodes - 1` honest participants.
        progress: show a bar.
        config: of the run, see `app.RunConfig`; the defaults are in `pyproject.toml`.

    Returns:
        The record that the attacker's node has written. After an interrupt it reaches as far as the last recorded
        round.

    Raises:
        ValueError: the target is no digit.
        RuntimeError: the run has failed, or left no record; the last lines of its log are in the message. Or Python's
            path has a space in it, which Ray cannot bear.
    """
    if " " in sys.executable:
        raise RuntimeError(
            f"Ray, with which Flower simulates, starts nothing if Python's path has a space ({sys.executable}): "
            "put the environment into a folder without one, or give each node a process of its own (`deploy`)"
        )
    output = Path(output).resolve()
    home, settings = output / "flower", _settings(target, output, num_nodes, config)
    federation = f"num-supernodes={num_nodes} client-resources-num-cpus=1"
    with superlink(home, "--simulation", "--insecure") as address:
        connect(home, address)
        lines = run(home, settings, "--federation-config", federation)
        return _follow(lines, record_path(output, target), progress)


def deploy(
    target: int = 3, *, output: str | Path, num_nodes: int = 2, progress: bool = True, **config: Any
) -> AttackRecord:
    """The same with a SuperLink and SuperNodes as processes of their own, with TLS and node authentication.

    Arguments, result and errors as for `simulate`.
    """
    output = Path(output).resolve()
    home, settings = output / "flower", _settings(target, output, num_nodes, config)
    with deployment(home, num_nodes):
        return _follow(run(home, settings), record_path(output, target), progress)


def _settings(target: int, output: Path, num_nodes: int, config: Mapping[str, Any]) -> dict[str, Any]:
    check_digit(target)
    return {"target": target, "output": str(output), "num-honest": num_nodes - 1} | dict(config)


def _follow(lines: Iterator[str], path: Path, progress: bool) -> AttackRecord:
    """Show how far a run is, and what it warns of, by the lines of its log; load the record that it leaves."""
    start = time.time()
    stopped = False
    with tqdm(desc="on Flower", unit="round", leave=False, disable=not progress) as bar:
        try:
            for line in lines:
                if match := re.search(r"round (\d+)/(\d+): ", line):
                    number, bar.total = map(int, match.groups())
                    bar.update(number - bar.n)
                elif match := re.search(r"round \d+: .*", line):
                    tqdm.write(match[0])
        except KeyboardInterrupt:
            stopped = True
    # A file of an earlier run is not the answer.
    if not path.exists() or path.stat().st_mtime < start:
        if stopped:
            raise KeyboardInterrupt
        raise RuntimeError(f"the run has left no record in {path.parent}: was the attacker's node there to the end?")
    if stopped:
        tqdm.write(f"stopped: the record so far is in {path}")
    return AttackRecord.load(path)


@contextmanager
def deployment(home: Path, num_nodes: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A SuperLink and SuperNodes with new certificates and keys, until the block ends; the address, and the nodes."""
    shutil.rmtree(home / "keys", ignore_errors=True)
    keys = make_keys(home / "keys", num_nodes=num_nodes)
    with superlink(home, *secured(keys)) as address, ExitStack() as nodes:
        connect(home, address, root_certificates=str(keys / "ca.crt"))
        for number in range(num_nodes):
            flwr(home, "supernode", "register", str(keys / f"node_{number}.pub"))
        yield address, [nodes.enter_context(supernode(home, number, address)) for number in range(num_nodes)]


def secured(keys: Path) -> list[str]:
    """The options of a SuperLink with TLS and node authentication."""
    certificates = ["--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile", str(keys / "server.crt")]
    return [*certificates, "--ssl-keyfile", str(keys / "server.key"), "--enable-supernode-auth"]


def supernode(home: Path, number: int, address: str) -> AbstractContextManager[subprocess.Popen]:
    """A SuperNode for one partition, with its key from `keys` in `home`, until the block ends.

    It gives up when the SuperLink has not answered for 20 seconds.
    """
    keys = home / "keys"
    command = ["flower-supernode", "--superlink", address, "--port", str(_free_port()), "--max-wait-time", "20"]
    command += ["--root-certificates", str(keys / "ca.crt")]
    command += ["--auth-supernode-private-key", str(keys / f"node_{number}")]
    return started(home, f"node_{number}", [*command, "--node-config", f"partition-id={number}"])


def flwr(home: Path, *arguments: str) -> str:
    """Run one of Flower's commands, and return what it prints; raises a RuntimeError if it fails."""
    command = [_command(home, "flwr"), *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment(home), timeout=60)
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
        for _ in range(300):
            if process.poll() is not None:
                raise RuntimeError(f"the SuperLink ended at once: {_tail(home / 'superlink.log')}")
            if answers(address):
                break
            time.sleep(0.1)
        else:
            raise RuntimeError(f"the SuperLink does not answer: {_tail(home / 'superlink.log')}")
        yield address


def answers(address: str) -> bool:
    """Whether somebody listens at `host:port`."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def started(home: Path, name: str, command: list[str]) -> Iterator[subprocess.Popen]:
    """One of Flower's commands in a process group of its own, until the block ends; its log is `<name>.log` in home."""
    with (home / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            [_command(home, command[0]), *command[1:]],
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
    command = [_command(home, "flwr"), "run", str(APP), "--run-config", settings, *options, "--stream"]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(home)
    ) as process:
        try:
            for line in process.stdout:
                lines.append(line.rstrip())
                yield lines[-1]
        except BaseException:
            process.terminate()
            raise
    # `flwr run` ends well when it has shown the log to its end, whatever has become of the run.
    status = "not started" if process.returncode else _status(home)
    if not status.startswith("finished:completed"):
        raise RuntimeError(f"the run has ended as {status!r}:\n" + "\n".join(lines[-12:]))


def _status(home: Path) -> str:
    """Of the latest run."""
    return json.loads(flwr(home, "ls", "--format", "json"))["runs"][0]["status"]


def environment(home: Path) -> dict[str, str]:
    """Of all of Flower's processes: no telemetry, no look for updates, one thread each, a folder of its own.

    Notebook kernels ask for colours, with which nobody could read the answers.
    """
    wanted = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FORCE_COLOR": "",
        "NO_COLOR": "1",
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    return os.environ | wanted


def _command(home: Path, name: str) -> str:
    path = shutil.which(name, path=environment(home)["PATH"])
    if path is None:
        raise RuntimeError(f"the command {name} is not installed: pip install -e '.[flower]'")
    return path


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _toml(value: Any) -> str:
    return f"'{value}'" if isinstance(value, str) else str(value).lower()


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-10:])
