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
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from fl_gan_lib.arguments import whole_number
from fl_gan_lib.flower.keys import make_keys
from fl_gan_lib.flower.node import write_shares
from fl_gan_lib.flower.settings import RunConfig
from fl_gan_lib.records import AttackRecord

APP = Path(__file__).parents[2]

# How to read what Flower's commands print, see `environment`.
_TEXT = {"encoding": "utf-8", "errors": "replace"}


def simulate(
    target: int = 3, *, output: str | Path, num_nodes: int = 2, progress: bool = True, **config: Any
) -> AttackRecord:
    """Run the attack on Flower's simulation, its Ray back end, with one CPU core a node.

    Args:
        target: the number of the class that the attacker lacks and wants.
        output: the folder that the record goes to, and Flower's own files, its logs among them, in `flower`.
        num_nodes: the attacker and `num_nodes - 1` honest participants.
        progress: show a bar.
        config: of the run, see `settings.RunConfig`; the defaults are in `pyproject.toml`.

    Returns:
        The record that the server has written. After an interrupt it reaches as far as the last recorded
        round.

    Raises:
        ValueError: an argument is out of range, there is no setting of that name, or the record in `output` reaches
            further than this run will; nothing has been started yet.
        RuntimeError: the run has failed, or left no record; the last lines of its log are in the message. Or Python's
            path has a space in it, which Ray cannot bear.
    """
    if " " in sys.executable:
        raise RuntimeError(
            f"Ray, with which Flower simulates, starts nothing if Python's path has a space ({sys.executable}): "
            "put the environment into a folder without one, or give each node a process of its own (`deploy`)"
        )
    wanted = check_config(target, output, num_nodes, config)
    return _follow(simulation(wanted), wanted.path, progress)


def simulation(wanted: RunConfig) -> Iterator[str]:
    """The same, line by line: what the run writes into its log."""
    home = Path(wanted.output) / "flower"
    federation = f"num-supernodes={wanted.num_nodes} client-resources-num-cpus=1"
    with superlink(home, "--simulation", "--insecure") as address:
        connect(home, address)
        yield from run(home, wanted.as_config(), "--federation-config", federation)


def deploy(
    target: int = 3, *, output: str | Path, num_nodes: int = 2, progress: bool = True, **config: Any
) -> AttackRecord:
    """The same with a SuperLink and SuperNodes as processes of their own, with TLS and node authentication.

    Each node gets a file with its own images, and nothing else. Arguments, result and errors as for `simulate`.
    """
    wanted = check_config(target, output, num_nodes, config)
    return _follow(deployed(wanted), wanted.path, progress)


def deployed(wanted: RunConfig) -> Iterator[str]:
    """The same, line by line: what the run writes into its log."""
    home = Path(wanted.output) / "flower"
    nodes = [{"data": path, "judge": True} for path in write_shares(wanted, home / "images")]
    with deployment(home, nodes):
        yield from run(home, wanted.as_config())


