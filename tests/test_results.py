"""Every number of the README's results, and of the page Results, is that of the csv files."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fl_gan_lib.records import AttackRecord, record_path
from fl_gan_lib.studies.defences import RECORDED, THIRD_DIGIT, attackers_of
from fl_gan_lib.studies.jobs import record_kind
from fl_gan_lib.studies.secrets import summarise_secrets

ROOT = Path(__file__).parents[1]
README, PAGE = ROOT / "README.md", ROOT / "notebooks" / "pages" / "results.md"
DEFENCES = ROOT / "notebooks" / "pages" / "defences.md"
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


def median_and_range(runs: pd.DataFrame, column: str, like: str) -> str:
    digits = len(like.split()[0].partition(".")[2])
    return f"{runs[column].median():.{digits}f} ({runs[column].min():.{digits}f} to {runs[column].max():.{digits}f})"


def median_and_worst(runs: pd.DataFrame, column: str, like: str) -> str:
    digits = len(like.split()[0].partition(".")[2])
    worst = runs[column].max() if column == "frechet_distance" else runs[column].min()
    return f"{runs[column].median():.{digits}f} ({worst:.{digits}f})"


@pytest.mark.parametrize(
    ("page", "heading", "names"),
    [
        (README, "| | TSTR | probe | recognition |", [name for name in KINDS if KINDS[name] in IN_README]),
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
            column = COLUMNS.get(title, title)
            if (name, title) == ("*real images*", "Fréchet distance"):
                column = "frechet_real"  # of others than those that it is the distance to
            assert cell == median_and_range(runs, column, cell), (name, title)


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
            assert cell == median_and_range(runs, title.lower(), cell), (name, title)


@pytest.mark.parametrize("page", [README, PAGE], ids=["README", "page"])
def test_the_ratio_to_real_images_is_that_of_the_csv(page):
    by_run = RUNS.pivot(index=["digit", "seed"], columns="kind", values="tstr")
    ratio = (by_run["attack"] / by_run["real images"]).dropna()
    numbers = re.findall(r"\d\.\d{3} times|worst of \d+ runs|median of \d+ runs", page.read_text(encoding="utf-8"))
    assert {f"{ratio.median():.3f} times", f"{ratio.min():.3f} times"} <= set(numbers)
    assert {f"worst of {len(ratio)} runs", f"median of {len(ratio)} runs"} & set(numbers)


# What the tables call a setting that the csv calls otherwise.
NAMES = {
    "*no defence*": "none",
    "DP-SGD, ε = 8": "DP-SGD, epsilon 8",
    "DP-SGD, ε = 1": "DP-SGD, epsilon 1",
    "20 rounds, not 100": "20 rounds",
    "*one attacker among ten*": "9 honest",
    "the same, median": "9 honest, median",
}
COLUMN = {"accuracy": "target_accuracy", "target accuracy": "target_accuracy", "TSTR": "tstr", "probe": "probe"}


@pytest.fixture(scope="module")
def last_rounds() -> pd.DataFrame:
    return pd.read_csv(ROOT / "notebooks" / "runs" / "defences.csv").groupby(["defence", "digit", "seed"]).tail(1)


def among_ten(name: str) -> str:
    """The setting of a row of the page's second table."""
    names = {"*no defence*": "9 honest", "noise on the mean, z = 1": "9 honest, noise at the server"}
    return names.get(name, f"9 honest, {name}")


def column(last_rounds: pd.DataFrame, setting: str, digit: int, title: str) -> tuple[pd.Series, str]:
    """What stands under a title, run by run, and which name in the csv: the title may ask for an attacker."""
    runs = {name: of for name, of in last_rounds[last_rounds["digit"] == digit].groupby("defence")}
    name = setting
    if "most harmful" in title:
        attackers = [attacker for attacker in attackers_of(setting) if attacker in runs]
        name = max(attackers, key=lambda attacker: runs[attacker]["tstr"].median())
    return runs[name][COLUMN[title.partition(",")[0]]], name


