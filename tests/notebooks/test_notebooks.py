"""Each notebook runs with a small size, and is committed as a fresh run left it (nbval compares outputs elsewhere)."""

import re
from pathlib import Path

import nbformat
import papermill
import pytest
from papermill.exceptions import PapermillExecutionError

from fl_gan_lib.notebooks import run_attack_notebook

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("0*.ipynb"))
SMOKE = {
    "01_federated_learning_basics": {"num_clients": 3, "num_rounds": 2},
    "02_honest_baseline": {"num_rounds": 2},
    "03_gan_attack": {
        "target": 5,
        "dataset": "mnist-5k",
        "data": "",
        "rounds": 3,
        "rounds_by_hand": 2,
        "seed": 1,
        "output": "set by the test",
        "picture": "set by the test",
    },
    "04_visual_comparison": {"target": 9},
    "05_anatomy_of_the_attack": {"recompute": True, "num_seeds": 1, "rounds": 1, "output": "set by the test"},
    "06_defences": {
        "recompute": True,
        "num_seeds": 1,
        "other_digit": None,
        "rounds": 1,
        "output": "set by the test",
    },
    "07_beyond_one_machine": {"rounds": 2, "output": "set by the test"},
    "08_a_class_is_a_person": {"rounds": 2, "identifier_steps": 10, "output": "set by the test"},
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def printed(notebook) -> str:
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream")


def test_there_is_a_smoke_size_for_each():
    assert [path.stem for path in NOTEBOOKS] == list(SMOKE)


def test_it_runs_with_a_small_size(path, tmp_path):
    parameters = dict(SMOKE[path.stem])
    if "output" in parameters:
        parameters |= {"output": str(tmp_path)}
    if "picture" in parameters:
        parameters |= {"picture": str(tmp_path / "picture.png")}
    executed = papermill.execute_notebook(
        path, tmp_path / path.name, parameters=parameters, cwd=FOLDER, progress_bar=False
    )
    if path.stem[:2] in ("04", "07", "08"):
        assert "claim holds" in printed(executed)
    else:
        assert "claim not evaluated" in printed(executed)
    if "picture" in parameters:
        assert (tmp_path / "attack_5.npz").exists() and (tmp_path / "picture.png").exists()


def test_it_was_executed_in_order_from_a_fresh_kernel(notebook):
    cells = [cell for cell in code_cells(notebook) if cell.source.strip()]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert any(cell.outputs for cell in cells)


def test_it_kept_no_error_and_no_warning(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output.text for output in outputs if output.get("name") == "stderr" and "Warning" in output.text]


def test_its_parameters_are_literals_in_one_cell_and_those_passed_exist(path, notebook):
    cells = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(cells) == 1
    literal = r"(\w+) = (None|True|False|-?[\d.]+|\"[^\"]*\")(  # .*)?"
    matches = [re.fullmatch(literal, line) for line in cells[0].source.splitlines()]
    assert all(matches), cells[0].source
    assert set(SMOKE[path.stem]) <= {match[1] for match in matches}


def test_make_attack_passes_parameters_that_exist(monkeypatch, tmp_path):
    passed = {}

    def execute(source, target, parameters, **options):
        passed.update(parameters)
        raise PapermillExecutionError(0, 0, "", "Stopped", "here", [])

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    with pytest.raises(RuntimeError, match="Stopped: here"):
        run_attack_notebook("s5", dataset="faces", out=tmp_path)
    assert set(passed) == set(SMOKE["03_gan_attack"]) and passed["target"] == "s5"


@pytest.mark.parametrize("start", ["project", "elsewhere"])
def test_it_can_be_started_from_another_folder(start, tmp_path, monkeypatch):
    monkeypatch.chdir(FOLDER.parent if start == "project" else tmp_path)
    before = set(FOLDER.parent.parent.iterdir())
    executed = papermill.execute_notebook(
        FOLDER / "04_visual_comparison.ipynb", tmp_path / "04.ipynb", progress_bar=False
    )
    assert "claim holds" in printed(executed) and set(FOLDER.parent.parent.iterdir()) == before


def test_those_that_read_or_write_files_find_their_folder(path, notebook):
    code = "\n".join(cell.source for cell in code_cells(notebook))
    paths = re.search(r'"(\.\./|runs\b)', code)
    assert bool(paths) == ("enter_notebooks()" in code)


def test_it_shows_no_path_of_the_machine_and_is_small(path):
    content = path.read_text(encoding="utf-8")
    assert path.stat().st_size < 1_200_000
    assert not re.search(r"/(home|root|tmp|work|Users|mnt|usr)/", re.sub(r'"image/png": "[^"]*"', "", content))


def test_its_cells_are_short_and_it_claims_something(notebook):
    assert max(len(cell.source.splitlines()) for cell in code_cells(notebook)) <= 18
    assert "claim holds" in printed(notebook)


def test_its_links_lead_somewhere(path, notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    assert links
    assert all((FOLDER / link).exists() for link in links)
