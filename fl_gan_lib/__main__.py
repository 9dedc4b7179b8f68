"""The commands behind the Makefile and the live mode: `python -m fl_gan_lib table`, `anatomy`, and so on.

Each command is a function: it adds its arguments to a parser, and returns the function to run. Only that of the chosen
command is called, so the libraries of the others are not imported.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

RECORDS = Path("notebooks/runs")

Command = Callable[[ArgumentParser], Callable[[Namespace], object]]
COMMANDS: dict[str, tuple[str, Command]] = {}


def main() -> None:
    parser = ArgumentParser(prog="python -m fl_gan_lib", description="The commands behind the Makefile.")
    commands = parser.add_subparsers(required=True)
    for name, (words, function) in COMMANDS.items():
        subparser = commands.add_parser(name, help=words, description=words)
        if name in sys.argv[1:2]:
            subparser.set_defaults(run=function(subparser))
    given = parser.parse_args()
    given.run(given)


def command(words: str) -> Callable[[Command], Command]:
    """Make a function a command, of the same name; `words` say what it does."""

    def register(function: Command) -> Command:
        COMMANDS[function.__name__] = words, function
        return function

    return register


@command("say in a few lines what a recorded attack recovered")
def summary(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.records import AttackRecord, summarise

    parser.add_argument("record", type=Path)
    return lambda given: print(summarise(AttackRecord.load(given.record)))


@command("run notebook 03, and say in a few lines what it recovered")
def attack(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.notebooks import run_attack_notebook

    parser.add_argument("--target", help="the class that the attacker lacks: its name, or else its number")
    parser.add_argument("--dataset", default="mnist-5k", help="mnist-5k, mnist, faces or faces-64")
    parser.add_argument("--data", metavar="FOLDER", help="your own images: a sub-folder for each class")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out")
    parser.add_argument("--pictures", metavar="FOLDER", help="where the picture goes; by default into --out")

    def run(given: Namespace) -> None:
        options = {name: value for name, value in vars(given).items() if name not in ("run", "target")}
        with _in_words():
            print(run_attack_notebook(given.target, **options))

    return run


@command("draw the README's pictures from the records")
def pictures(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.figures import draw_pictures

    parser.add_argument("--folder", type=Path, default=RECORDS)
    parser.add_argument("--images", type=Path, default=Path("img"))
    return lambda given: draw_pictures(given.folder, given.images)


@command("write the exercises into the notebooks, and the solutions notebooks")
def exercises(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.lessons import EXERCISES
    from fl_gan_lib.lessons.writing import write_exercises

    return lambda given: write_exercises(EXERCISES.values(), "notebooks")


@command("serve the page with the explorer and live attacks, for a class")
def demo(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.explorer import server

    parser.add_argument("folder", type=Path, nargs="?", default=RECORDS, help="of records")
    parser.add_argument("--ip", default="127.0.0.1", help="0.0.0.0: a class can look, and hand in drawings")
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--base-url", default="/", help="the path that the page has behind a proxy")
    parser.add_argument("--certificate", type=Path, metavar="PEM", help="of this computer, for https")
    parser.add_argument("--key", type=Path, metavar="PEM", help="of the certificate, if it is in a file of its own")
    parser.add_argument("--browser", action=BooleanOptionalAction, default=True, help="open one on the page")

    def run(given: Namespace) -> None:
        options = {name: value for name, value in vars(given).items() if name not in ("run", "folder", "browser")}
        with suppress(KeyboardInterrupt):
            server.serve_demo(given.folder, open_browser=given.browser, **options)

    return run


@command("write the page with the explorer into a folder, for any web server")
def page(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.explorer.page import load_people, load_runs, write_page

    parser.add_argument("folder", type=Path, nargs="?", default=RECORDS, help="of records")
    parser.add_argument("--out", type=Path, default=Path("out/page"))
    return lambda given: print(write_page(load_runs(given.folder), given.out, people=load_people(given.folder)))


@command("the attack on drawn symbols, as csv; or how long it takes as a demo runs it")
def secrets(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.explorer.live import ROUNDS_ON_DRAWINGS
    from fl_gan_lib.studies.secrets import SYMBOLS, compare_secrets, time_live

    parser.add_argument("--live", action="store_true", help="only take the time of attacks of 100 rounds")
    _add_sweep(parser, "secrets.csv")

    def run(given: Namespace) -> None:
        seeds = given.seeds or (0, 1)
        if given.live:
            if given.rounds is not None:
                parser.error("--live is about attacks of 100 rounds, as on the page: leave --rounds out")
            time_live([*SYMBOLS][:5], seeds=seeds)
        else:
            rounds = ROUNDS_ON_DRAWINGS if given.rounds is None else given.rounds
            compare_secrets(given.csv, seeds=seeds, rounds=rounds, num_workers=given.workers)

    return run


@command("runs attacks that are ordered on its standard input, for whoever shows them")
def live(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.explorer.live import run_attacks

    return lambda given: run_attacks()


@command("the attack and what it is compared with as csv, and the records of seed 0")
def table(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies import table

    parser.add_argument("--digits", type=int, nargs="+", default=range(10), choices=range(10), metavar="DIGIT")
    parser.add_argument("--kinds", nargs="+", metavar="KIND", default=list(table.KINDS), choices=table.KINDS)
    _add_sweep(parser, "seeds.csv")

    def run(given: Namespace) -> None:
        options = _sweep_options(given)
        table.compare_digits(given.digits, seeds=given.seeds, kinds=given.kinds, **options)
        if 3 in given.digits and {"attack", "honest"} <= {*given.kinds}:
            table.follow_rounds(
                seeds=given.seeds or range(3), **options | {"path": given.csv.with_name("every_round.csv")}
            )

    return run


@command("the recorded runs, judged on the 10,000 test images of MNIST, as csv")
def confirm(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies.table import confirm_on_mnist

    parser.add_argument("--folder", type=Path, default=RECORDS)
    parser.add_argument("--digits", type=int, nargs="+", default=range(10), choices=range(10), metavar="DIGIT")
    parser.add_argument("--csv", type=Path, default=RECORDS / "mnist_test.csv")
    parser.add_argument("--workers", type=int)
    return lambda given: confirm_on_mnist(given.folder, digits=given.digits, path=given.csv, num_workers=given.workers)


@command("the settings that notebook 05 compares, as csv")
def anatomy(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies.anatomy import SETTINGS
    from fl_gan_lib.studies.jobs import compare

    parser.add_argument("--settings", nargs="+", metavar="NAME", default=list(SETTINGS), choices=SETTINGS)
    _add_sweep(parser, "anatomy.csv")
    return lambda given: compare(
        SETTINGS, "setting", given.settings, digits=[3], seeds=given.seeds or range(3), **_sweep_options(given)
    )


@command("the defences and attackers that notebook 06 compares, as csv")
def defences(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies.defences import DEFENCES, FURTHER_RUNS, RECORDED, SETTINGS
    from fl_gan_lib.studies.detection import ATTACKERS
    from fl_gan_lib.studies.jobs import compare

    known = [*SETTINGS, *ATTACKERS]
    parser.add_argument("--settings", nargs="+", metavar="NAME", choices=known, help="by default all of the notebook")
    parser.add_argument("--digits", type=int, nargs="+", choices=range(10), metavar="DIGIT", help="by default 3 and 9")
    _add_sweep(parser, "defences.csv")

    def run(given: Namespace) -> None:
        options = {"digits": given.digits or (3, 9), "seeds": given.seeds or range(3)} | _sweep_options(given)
        wanted = given.settings or [*DEFENCES, *ATTACKERS]
        if attackers := [name for name in wanted if name in ATTACKERS]:
            seen = given.csv.with_name("detection.csv")
            compare(ATTACKERS, "attacker", attackers, **options | {"path": seen})
        if names := [name for name in wanted if name in SETTINGS]:
            more = () if given.settings or given.digits or given.seeds else FURTHER_RUNS
            compare(SETTINGS, "defence", names, recorded=RECORDED, more=more, **options)

    return run


@command("the attack on people, and what notebook 08 compares it with, as csv; and records")
def faces(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies.faces import SETTINGS, compare_people

    parser.add_argument("--settings", nargs="+", metavar="NAME", default=list(SETTINGS), choices=SETTINGS)
    parser.add_argument("--rounds", type=int, help="of every run, for a quick look")
    parser.add_argument("--csv", type=Path, default=RECORDS / "faces.csv")
    parser.add_argument("--workers", type=int, help="processes; by default one a CPU core; 1 is this one alone")
    return lambda given: compare_people(given.csv, names=given.settings, rounds=given.rounds, num_workers=given.workers)


@command("gradient inversion of single updates, as csv")
def gradients(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies.gradients import compare_updates

    parser.add_argument("--csv", type=Path, default=RECORDS / "gradients.csv")
    parser.add_argument("--workers", type=int)
    return lambda given: compare_updates(path=given.csv, num_workers=given.workers)


@command("what a round costs on Flower, and sampled participants, as csv")
def scale(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.studies import scale

    parts = {
        "engines": scale.compare_engines,
        "draws": scale.compare_draws,
        "flower": scale.compare_parts,
        "crowds": scale.compare_crowds,
        "campus": scale.compare_deployed_secrets,
    }
    parser.add_argument("--folder", type=Path, default=RECORDS)
    parser.add_argument("--parts", nargs="+", metavar="PART", default=list(parts), choices=parts)

    def run(given: Namespace) -> None:
        for name in given.parts:
            parts[name](path=given.folder / f"{name}.csv")

    return run


@command("the attack on Flower's engine, on this computer")
def flower(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.flower.engine import deploy, simulate
    from fl_gan_lib.records import record_path, summarise

    parser.add_argument("--target", type=int, default=3, choices=range(10))
    parser.add_argument("--nodes", type=int, default=2, help="the attacker and the honest participants")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument(
        "--deploy", action="store_true", help="processes of their own, with TLS and node authentication"
    )

    def run(given: Namespace) -> None:
        start = deploy if given.deploy else simulate
        options = {} if given.rounds is None else {"rounds": given.rounds}
        with _in_words():
            record = start(given.target, output=given.out, num_nodes=given.nodes, **options)
        print(f"{summarise(record)}\nRecord: {record_path(given.out, record.target_name)}")

    return run


@command("a pad to draw a secret on, which goes into a file: the data of a node on Flower")
def draw(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.explorer.drawing import draw_to_file

    parser.add_argument("--out", type=Path, default=Path("secret.npz"))
    parser.add_argument("--port", type=int, default=8866)
    parser.add_argument("--browser", action=BooleanOptionalAction, default=True, help="open one on the page")

    def run(given: Namespace) -> None:
        with suppress(KeyboardInterrupt), _in_words():
            path = draw_to_file(given.out, port=given.port, open_browser=given.browser)
            print(f"Your drawings are in {path}.")

    return run


@command("deals a data set out into a file for each node on Flower")
def shares(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.flower.engine import check_config
    from fl_gan_lib.flower.node import write_shares

    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", default="3", help="the class that the attacker lacks")
    parser.add_argument("--nodes", type=int, default=2, help="the attacker, the last one, and the honest participants")
    parser.add_argument("--dataset", default="mnist-5k")
    parser.add_argument("--seed", type=int, default=0)

    def run(given: Namespace) -> None:
        with _in_words():
            config = check_config(given.target, "", given.nodes, {"dataset": given.dataset, "seed": given.seed})
            for number, path in enumerate(write_shares(config, given.folder)):
                print(f"node {number}: {path}")

    return run


@command("certificates and keys for Flower on several computers")
def keys(parser: ArgumentParser) -> Callable[[Namespace], object]:
    from fl_gan_lib.flower.keys import make_keys

    parser.add_argument("folder", type=Path)
    parser.add_argument("--hosts", nargs="+", default=[], help="names and addresses of the computer with the SuperLink")
    parser.add_argument("--nodes", type=int, default=2)

    def run(given: Namespace) -> None:
        with _in_words():
            folder = make_keys(given.folder, hosts=given.hosts, num_nodes=given.nodes)
        print(f"Keys for {given.nodes} nodes are in {folder}. Hand them out one by one. The certificate lasts 30 days.")

    return run


@contextmanager
def _in_words() -> Iterator[None]:
    """What is wrong is said in a line, without a traceback: for commands whose user has given what is wrong."""
    try:
        yield
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        sys.exit(str(error))


def _add_sweep(parser: ArgumentParser, file: str) -> None:
    """What all sweeps can be given."""
    parser.add_argument("--seeds", type=int, nargs="+", metavar="SEED")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--csv", type=Path, default=RECORDS / file)
    parser.add_argument("--workers", type=int, help="processes; by default one a CPU core; 1 is this one alone")


def _sweep_options(given: Namespace) -> dict[str, Any]:
    return {"rounds": given.rounds, "path": given.csv, "num_workers": given.workers}


if __name__ == "__main__":
    main()