def test_each_number_on_the_third_digit_is_that_of_the_csv(last_rounds):
    titles = ["target accuracy", "TSTR", "probe", "TSTR, most harmful attacker"]
    table = rows_of(DEFENCES.read_text(encoding="utf-8"), f"| digit {THIRD_DIGIT} | {' | '.join(titles)} |")
    ten = {"*one attacker among ten*": "9 honest", "one attacker among ten, median": "9 honest, median"}
    assert len(table) >= 8
    for name, cells in table.items():
        setting = (NAMES | ten).get(name, name)
        for title, cell in cells.items():
            values, chosen = column(last_rounds, setting, THIRD_DIGIT, title)
            does = "" if chosen == setting else f": {chosen.removeprefix(f'{setting}, ')}"
            assert cell == f"{values.median():.2f}{does}", (name, title)
        leaks = [column(last_rounds, setting, digit, "TSTR")[0].median() for digit in (3, 9)]
        assert column(last_rounds, setting, THIRD_DIGIT, "TSTR")[0].median() >= max(leaks), name


def test_each_number_of_the_readme_on_defences_is_that_of_the_csv(last_rounds):
    heading = "| defence | target accuracy | TSTR | TSTR, most harmful attacker | advice |"
    table = rows_of(README.read_text(encoding="utf-8"), heading)
    assert 7 <= len(table) <= 10
    for name, cells in table.items():
        assert cells.pop("advice")
        for title, cell in cells.items():
            medians = [column(last_rounds, NAMES.get(name, name), digit, title)[0].median() for digit in (3, 9)]
            assert cell == ", ".join(f"{median:.2f}" for median in medians), (name, title)


