"""requirements.txt is what a reader installs, pyproject.toml what the library needs: one must contain the other."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from setuptools import find_packages

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
MAX_FLOORS = 10
REQUIREMENTS = dict(line.partition("  # ")[::2] for line in LINES if not line.startswith("#"))


def test_requirements_contain_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    apart = {"flower", "site"}  # extras that a reader of the notebooks does not need
    assert apart <= extras.keys()
    declared = project["dependencies"] + [line for name in extras.keys() - apart for line in extras[name]]
    assert set(declared) <= REQUIREMENTS.keys()


def test_each_requirement_has_its_reason_and_the_package_comes_last():
    *packages, last = REQUIREMENTS
    assert last == "-e ." and all(REQUIREMENTS[package] for package in packages)
    assert not [line for line in packages if not re.fullmatch(r"[a-z-]+>=[\d.]+", line)], (
        "lower bounds, torch above all"
    )


def modules() -> list[str]:
    """All modules of the library, by their full names."""
    found = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "fl_gan_lib").rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in found]
    return sorted(name for name in names if not name.endswith("__main__"))


def test_all_modules_are_found_and_packaged():
    names = modules()
    assert {"fl_gan_lib", "fl_gan_lib.attack", "fl_gan_lib.flower.app", "fl_gan_lib.explorer.server"} <= set(names)
    assert len(names) > 30
    packages = find_packages(str(ROOT), include=["fl_gan_lib*"])
    assert {name.rpartition(".")[0] for name in names} - {""} <= set(packages)
    assert all((ROOT / package.replace(".", "/") / "__init__.py").exists() for package in packages)


TEACHING_PATH = ("data", "partitions", "models", "federation", "attack", "metrics", "records")


def imports() -> dict[str, set[str]]:
    """Which modules of the library each of them imports when it is imported itself."""
    names = set(modules())
    found: dict[str, set[str]] = {}
    for name in names:
        path = ROOT / name.replace(".", "/")
        tree = ast.parse((path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text("utf-8"))
        needed = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        whole = {f"{node.module}.{alias.name}" for node in needed for alias in node.names}
        found[name] = ({node.module for node in needed} | whole) & (names - {"fl_gan_lib", name})
    return found


def test_modules_stand_on_each_other_without_a_circle():
    graph = imports()
    floors: dict[str, int] = {}
    while len(floors) < len(graph):
        ready = [name for name in graph.keys() - floors.keys() if graph[name] <= floors.keys()]
        assert ready, f"these import each other: {sorted(graph.keys() - floors.keys())}"
        floors |= {name: 1 + max((floors[needed] for needed in graph[name]), default=-1) for name in ready}
    assert max(floors.values()) < MAX_FLOORS, sorted(floors.items(), key=lambda each: each[1])


def test_the_teaching_path_imports_nothing_from_behind_the_larger_doors():
    graph = imports()
    seen: set[str] = set()
    to_do = [f"fl_gan_lib.{name}" for name in TEACHING_PATH]
    while to_do:
        name = to_do.pop()
        if name not in seen:
            seen.add(name)
            to_do.extend(graph[name])
    larger = ("studies", "explorer", "flower", "defences", "lessons")
    assert not [name for name in seen if name.split(".")[1] in larger]


def test_public_names_are_imported_on_first_use_and_no_sooner():
    code = """
import sys, fl_gan_lib
assert not [name for name in sys.modules if name.startswith("fl_gan_lib.")] and "torch" not in sys.modules
assert {"run_attack", "federate", "load_dataset", "attack_explorer"} <= set(dir(fl_gan_lib))
for name in fl_gan_lib.__all__:
    assert callable(getattr(fl_gan_lib, name)), name
from fl_gan_lib import run_attack
from fl_gan_lib.attack import run_attack as the_same
from fl_gan_lib.data import load_dataset, partition_by_label, partition_dirichlet, partition_iid
assert run_attack is the_same and load_dataset is fl_gan_lib.load_dataset
try:
    fl_gan_lib.nothing
except AttributeError as error:
    print(error)
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.stdout == "module 'fl_gan_lib' has no attribute 'nothing'\n", answer.stderr


def test_nothing_is_downloaded_or_connected_to_by_an_import():
    code = f"""
import importlib, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "urllib.Request"):
        raise SystemExit(f"{{event}} {{arguments}}")
sys.addaudithook(refuse)
for name in {modules()}:
    try:
        importlib.import_module(name)
    except ImportError as error:
        if "pip install -e '.[flower]'" not in str(error) and error.name not in ("flwr", "cryptography", "trustme"):
            raise
import fl_gan_lib.data
fl_gan_lib.data.load_dataset()
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr


def test_a_torchvision_that_does_not_fit_torch_is_named_with_the_mend(tmp_path):
    package = tmp_path / "torchvision" / "__init__.py"
    package.parent.mkdir()
    # What a torchvision that is built for another torch does first.
    package.write_text(
        'import torch\ntorch.library.register_fake("torchvision::nms")(lambda: None)\n', encoding="utf-8"
    )
    code = "from fl_gan_lib.data import load_dataset; from fl_gan_lib.defences import AugmentingClient; "
    code += "from fl_gan_lib.models import Classifier; AugmentingClient(load_dataset()[1]).fit(Classifier(), 1)"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True)
    assert re.search(
        r"ImportError: torch .* and torchvision .* do not fit each other \(operator torchvision::nms does not exist\): "
        r"install both at once .*pip install --force-reinstall torch torchvision",
        answer.stderr.splitlines()[-1],
    )


def test_nothing_but_its_own_modules_needs_flower():
    needing = {"fl_gan_lib.studies.scale"} | {name for name in modules() if name.startswith("fl_gan_lib.flower.")}
    code = f"""
import importlib, sys
sys.modules |= dict.fromkeys(("flwr", "ray", "cryptography", "trustme"))
for name in {sorted(set(modules()) - needing)}:
    importlib.import_module(name)
import fl_gan_lib.flower.engine
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Flower is not installed: pip install -e '.[flower]'" in answer.stderr.splitlines()[-1]


def test_nothing_that_we_start_calls_home(tmp_path):
    from jupyterlab.handlers.announcements import NeverCheckForUpdate
    from jupyterlab.labapp import LabApp

    from fl_gan_lib.flower.engine import environment

    switches = ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED")
    assert [environment(tmp_path)[switch] for switch in switches] == ["0", "0"]
    assert environment(tmp_path)["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    dry_run = subprocess.run(["make", "--dry-run", "lab"], cwd=ROOT, capture_output=True, text=True).stdout
    lab = LabApp()
    lab.parse_command_line(re.findall(r"--LabApp\S+", dry_run))
    assert lab.news_url is None and lab.check_for_updates_class is NeverCheckForUpdate
