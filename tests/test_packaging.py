"""requirements.txt is what a reader installs, pyproject.toml what the library needs: one must contain the other."""

import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = (ROOT / "requirements.txt").read_text().splitlines()


def test_requirements_contain_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert "flower" in extras, "Flower stays an extra: the attack does not need it"
    declared = project["dependencies"] + [line for name in extras.keys() - {"flower"} for line in extras[name]]
    assert set(declared) <= set(REQUIREMENTS)


def test_each_requirement_has_its_purpose_above_it_and_the_package_comes_last():
    assert REQUIREMENTS[0].startswith("#") and REQUIREMENTS[-1] == "-e ."
    assert not [line for line in REQUIREMENTS if "==" in line], "leave ranges, torch above all"


def test_nothing_but_its_own_modules_needs_flower():
    modules = {path.stem for path in (ROOT / "fl_gan_lib").glob("*.py")} - {"__init__", "__main__"}
    needing = {"flower_app", "flower_keys", "flower_local", "scale"}
    code = f"""
import importlib, sys
sys.modules |= dict.fromkeys(("flwr", "ray", "cryptography"))
for name in {sorted(modules - needing)}:
    importlib.import_module("fl_gan_lib." + name)
import fl_gan_lib.flower_local
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "Flower is not installed: pip install -e '.[flower]'" in answer.stderr.splitlines()[-1]
