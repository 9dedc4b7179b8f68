import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw
from xdist.scheduler import LoadFileScheduling

from fl_gan_lib.data import ImageDataset
from fl_gan_lib.records import AttackRecord

# Each of these starts Flower's simulation. They share a process, so that no two simulations run at a time: one failed
# when three test processes shared two cores, and its log does not say why.
SIMULATING = (
    "notebooks/07_",
    "tests/flower/test_engine.py",
    "test_it_runs_with_a_small_size[07_",
    "tests/studies/test_scale.py",
)
# What takes minutes begins first, so that no process is left with one of them at the end.
LONGEST = (
    *SIMULATING,
    "notebooks/02_",
    "notebooks/03_",
    "test_it_runs_with_a_small_size[05_",
    "test_it_runs_with_a_small_size[06_",
    "tests/test_same_bits.py",
    "tests/flower/test_hosts.py",
    "tests/test_attack.py",
    "tests/recording/test_checkpoints.py",
)


class ByFile(LoadFileScheduling):
    """A file of tests stays in one process, but for the runs of whole notebooks; so do all simulations."""

    def _split_scope(self, nodeid: str) -> str:
        if any(name in nodeid for name in SIMULATING):
            return "simulating"
        return nodeid if "test_it_runs_with_a_small_size" in nodeid else super()._split_scope(nodeid)


@pytest.hookimpl(optionalhook=True)  # one file can be run without xdist, too
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> ByFile:
    return ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: next((k for k, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))
    if (Path(os.environ.get("FL_GAN_DATA", "")) / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        return
    skip = pytest.mark.skip(reason="all of MNIST is not here: set FL_GAN_DATA to a folder that holds MNIST/raw")
    for item in items:
        if item.get_closest_marker("needs_mnist"):
            item.add_marker(skip)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a repository whose address is known; `make site` builds the one without."""
    root, folder = Path(__file__).parents[1], tmp_path_factory.mktemp("site")
    command = ["sphinx", "--quiet", "--fail-on-warning", "--keep-going", "--conf-dir", "notebooks/pages"]
    command += ["--doctree-dir", str(folder / "doctrees"), "notebooks", str(folder / "html")]
    environment = os.environ | {"REPOSITORY": "someone/laboratory"}
    done = subprocess.run([sys.executable, "-m", *command], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.fixture
def tiny_dataset() -> ImageDataset:
    """Ten random images of each digit."""
    generator = torch.Generator().manual_seed(0)
    return ImageDataset(torch.rand(100, 1, 28, 28, generator=generator) * 2 - 1, torch.arange(100) % 10)


@pytest.fixture
def drawings(tmp_path: Path) -> Path:
    """A folder of forty small drawings in three classes: fourteen houses, thirteen rings, thirteen crosses."""
    draw_randomly = random.Random(0)
    root = tmp_path / "drawings"
    for kind, number in (("house", 14), ("ring", 13), ("cross", 13)):
        (root / kind).mkdir(parents=True)
        for drawing in range(number):
            picture = Image.new("L", (120, 100), "white")
            left, top, size = (draw_randomly.randint(*bounds) for bounds in ((25, 45), (20, 35), (38, 52)))
            right, bottom, ink = left + size, top + size, {"fill": "black", "width": draw_randomly.randint(4, 7)}
            pen = ImageDraw.Draw(picture)
            if kind == "house":
                walls, roof = [(left, bottom), (left, top + size // 2)], [(left + size // 2, top)]
                pen.line([*walls, *roof, (right, top + size // 2), (right, bottom), (left, bottom)], **ink)
            elif kind == "ring":
                pen.ellipse([left, top, right, bottom], outline="black", width=ink["width"])
            else:
                pen.line([(left, top), (right, bottom)], **ink)
                pen.line([(right, top), (left, bottom)], **ink)
            picture.save(root / kind / f"{drawing}.png")
    return root


@pytest.fixture
def record() -> AttackRecord:
    """A record of random pixels: two rounds of twenty fakes."""
    rng = np.random.default_rng(0)

    def images(*shape: int) -> np.ndarray:
        return rng.integers(0, 256, (*shape, 28, 28), dtype=np.uint8)

    rounds = np.array([1, 5])
    columns = ("seconds", "accuracy", "recognition", "probe", "diversity")
    metrics = pd.DataFrame({"round": rounds, **{name: [0.25, 0.75] for name in columns}})
    config = {"kind": "attack", "target": 3, "dataset": "mnist-5k", "rounds": 5, "seed": 0}
    config |= {"probe_anchors": {"noise": 0.01, "another class": 0.05, "real images": 0.9}}
    return AttackRecord(images(2, 20), images(7), images(10), rounds, metrics, config)
