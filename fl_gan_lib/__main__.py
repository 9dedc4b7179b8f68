"""The commands behind the Makefile and the live mode: `python -m fl_gan_lib table`, `anatomy`, and so on."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from fl_gan_lib.explorer.live import attack_live
from fl_gan_lib.figures import plot_comparison, plot_emergence, save_emergence, save_picture
from fl_gan_lib.records import AttackRecord, load_records, record_path

RECORDS = Path("notebooks/runs")
KINDS = ["attack", "passive", "oracle", "honest"]


def main() -> None:
    arguments = _parser().parse_args()
    match arguments.command:
        case "summary":
            print(summarise(AttackRecord.load(arguments.record)))
        case "pictures":
            draw_pictures(arguments.folder, arguments.images)
        case "demo":
            from fl_gan_lib.explorer.server import serve_demo

            serve_demo(
                arguments.notebook,
                ip=arguments.ip,
                port=arguments.port,
                certificate=arguments.certificate,
                key=arguments.key,
                viewers=arguments.viewers,
                open_browser=arguments.browser,
            )
        case "live":
            attack_live(arguments.target, arguments.record, rounds=arguments.rounds)
        case "table":
            from fl_gan_lib.studies.table import compare_digits

            compare_digits(
                _cases(arguments.digits, arguments.seeds),
                kinds=arguments.kinds,
                rounds=arguments.rounds,
                path=arguments.csv,
                num_workers=arguments.workers,
            )
        case "anatomy":
            from fl_gan_lib.studies.anatomy import SETTINGS, compare_settings

            compare_settings(
                arguments.settings or list(SETTINGS),
                seeds=arguments.seeds or range(3),
                rounds=arguments.rounds,
                path=arguments.csv,
                num_workers=arguments.workers,
            )
        case "defences":
            from fl_gan_lib.studies.defences import DEFENCES, compare_defences
            from fl_gan_lib.studies.detection import ATTACKERS, compare_attackers

            options = {"digits": arguments.digits, "seeds": arguments.seeds or range(3), "rounds": arguments.rounds}
            options |= {"num_workers": arguments.workers}
            wanted = arguments.settings or [*DEFENCES, *ATTACKERS]
            if attackers := [name for name in wanted if name in ATTACKERS]:
                compare_attackers(attackers, path=arguments.csv.with_name("detection.csv"), **options)
            if names := [name for name in wanted if name not in ATTACKERS]:
                compare_defences(names, path=arguments.csv, **options)
        case "scale":
            from fl_gan_lib.studies.scale import compare_draws, compare_engines

            compare_engines(path=arguments.folder / "engines.csv")
            compare_draws(path=arguments.folder / "draws.csv")
        case "flower":
            from fl_gan_lib.flower.engine import deploy, simulate

            start = deploy if arguments.deploy else simulate
            options = {} if arguments.rounds is None else {"rounds": arguments.rounds}
            record = start(arguments.target, output=arguments.out, num_nodes=arguments.nodes, **options)
            print(f"{summarise(record)}\nRecord: {record_path(arguments.out, record.target)}")
        case "keys":
            from fl_gan_lib.flower.keys import make_keys

            folder = make_keys(arguments.folder, hosts=arguments.hosts, num_nodes=arguments.nodes)
            print(f"Keys for {arguments.nodes} nodes are in {folder}: valid for 30 days, and for nobody else's eyes.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fl_gan_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    summary = commands.add_parser("summary", help="say in a few lines what a recorded attack recovered")
    summary.add_argument("record", type=Path)
    pictures = commands.add_parser("pictures", help="draw the README's pictures from the records")
    pictures.add_argument("--folder", type=Path, default=RECORDS)
    pictures.add_argument("--images", type=Path, default=Path("img"))
    demo = commands.add_parser("demo", help="serve notebook 04 as a page, with Voila")
    demo.add_argument("notebook", type=Path, nargs="?", default=Path("notebooks/04_visual_comparison.ipynb"))
    demo.add_argument("--ip", default="127.0.0.1", help="0.0.0.0: whoever has the token may look, and start attacks")
    demo.add_argument("--port", type=int, default=8866)
    demo.add_argument("--certificate", type=Path, metavar="PEM", help="of this computer, for https")
    demo.add_argument("--key", type=Path, metavar="PEM", help="of the certificate, if it is in a file of its own")
    demo.add_argument("--viewers", type=int, default=40, help="at most so many at a time")
    demo.add_argument("--browser", action=argparse.BooleanOptionalAction, default=True, help="open one on the page")
    live = commands.add_parser("live", help="an attack that reports each round, and stops when its input ends")
    live.add_argument("target", type=int, choices=range(10))
    live.add_argument("record", type=Path)
    live.add_argument("--rounds", type=int, required=True)
    table = commands.add_parser("table", help="the kinds of runs as csv, and the records of seed 0")
    table.add_argument("--digits", type=int, nargs="+", default=range(10), choices=range(10), metavar="DIGIT")
    table.add_argument("--kinds", nargs="+", default=["attack", "oracle", "honest"], choices=KINDS)
    anatomy = commands.add_parser("anatomy", help="the settings that notebook 05 compares, as csv")
    anatomy.add_argument("--settings", nargs="+", metavar="NAME", help="by default all of them")
    defences = commands.add_parser("defences", help="the defences and attackers that notebook 06 compares, as csv")
    defences.add_argument("--settings", nargs="+", metavar="NAME", help="by default all of them")
    defences.add_argument("--digits", type=int, nargs="+", default=(3, 9), choices=range(10), metavar="DIGIT")
    scale = commands.add_parser("scale", help="what a round costs on Flower, and sampled participants, as csv")
    scale.add_argument("--folder", type=Path, default=RECORDS)
    flower = commands.add_parser("flower", help="the attack on Flower's engine, simulated on this computer")
    flower.add_argument("--target", type=int, default=3, choices=range(10))
    flower.add_argument("--nodes", type=int, default=2, help="the attacker and the honest participants")
    flower.add_argument("--rounds", type=int)
    flower.add_argument("--out", type=Path, default=Path("out"))
    flower.add_argument(
        "--deploy", action="store_true", help="processes of their own, with TLS and node authentication"
    )
    keys = commands.add_parser("keys", help="certificates and keys for Flower on several computers")
    keys.add_argument("folder", type=Path)
    keys.add_argument("--hosts", nargs="+", default=[], help="names and addresses of the computer with the SuperLink")
    keys.add_argument("--nodes", type=int, default=2)
    for sweep, file in ((table, "seeds.csv"), (anatomy, "anatomy.csv"), (defences, "defences.csv")):
        sweep.add_argument("--seeds", type=int, nargs="+", metavar="SEED")
        sweep.add_argument("--rounds", type=int)
        sweep.add_argument("--csv", type=Path, default=RECORDS / file)
        sweep.add_argument("--workers", type=int, help="processes; by default one a CPU core, 0 for this one alone")
    return parser


def _cases(digits: Iterable[int], seeds: Sequence[int] | None) -> list[tuple[int, int]]:
    """(digit, seed): by default three seeds, and five for the two digits of the README's pictures."""
    cases = [(digit, seed) for digit in digits for seed in seeds or range(5 if digit in (3, 9) else 3)]
    return sorted(cases, key=lambda case: case[1])


