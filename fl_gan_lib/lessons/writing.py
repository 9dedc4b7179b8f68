"""Writes the exercises into the notebooks, and the solutions notebooks beside them (`make exercises`)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from fl_gan_lib.lessons.exercise import Exercise, verdict
from fl_gan_lib.recording import files

# What solutions may use without importing it: the notebooks import it at their beginning.
IMPORTS = {"np.": "import numpy as np", "torch.": "import torch", "F.": "from torch.nn import functional as F"}

HEADING = "## Exercises"


def write_exercises(exercises: Iterable[Exercise], folder: str | Path) -> None:
    """Bring the exercises in the notebooks of `folder` up to date, and write its `solutions/`.

    Outputs of cells that stay as they are stay as well; run the notebooks for the others.

    Raises:
        ValueError: a notebook is missing, or has no cell that begins with "## Exercises", after which they stand.
    """
    for number, group in groupby(exercises, key=lambda exercise: exercise.name.partition(".")[0]):
        mine = list(group)
        path = next(Path(folder).glob(f"{number}_*.ipynb"), None)
        if path is None:
            raise ValueError(f"there is no notebook {number}_*.ipynb in {folder}: run this in the project's folder")
        notebook = nbformat.read(path, 4)
        notebook.cells = with_exercises(notebook.cells, mine)
        _write(notebook, path)
        _write(solutions_of(notebook, mine, path.name), path.parent / "solutions" / path.name)


def with_exercises(cells: Sequence[NotebookNode], exercises: Sequence[Exercise]) -> list[NotebookNode]:
    """The cells of a notebook with those of its exercises replaced."""
    others = [cell for cell in cells if not cell.id.startswith("exercise-")]
    places = [place for place, cell in enumerate(others, start=1) if cell.source.startswith(HEADING)]
    if not places:
        raise ValueError(f'there is no cell that begins with "{HEADING}": add one where the exercises are to stand')
    made = [cell for exercise in exercises for cell in _task(exercise)]
    return [*others[: places[0]], *made, *others[places[0] :]]


def solutions_of(notebook: NotebookNode, exercises: Sequence[Exercise], name: str) -> NotebookNode:
    """The solutions notebook of a notebook of that file name."""
    title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
    introduction = f"""# Solutions of {title}

One right answer for each exercise of [{title}](../{name}), its check, and what typical wrong answers are told. Another
answer can be right as well: the check decides."""
    code = "\n".join(exercise.solution for exercise in exercises)
    imports = [line for use, line in IMPORTS.items() if use in code]
    start = "\n".join([*imports, "", "from fl_gan_lib.lessons import check"]).lstrip()
    cells = [new_markdown_cell(introduction, id="introduction"), new_code_cell(start, id="imports")]
    for exercise in exercises:
        task, _, checked = _task(exercise)
        mistakes = "\n\n".join(
            f"```python\n{wrong}\n```\n\n> {verdict(exercise, answer_of(exercise, wrong))}" for wrong in exercise.wrong
        )
        after = f"{exercise.explanation}\n\n### Typical mistakes\n\n{mistakes}"
        cells += [
            new_markdown_cell(task.source.removeprefix("#"), id=task.id),
            new_code_cell(exercise.solution, id=_id(exercise, "solution")),
            checked,
            new_markdown_cell(after, id=_id(exercise, "explanation")),
        ]
    return new_notebook(cells=cells, metadata=notebook.metadata)


def answer_of(exercise: Exercise, code: str) -> Any:
    """What `code` leaves under the name that the exercise asks for."""
    names: dict[str, Any] = {}
    exec("\n".join([*IMPORTS.values(), code]), names)
    return names[exercise.answer]


def _task(exercise: Exercise) -> tuple[NotebookNode, NotebookNode, NotebookNode]:
    number = exercise.name.rpartition(".")[2]
    words = f"""### Exercise {number} · {exercise.title}

*{exercise.level.capitalize()}, {exercise.minutes} minutes.* {exercise.task}

<details><summary>Hint</summary>

{exercise.hint}
</details>"""
    return (
        new_markdown_cell(words, id=_id(exercise, "task")),
        new_code_cell(exercise.stub, id=_id(exercise, "stub")),
        new_code_cell(f'check("{exercise.name}", {exercise.answer})', id=_id(exercise, "check")),
    )


def _id(exercise: Exercise, part: str) -> str:
    return f"exercise-{exercise.name.replace('.', '-')}-{part}"


def _write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook; code cells whose source is as in the file that stood there keep their outputs."""
    old = {cell.id: cell for cell in nbformat.read(path, 4).cells} if path.exists() else {}
    for cell in notebook.cells:
        before = old.get(cell.id)
        if cell.cell_type == "code" and before and before.source == cell.source:
            cell.outputs, cell.execution_count, cell.metadata = before.outputs, before.execution_count, before.metadata
    files.write_atomically(path, (nbformat.writes(notebook) + "\n").encode())
