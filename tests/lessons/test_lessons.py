import shutil
import statistics
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import torch

from fl_gan_lib.lessons import EXERCISES, check
from fl_gan_lib.lessons.exercise import Exercise, verdict
from fl_gan_lib.lessons.writing import answer_of, with_exercises, write_exercises

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
each = pytest.mark.parametrize("exercise", EXERCISES.values(), ids=EXERCISES)


@each
def test_a_stub_is_not_done_yet_and_raises_nothing(exercise: Exercise):
    assert verdict(exercise, answer_of(exercise, exercise.stub)).startswith("Not done yet")


@each
def test_the_solution_is_right(exercise: Exercise):
    assert verdict(exercise, answer_of(exercise, exercise.solution)) == "Right."


@each
def test_typical_wrong_answers_get_a_hint_of_their_own(exercise: Exercise):
    assert len(exercise.wrong) >= 2
    told = {code: verdict(exercise, answer_of(exercise, code)) for code in exercise.wrong}
    for code, phrase in exercise.wrong.items():
        assert told[code].startswith("Not right yet.") and phrase in told[code], told[code]
    assert len(set(told.values())) == len(told), "two mistakes are told the same"


@each
def test_an_answer_of_another_kind_is_no_error(exercise: Exercise):
    for nonsense in (lambda *_: "three", lambda *_: [], lambda *_: float("nan"), lambda *_: {}):
        assert verdict(exercise, nonsense).startswith("Not right yet.")
    assert verdict(exercise, 5) == f"Not right yet. `{exercise.answer}` must be a function."


def test_what_a_number_must_be_is_said():
    assert "returns a str. It must return one number" in verdict(EXERCISES["01.1"], lambda *_: "three")
    assert verdict(EXERCISES["01.1"], lambda counts, client: torch.tensor(counts[client] / sum(counts))) == "Right."


def test_an_error_in_an_answer_is_told_with_the_line_of_the_reader():
    def broken(counts: list[int], client: int) -> float:
        return statistics.mean([]) + counts[client]  # the library's own line would not help

    told = verdict(EXERCISES["01.1"], broken)
    assert "at `return statistics.mean([]) + counts[client]" in told and "StatisticsError" in told
    assert "does it take the arguments of the stub?" in verdict(EXERCISES["01.1"], lambda counts: 1.0)


def test_a_mask_of_digits_is_told_from_digits():
    def as_mask(moved: torch.Tensor, spare: int) -> object:
        return moved[-1] <= moved[-1, spare] / 2

    for answer in (as_mask, lambda *given: as_mask(*given).numpy(), lambda *given: as_mask(*given).tolist()):
        assert "True and False" in verdict(EXERCISES["02.3"], answer)


def test_a_changed_solution_loses_its_old_output(tmp_path: Path):
    for path in NOTEBOOKS.glob("01_*.ipynb"):
        shutil.copy(path, tmp_path)
    first, *_ = EXERCISES.values()
    shutil.copytree(NOTEBOOKS / "solutions", tmp_path / "solutions")
    changed = replace(first, stub=first.stub + "  # changed", solution=first.solution + "  # changed")
    write_exercises([changed], tmp_path)
    (path,) = tmp_path.glob("01_*.ipynb")
    stub = next(cell for cell in nbformat.read(path, 4).cells if cell.id == "exercise-01-1-stub")
    assert stub.source.endswith("# changed") and stub.execution_count is None
    solved = nbformat.read(tmp_path / "solutions" / path.name, 4)
    assert next(cell for cell in solved.cells if cell.id == "exercise-01-1-solution").execution_count is None


def test_a_folder_without_the_notebook_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"there is no notebook 01_\*.ipynb"):
        write_exercises(EXERCISES.values(), tmp_path)


def test_an_answer_cannot_change_what_the_check_compares_it_with():
    def share_of(num_examples: list[int], client: int) -> float:
        share = num_examples[client] / sum(num_examples)
        num_examples.clear()
        return share

    assert verdict(EXERCISES["01.1"], share_of) == "Right."


def test_check_prints_the_verdict_and_knows_its_exercises(capsys: pytest.CaptureFixture[str]):
    check("01.1", lambda counts, client: counts[client] / sum(counts))
    assert capsys.readouterr().out == "Right.\n"
    with pytest.raises(ValueError, match=r"no exercise '1': choose from \['01.1'"):
        check("1", None)


def test_notebooks_and_solutions_are_as_their_source_says(tmp_path: Path):
    folder = tmp_path / "notebooks"
    shutil.copytree(NOTEBOOKS, folder, ignore=shutil.ignore_patterns("runs", "pages"))
    before = {path.relative_to(folder): path.read_text("utf-8") for path in folder.rglob("*.ipynb")}
    write_exercises(EXERCISES.values(), folder)
    after = {path.relative_to(folder): path.read_text("utf-8") for path in folder.rglob("*.ipynb")}
    assert before.keys() == after.keys() and not [str(path) for path in before if before[path] != after[path]], (
        "run `make exercises`"
    )
    solved = [path for path in after if path.parent.name == "solutions"]
    assert len(solved) == len({exercise.name[:2] for exercise in EXERCISES.values()})
    for path in solved:  # what CI compares them with
        assert after[path].count("Right.\\n") == sum(name.startswith(path.name[:2]) for name in EXERCISES)


def test_a_notebook_without_a_place_for_exercises_is_refused():
    with pytest.raises(ValueError, match="add one"):
        with_exercises([nbformat.v4.new_markdown_cell("# Title")], list(EXERCISES.values()))
