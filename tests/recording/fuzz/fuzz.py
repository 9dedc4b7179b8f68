"""A coverage-guided fuzzer of what reads files: records, archives, the states in checkpoints, and the files of MNIST.

    python -m zipfile -e tests/recording/fuzz/corpus/records.zip out/corpus
    python tests/recording/fuzz/fuzz.py records -max_total_time=600 out/corpus

The first argument is a name in `targets.TARGETS`; the others are libFuzzer's, and new inputs go to the folder. A crash
is an exception other than ValueError, a file that is accepted and then cannot be used, more than a gibibyte of memory,
or an input that takes ten seconds. `tests/recording/test_files.py` replays the corpus without the fuzzer.

It needs atheris, which comes for Linux and macOS and some Pythons only, and so is not among the project's requirements:
`pip install atheris`, into an environment that has the project.
"""

import random
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parent))
with atheris.instrument_imports(include=["fl_gan_lib.recording", "fl_gan_lib.records", "zipfile", "targets"]):
    import zipfile

    import targets

name = sys.argv.pop(1)
target = targets.TARGETS[name]
if target is targets.fuzz_mnist:
    from fl_gan_lib.datasets import mnist

    mnist._parse_idx = atheris.instrument_func(mnist._parse_idx)
if target is targets.fuzz_states:
    from fl_gan_lib.recording import states

    for function in ("load", "_read", "_restore", "_kinds"):
        setattr(states, function, atheris.instrument_func(getattr(states, function)))
# A checksum is what mutations do not get past.
zipfile.ZipExtFile._update_crc = lambda *_: None


@atheris.instrument_func
def test_one_input(content: bytes) -> None:
    target(content)


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """libFuzzer's own mutation of the whole, or of one part of a recipe, or one that leaves it nearly well-formed."""
    dice = random.Random(seed)
    if not content.startswith(targets.PARTS) or dice.random() < 0.2:
        return atheris.Mutate(content, max_size)
    parts = content.split(targets.PARTS)[1:]
    if dice.random() < 0.1:  # one more, one less, or another order
        parts = dice.choices(parts, k=len(parts)) + parts[: dice.randrange(2)]
    at = dice.randrange(len(parts))
    name, _, inside = parts[at].partition(b"\n")
    if dice.random() < 0.2:
        inside = atheris.Mutate(inside, len(inside) + 64)
    elif inside.startswith(b"{'"):
        inside = targets.mutate_header(inside, dice)
    elif inside.startswith(b"{"):
        inside = targets.mutate_json(inside, dice)
    parts[at] = name + b"\n" + inside
    return b"".join(targets.PARTS + part for part in parts)[:max_size]


# The first is what libFuzzer calls again to merge corpora.
atheris.Setup(
    [f"{sys.executable} {__file__} {name}", *sys.argv[1:], "-rss_limit_mb=1024", "-timeout=10"],
    test_one_input,
    custom_mutator=mutate,
)
atheris.Fuzz()