@pytest.mark.parametrize(
    ("which", "setting_of"),
    [(0, lambda name: NAMES.get(name, name)), (1, among_ten)],
    ids=["one honest participant", "one attacker among ten"],
)
def test_each_number_of_the_page_on_defences_is_that_of_the_csv(last_rounds, which, setting_of):
    titles = ["target accuracy", "TSTR", "probe", "TSTR, most harmful attacker"]
    heading = f"| defence | {' | '.join(f'{title}: 3 | 9' for title in titles)} |"
    page = DEFENCES.read_text(encoding="utf-8").split(heading)[which + 1]
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.split("\n\n")[0].splitlines()[2:]]
    assert len(table) >= 5
    for name, *cells in table:
        setting = setting_of(name)
        for place, cell in enumerate(cells):
            digit, title = (3, 9)[place % 2], titles[place // 2]
            values, chosen = column(last_rounds, setting, digit, title)
            worst = values.min() if title == "target accuracy" else values.max()
            does = "" if chosen == setting else f": {chosen.removeprefix(f'{setting}, ')}"
            assert cell == f"{values.median():.2f} ({worst:.2f}){does}", (name, title, digit)
            # As the page says above its tables.
            assert len(values) == 2 + ((chosen, digit) != ("9 honest, takes four times as many steps", 9))


def test_each_number_of_the_gradient_inversions_is_that_of_the_csv():
    rows = pd.read_csv(ROOT / "notebooks" / "runs" / "gradients.csv").groupby("update")
    page = (DEFENCES.parent / "related_work.md").read_text(encoding="utf-8")
    table = rows_of(page, "| update | error | error of another image | closer |")
    assert set(table) == set(rows.groups)
    for update, cells in table.items():
        for (_, cell), name in zip(cells.items(), ("error", "other_error", "closer"), strict=True):
            values = rows.get_group(update)[name]
            assert cell == f"{values.median():.2f} ({values.min():.2f} to {values.max():.2f})", (update, name)


def test_what_the_readme_says_of_defences_holds_on_fresh_seeds():
    rows = pd.read_csv(ROOT / "notebooks" / "runs" / "fresh_defences.csv")
    last = rows.groupby(["defence", "digit", "seed"]).tail(1).set_index(["defence", "digit", "seed"])
    assert set(last.index.get_level_values("seed")) == {3, 4} and set(last.index.get_level_values("digit")) == {3, 9}
    tstr, probe, accuracy = last["tstr"], last["probe"], last["target_accuracy"]
    assert (tstr["augmentation"] - tstr["none"]).abs().max() < 0.05
    assert (tstr["class held back"] < tstr["none"] - 0.3).all() and accuracy["class held back"].max() < 0.05
    assert (accuracy["DP-SGD, epsilon 8"] < accuracy["none"] - 0.02).all()
    assert (probe["DP-SGD, epsilon 8"] > probe["class held back"]).all()
    assert (tstr["1 % of each update"] < tstr["none"] - 0.15).all()
    assert tstr["1 % of each update, sends all of its own"].min() > 0.6
    assert (tstr["20 rounds"] < tstr["none"]).all() and (accuracy["20 rounds"] < accuracy["none"]).all()
    gained = tstr["20 rounds, takes twice as many steps"] - tstr["20 rounds"]
    assert gained.min() > -0.02 and gained[9].min() > 0.1
    assert (tstr["9 honest, median"] < tstr["9 honest"] - 0.2).all()
    assert (accuracy["9 honest, median"] > accuracy["9 honest"] - 0.03).all()


def test_noise_fails_both_numbers_on_every_digit():
    noise = RUNS[RUNS["kind"] == "noise"]
    assert set(noise["digit"]) == set(range(10)) and noise[["probe", "tstr"]].max(axis=None) <= 0.1


def test_no_page_of_the_core_quotes_gap_closed():
    for number in ("01", "02", "03", "04", "05", "06"):
        (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
        assert not re.search(r"gap[ _]closed|membership[ _]gap", notebook.read_text(encoding="utf-8")), number
    assert not [page for page in (README, DEFENCES) if "gap closed" in page.read_text(encoding="utf-8")]


def test_each_number_on_drawn_secrets_is_that_of_the_csv():
    summary = summarise_secrets(pd.read_csv(ROOT / "notebooks" / "runs" / "secrets.csv"))
    heading = f"| symbol | {' | '.join(summary.columns)} |"
    page = (ROOT / "notebooks" / "pages" / "in_class.md").read_text(encoding="utf-8")
    assert rows_of(page, heading) == summary.to_dict("index")


def test_the_pictures_of_the_defences_are_of_the_three():
    runs = ROOT / "notebooks" / "runs"
    pictures = np.load(runs / "defences.npz")
    for name in RECORDED:
        record = AttackRecord.load(record_path(runs, "3", record_kind(name)))
        assert np.array_equal(pictures[name], record.samples[-1, :10]), name


def test_where_fresh_seeds_lie_beyond_the_brackets_is_said(last_rounds):
    page = DEFENCES.read_text(encoding="utf-8")
    _, _, words = page.partition("TSTR was higher by 0.03 or more in these cases: ")
    said = sorted(re.findall(r"\((0\.\d\d)\)", words.partition("\n")[0]))
    fresh = pd.read_csv(ROOT / "notebooks" / "runs" / "fresh_defences.csv")
    fresh = fresh.groupby(["defence", "digit", "seed"]).tail(1).groupby(["defence", "digit"])["tstr"].max().round(2)
    known = last_rounds.groupby(["defence", "digit"])["tstr"].max().round(2)
    beyond = fresh[fresh > known.reindex(fresh.index)]
    much = beyond - known.reindex(beyond.index) > 0.025
    assert said == sorted(f"{value:.2f}" for value in beyond[much])


def test_the_numbers_of_the_readme_on_people_are_those_of_the_csv():
    rows = pd.read_csv(ROOT / "notebooks" / "runs" / "faces.csv")
    identified = rows.groupby(["setting", "person", "seed"]).tail(1).groupby("setting")["identified"]
    words = (
        r"the right one for \*\*(.*?)\*\* of the fakes \(median of (\d+) attacks on ten people; lowest (.*?)\)\. "
        r"With the class held back: (.*?); real photographs: (.*?); chance"
    )
    median, number, lowest, nobody, real = re.search(words, README.read_text(encoding="utf-8")).groups()
    medians = identified.median()
    assert int(number) == identified.size()["attack"] == 30
    assert (median, lowest) == (f"{medians['attack']:.2f}", f"{identified.min()['attack']:.2f}")
    assert (nobody, real) == (f"{medians['class held back']:.2f}", f"{medians['real images']:.2f}")
    last = rows.groupby(["setting", "person", "seed"]).tail(1)
    probe = last.groupby(["setting", "person"])["probe"].mean().groupby("setting").mean()
    words = r"The probe agrees: (.*?), held back (\d\.\d\d)"
    said = re.search(words, README.read_text(encoding="utf-8")).groups()
    assert said == (f"{probe['attack']:.2f}", f"{probe['class held back']:.2f}")
