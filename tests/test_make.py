"""`make attack` under conditions that a reader may have: elsewhere, read-only, offline, without a home, interrupted."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fl_gan_lib.records import AttackRecord

ROOT = Path(__file__).parents[1]
NAMESPACE = ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c"]
# A checkout that cannot be written, no network but the computer's own, a home folder that does not exist.
ISOLATED = (
    'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && ip link set lo up && cd "$1" && shift && exec "$@"'
)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the project, with the environment that runs this test, in a folder with a difficult name."""
    folder = tmp_path / "Übung 3, für später" / "fl gan"
    shutil.copytree(
        ROOT, folder, ignore=shutil.ignore_patterns(".git", ".venv*", "out", "runs", "__pycache__", "*.egg-info")
    )
    shutil.copytree(ROOT / "notebooks" / "runs", folder / "notebooks" / "runs")
    return folder


def isolated(checkout: Path, *command: str) -> list[str]:
    if not shutil.which("unshare") or subprocess.run([*NAMESPACE, "ip link set lo up"], capture_output=True).returncode:
        pytest.skip("this system lets nobody take its network away")
    return [*NAMESPACE, ISOLATED, "sh", str(checkout), *command]


def test_it_is_killed_and_goes_on_in_a_read_only_folder_offline_and_without_a_home(checkout, tmp_path):
    out = tmp_path / "Ergebnisse dort"
    venv = tmp_path / "venv"
    venv.symlink_to(sys.prefix)  # make takes a space in a name for the end of it
    installed = [f"VENV={venv}", f"--old-file={venv}/.ready"]
    command = isolated(checkout, "make", "attack", "DIGIT=7", "ROUNDS=4", f"OUT={out}", *installed)
    environment = os.environ | {"HOME": str(tmp_path / "none"), "PYTHONDONTWRITEBYTECODE": "1"}
    partial = out / "attack_7.partial"
    with subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL) as first:
        while not partial.exists() and first.poll() is None:
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
    assert partial.exists()
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "going on after round" in answer.stdout and "what the class 7 looks like" in answer.stdout
    assert AttackRecord.load(out / "attack_7.npz").rounds[-1] == 4 and not partial.exists()
    assert (out / "comparison_7.png").exists() and (out / "03_gan_attack_7.ipynb").exists()
    assert not (tmp_path / "none").exists()