def draw_pictures(folder: Path, images: Path) -> None:
    """All digits emerging, as a strip and in motion, and the comparisons of 3 and 9."""
    records = load_records(folder)
    images.mkdir(parents=True, exist_ok=True)
    save_picture(plot_emergence(records), images / "emergence.png")
    save_emergence(records, images / "emergence.gif")
    for digit in records.keys() & {3, 9}:
        save_picture(plot_comparison(records[digit]), images / f"comparison_{digit}.png")


def summarise(record: AttackRecord) -> str:
    """Three plain lines: what was recovered, if anything, how well, and how long it took."""
    last = record.metrics.iloc[-1]
    digit, rounds = record.target, record.rounds[-1]
    readable = last["recognition"] >= 0.9 and last["gap_closed"] >= 0.6
    return (
        f"{'Recovered' if readable else 'Not recovered'}: what a {digit} looks like, by a participant without a single "
        f"{digit} ({record.config['dataset']}, {rounds} rounds, seed {record.config['seed']}).\n"
        f"How well: recognition {last['recognition']:.3f}, gap closed {last['gap_closed']:.3f}, "
        f"diversity {last['diversity']:.2f}; global accuracy {last['accuracy']:.3f}.\n"
        f"How long: {last['seconds']:.0f} s of training."
    )


if __name__ == "__main__":
    main()
