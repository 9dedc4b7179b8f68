"""The commands behind the Makefile: `python -m fl_gan_lib record`, `pictures`, `table` and `summary`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import pandas as pd

from fl_gan_lib.figures import plot_comparison, plot_emergence
from fl_gan_lib.records import AttackRecord, load_records, record_path

RECORDS = Path("notebooks/runs")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fl_gan_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run the attack on some digits and save the records")
    record.add_argument("--digits", type=int, nargs="+", default=list(range(10)), choices=range(10), metavar="DIGIT")
    record.add_argument("--dataset", default="mnist-5k", choices=["mnist-5k", "mnist"])
    record.add_argument("--rounds", type=int, default=None)
    record.add_argument("--seed", type=int, default=0)
    record.add_argument("--folder", type=Path, default=RECORDS)
    pictures = commands.add_parser("pictures", help="draw the README's pictures from the records")
    pictures.add_argument("--folder", type=Path, default=RECORDS)
    pictures.add_argument("--images", type=Path, default=Path("img"))
    table = commands.add_parser(
        "table", help="attack, honest baseline and oracle for digits and seeds: a row of csv each"
    )
    table.add_argument("--digits", type=int, nargs="+", default=[3, 9], choices=range(10), metavar="DIGIT")
    table.add_argument("--seeds", type=int, nargs="+", default=list(range(5)), metavar="SEED")
    table.add_argument("--rounds", type=int, default=None)
    table.add_argument("--csv", type=Path, default=RECORDS / "seeds.csv")
    summary = commands.add_parser("summary", help="say in a few lines what a recorded attack recovered")
    summary.add_argument("record", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "summary":
        print(summarise(AttackRecord.load(arguments.record)))
        return
    if arguments.command == "pictures":
        draw_pictures(arguments.folder, arguments.images)
        return
    if arguments.command == "table":
        write_table(arguments.digits, arguments.seeds, arguments.rounds, arguments.csv)
        return
    from fl_gan_lib.attack import run_attack

    for digit in arguments.digits:
        result = run_attack(digit, dataset=arguments.dataset, rounds=arguments.rounds, seed=arguments.seed)
        print(summarise(result))
        print(f"saved {result.save(record_path(arguments.folder, digit))}")


def draw_pictures(folder: Path, images: Path) -> None:
    """All digits emerging, and the seed's arrangement for 3 and 9."""
    records = load_records(folder)
    images.mkdir(parents=True, exist_ok=True)
    plot_emergence(records).savefig(images / "emergence.png", dpi=100)
    for digit in records.keys() & {3, 9}:
        plot_comparison(records[digit]).savefig(images / f"comparison_{digit}.png", dpi=100)


def write_table(digits: list[int], seeds: list[int], rounds: int | None, path: Path) -> None:
    """Measure attack, honest baseline and oracle side by side, on mnist-5k, and write the rows as they come."""
    from fl_gan_lib.attack import run_attack
    from fl_gan_lib.baselines import honest_accuracy, run_oracle

    rows = []
    for digit, seed in itertools.product(digits, seeds):
        honest = honest_accuracy(digit, rounds=rounds, seed=seed)
        for run in (run_attack, run_oracle):
            record = run(digit, rounds=rounds, seed=seed)
            row = {"kind": record.config["kind"], "digit": digit, "seed": seed, "honest_accuracy": honest}
            rows.append(row | record.metrics.iloc[-1].to_dict())
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows).round(4).to_csv(path, index=False)


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