def check_config(target: int, output: str | Path, num_nodes: int, config: Mapping[str, Any]) -> RunConfig:
    """All settings of a run, as its nodes will read them, before anything is started."""
    settings = tomllib.loads((APP / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]["config"]
    num_nodes = whole_number("num_nodes", num_nodes, 2, why="(the attacker and at least one other)")
    given = {name.replace("_", "-"): value for name, value in config.items()}
    allowed = settings.keys() - {"target", "output", "num-honest"}
    if unknown := given.keys() - allowed:
        raise ValueError(
            f"{', '.join(sorted(unknown))} cannot be given here: give some of {', '.join(sorted(allowed))} "
            "(num_nodes says how many honest participants there are)"
        )
    folder = str(Path(output).expanduser().resolve()) if output else ""
    try:
        folder.encode()
    except UnicodeEncodeError:
        message = f"output is {folder!r}: Flower passes on Unicode alone; give a folder whose path has no other bytes"
        raise ValueError(message) from None
    settings |= given | {"target": target, "output": folder, "num-honest": num_nodes - 1}
    wanted = RunConfig.read(settings)
    wanted.check_path()
    return wanted


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
def deployment(home: Path, nodes: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A SuperLink and SuperNodes with new certificates and keys, until the block ends.

    Args:
        home: the folder of keys and logs.
        nodes: of each node what it is told besides its partition, see `supernode`.

    Yields:
        The address of the SuperLink, and the nodes.
    """
    shutil.rmtree(home / "keys", ignore_errors=True)
    keys = make_keys(home / "keys", num_nodes=len(nodes))
    with superlink(home, *secured(keys)) as address, ExitStack() as stack:
        connect(home, address, root_certificates=str(keys / "ca.crt"))
        for number in range(len(nodes)):
            flwr(home, "supernode", "register", str(keys / f"node_{number}.pub"))
        numbered = enumerate(nodes)
        yield address, [stack.enter_context(supernode(home, number, address, **told)) for number, told in numbered]


def secured(keys: Path) -> list[str]:
    """The options of a SuperLink with TLS and node authentication."""
    certificates = ["--ssl-ca-certfile", str(keys / "ca.crt"), "--ssl-certfile", str(keys / "server.crt")]
    return [*certificates, "--ssl-keyfile", str(keys / "server.key"), "--enable-supernode-auth"]


def supernode(home: Path, number: int, address: str, **told: Any) -> AbstractContextManager[subprocess.Popen]:
    """A SuperNode for one partition, with its key from `keys` in `home`, until the block ends.

    It gives up when the SuperLink has not answered for 20 seconds. `told` is its node configuration: `data` (where its
    images are), `judge` (whether it judges what the attacker publishes), `keep` (a folder for what it remembers).
    """
    keys = home / "keys"
    command = ["flower-supernode", "--superlink", address, "--port", str(_free_port()), "--max-wait-time", "20"]
    command += ["--root-certificates", str(keys / "ca.crt")]
    command += ["--auth-supernode-private-key", str(keys / f"node_{number}")]
    return started(home, f"node_{number}", [*command, "--node-config", as_settings({"partition-id": number} | told)])


def flwr(home: Path, *arguments: str) -> str:
    """Run one of Flower's commands, and return what it prints; raises a RuntimeError if it fails."""
    command = [_command(home, "flwr"), *arguments]
    answer = subprocess.run(command, capture_output=True, **_TEXT, env=environment(home), timeout=60)
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
    lines = ["[superlink]", 'default = "here"', "", "[superlink.here]", f"address = {_toml(address)}"]
    options = options or {"insecure": True}
    lines += [f"{name.replace('_', '-')} = {_toml(value)}" for name, value in options.items()]
    (home / "config.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")


def run(home: Path, config: Mapping[str, Any], *options: str) -> Iterator[str]:
    """Start a run of the app, and yield the lines of its log until it ends.

    Raises:
        RuntimeError: the run has failed; the last lines of the log are in the message.
    """
    command = [_command(home, "flwr"), "run", str(APP), "--run-config", as_settings(config), *options, "--stream"]
    lines: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **_TEXT, env=environment(home)
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

    They write UTF-8 in every locale: what they say has signs that others lack. And notebook kernels ask for colours,
    with which nobody could read the answers.
    """
    wanted = {
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "FORCE_COLOR": "",
        "NO_COLOR": "1",
        "PYTHONIOENCODING": "utf-8",
        "OMP_NUM_THREADS": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",  # seconds until it looks for a message to start a process for
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


def as_settings(config: Mapping[str, Any]) -> str:
    """Settings as Flower's commands take them, in one argument."""
    return " ".join(f"{name.replace('_', '-')}={_toml(value)}" for name, value in config.items())


def _toml(value: Any) -> str:
    """As TOML. Text is without accents, which a locale may spoil, and without quotes: `flwr run` ends at the first."""
    if not isinstance(value, str | os.PathLike):
        return str(value).lower()
    plain = (sign if " " <= sign <= "~" and sign not in "\"'\\" else f"\\U{ord(sign):08x}" for sign in os.fspath(value))
    return f'"{"".join(plain)}"'


def _tail(path: Path) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-10:])
