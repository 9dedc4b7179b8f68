"""Every number of the README's results, and of the page Results, is that of the csv files."""

import re
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "notebooks" / "pages" / "results.md"
RUNS = pd.read_csv(ROOT / "notebooks" / "runs" / "seeds.csv")
KINDS = {
    "**the attack**": "attack",
    "oracle: the same GAN on the victim's own images": "oracle",
    "oracle with the federation's discriminator": "oracle, all classes",
    "without injection": "passive",
    "class held back: nobody shows the model the digit": "class held back",
    "*real images*": "real images",
    "*another digit*": "another class",
    "*uniform noise*": "noise",
}
IN_README = ("attack", "oracle", "passive", "class held back", "real images", "noise")
COLUMNS = {"TSTR": "tstr", "Fréchet distance": "frechet_distance"}  # headings that are no names of columns


def rows_of(text: str, heading: str) -> dict[str, dict[str, str]]:
    """The table with that heading: by its first column, by its other headings, the cells."""
    lines = text.split(f"{heading}\n", 1)[1].splitlines()
    names = [cell.strip() for cell in heading.strip("|").split("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    table = {}
    for row in rows:
        if len(row) != len(names):
            break
        table[row[0]] = dict(zip(names[1:], row[1:], strict=True))
    return table


def median_and_worst(runs: pd.DataFrame, column: str, like: str) -> str:
    digits = len(like.split()[0].partition(".")[2])
    worst = runs[column].max() if column == "frechet_distance" else runs[column].min()
    return f"{runs[column].median():.{digits}f} ({worst:.{digits}f})"


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        (README, "| | TSTR | probe | recognition | diversity |", [name for name in KINDS if KINDS[name] in IN_README]),
        (PAGE, "| | runs | TSTR | probe | recognition | Fréchet distance | diversity |", list(KINDS)),
    ],
    ids=["README", "page"],
)
def test_the_table_of_results_is_that_of_the_csv(page, heading, names):
    table = rows_of(page.read_text(encoding="utf-8"), heading)
    assert list(table) == [name.partition(":")[0] if page == README else name for name in names]
    for name, cells in zip(names, table.values(), strict=True):
        runs = RUNS[RUNS["kind"] == KINDS[name]]
        assert int(cells.pop("runs", len(runs))) == len(runs)
        for title, cell in cells.items():
            assert cell == median_and_worst(runs, COLUMNS.get(title, title), cell), (name, title)


def test_the_table_by_digit_is_that_of_the_csv():
    titles = ["TSTR, attack", "TSTR, oracle", "TSTR, real", "probe, attack", "probe, real", "Fréchet distance"]
    heading = f"| digit | {' | '.join(titles)} | diversity |"
    table = rows_of(PAGE.read_text(encoding="utf-8"), heading)
    assert list(table) == list("0123456789")
    for digit, cells in table.items():
        for title, cell in cells.items():
            name, _, kind = title.partition(", ")
            kind = {"": "attack", "real": "real images"}.get(kind, kind)
            runs = RUNS[(RUNS["kind"] == kind) & (RUNS["digit"] == int(digit))]
            expected = median_and_worst(runs, COLUMNS.get(name, name), cell)
            assert cell == expected or cell == expected.split()[0], (digit, title)


def test_the_table_on_mnist_is_that_of_the_csv():
    judged = pd.read_csv(ROOT / "notebooks" / "runs" / "mnist_test.csv")
    table = rows_of(PAGE.read_text(encoding="utf-8"), "| on 10,000 images | TSTR | probe |")
    kinds = {"**the attack**": "attack", "oracle": "oracle", "without injection": "passive"}
    kinds |= {"class held back": "class_held_back_200_rounds", "*real images*": "real images"}
    assert list(table) == list(kinds) and set(judged["digit"]) == set(range(10))
    for name, cells in table.items():
        runs = judged[judged["kind"] == kinds[name]]
        for title, cell in cells.items():
            assert cell == median_and_worst(runs, title.lower(), cell), (name, title)


@pytest.mark.parametrize("page", [README, PAGE], ids=["README", "page"])
def test_the_ratio_to_real_images_is_that_of_the_csv(page):
    by_run = RUNS.pivot(index=["digit", "seed"], columns="kind", values="tstr")
    ratio = (by_run["attack"] / by_run["real images"]).dropna()
    numbers = re.findall(r"\d\.\d{3} times|worst of \d+ runs|median of \d+ runs", page.read_text(encoding="utf-8"))
    assert {f"{ratio.median():.3f} times", f"{ratio.min():.3f} times"} <= set(numbers)
    assert {f"worst of {len(ratio)} runs", f"median of {len(ratio)} runs"} & set(numbers)


def test_noise_fails_both_numbers_on_every_digit():
    noise = RUNS[RUNS["kind"] == "noise"]
    assert set(noise["digit"]) == set(range(10)) and noise[["probe", "tstr"]].max(axis=None) <= 0.1


def test_no_page_of_the_core_quotes_gap_closed():
    for number in ("01", "02", "03", "04", "05"):
        (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        assert not re.search(r"gap[ _]closed|membership[ _]gap", notebook.read_text(encoding="utf-8")), number
    assert "gap closed" not in README.read_text(encoding="utf-8")
