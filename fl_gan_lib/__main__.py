"""The commands behind the Makefile: `python -m fl_gan_lib record` and `python -m fl_gan_lib summary`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fl_gan_lib.records import AttackRecord, record_path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fl_gan_lib", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    record = commands.add_parser("record", help="run the attack on some digits and save the records")
    record.add_argument("--digits", type=int, nargs="+", default=list(range(10)), choices=range(10), metavar="DIGIT")
    record.add_argument("--dataset", default="mnist-5k", choices=["mnist-5k", "mnist"])
    record.add_argument("--rounds", type=int, default=None)
    record.add_argument("--seed", type=int, default=0)
    record.add_argument("--folder", type=Path, default=Path("notebooks/runs"))
    summary = commands.add_parser("summary", help="say in a few lines what a recorded attack recovered")
    summary.add_argument("record", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "summary":
        print(summarise(AttackRecord.load(arguments.record)))
        return
    from fl_gan_lib.attack import run_attack

    for digit in arguments.digits:
        result = run_attack(digit, dataset=arguments.dataset, rounds=arguments.rounds, seed=arguments.seed)
        print(summarise(result))
        print(f"saved {result.save(record_path(arguments.folder, digit))}")


def summarise(record: AttackRecord) -> str:
    """Three plain lines: what was recovered, how well, how long it took."""
    last = record.metrics.iloc[-1]
    return (
        f"Recovered: what a {record.target} looks like, by a participant without a single {record.target} "
        f"({record.config['dataset']}, {record.rounds[-1]} rounds, seed {record.config['seed']}).\n"
        f"How well:  recognition {last['recognition']:.3f}, gap closed {last['gap_closed']:.3f}, "
        f"diversity {last['diversity']:.2f}; global accuracy {last['accuracy']:.3f}.\n"
        f"How long:  {last['seconds']:.0f} s of training."
    )


if __name__ == "__main__":
    main()
