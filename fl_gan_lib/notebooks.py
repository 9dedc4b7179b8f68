"""The notebooks: where they start, and how the third one is run for `make attack`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from fl_gan_lib.records import AttackRecord, record_path, summarise

_PROJECT = Path(__file__).parents[1]


def enter_notebooks() -> None:
    """Make `notebooks/` the working folder, from wherever in the project a notebook was started.

    Raises:
        FileNotFoundError: it is not to be found from here.
    """
    for folder in (Path(), Path("notebooks"), _PROJECT / "notebooks"):
        if (folder / "03_gan_attack.ipynb").exists() and (folder / "runs").is_dir():
            os.chdir(folder)
            return
    raise FileNotFoundError(f"{Path().resolve()} is not the folder notebooks/ of the project: start there")


def run_attack_notebook(
    target: str | None,
    *,
    dataset: str = "mnist-5k",
    data: str | Path | None = None,
    rounds: int | None = None,
    seed: int = 0,
    out: str | Path = "out",
    pictures: str | Path | None = None,
) -> str:
    """Run notebook 03, and say in four lines what it recovered.

    Into `out` go the record, the executed notebook, and the picture unless it has a folder of its own. A run that was
    interrupted goes on.

    Args:
        target: the class that the attacker lacks and wants, its name or number; by default 3 of MNIST.
        dataset: its name, see `load_dataset`.
        data: a folder of images instead, see `ImageDataset.from_folder`; 20 % of each class are held out.
        rounds: of federated averaging; by default 200.
        seed: of the run.
        out: a folder.
        pictures: a folder for the picture.

    Raises:
        ValueError, FileNotFoundError: an argument is wrong; the notebook has not been started.
        RuntimeError: an error has ended the notebook.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from fl_gan_lib.arguments import check_seed
    from fl_gan_lib.attack import check_rounds
    from fl_gan_lib.data import ImageDataset
    from fl_gan_lib.datasets import check_target, describe_dataset

    images = ImageDataset.from_folder(data).split() if data else dataset
    if target is None and (data or not dataset.startswith("mnist")):
        raise ValueError("no target: name the class that the attacker lacks and wants")
    label = check_target("3" if target is None else target, images)
    name = (images[0].classes if data else describe_dataset(dataset)[0])[label]
    check_rounds(rounds), check_seed(seed)
    folder = Path(out).expanduser().resolve()
    picture = Path(pictures or folder).expanduser().resolve() / f"comparison_{name}.png"
    for each in (folder, picture.parent):
        each.mkdir(parents=True, exist_ok=True)
    unfinished, finished = folder / f"unfinished_{name}.ipynb", folder / f"03_gan_attack_{name}.ipynb"
    parameters = {
        "target": label if dataset.startswith("mnist") and not data else name,
        "dataset": dataset,
        "data": str(Path(data).expanduser().resolve()) if data else "",
        "rounds": rounds,
        "rounds_by_hand": 0,
        "seed": seed,
        "output": str(folder),
        "picture": str(picture),
    }
    source = _PROJECT / "notebooks" / "03_gan_attack.ipynb"
    options = {"cwd": source.parent, "progress_bar": False, "stdout_file": sys.stdout}
    try:
        papermill.execute_notebook(source, unfinished, parameters, **options)
    except PapermillExecutionError as error:
        raise RuntimeError(f"{error.ename}: {error.evalue}\nThe notebook so far is {unfinished}") from error
    unfinished.replace(finished)
    summary = summarise(AttackRecord.load(record_path(folder, name)))
    return f"\n{summary}\nLook at: {picture}, and the executed notebook {finished}"
