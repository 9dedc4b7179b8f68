"""requirements.txt is what a reader installs, pyproject.toml what the library needs: one must contain the other."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
REQUIREMENTS = (ROOT / "requirements.txt").read_text().splitlines()


def test_requirements_contain_what_the_package_declares():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [line for extra in project["optional-dependencies"].values() for line in extra]
    assert set(declared) <= set(REQUIREMENTS)


def test_each_requirement_has_its_purpose_above_it_and_the_package_comes_last():
    assert REQUIREMENTS[0].startswith("#") and REQUIREMENTS[-1] == "-e ."
    assert not [line for line in REQUIREMENTS if "==" in line], "leave ranges, torch above all"
