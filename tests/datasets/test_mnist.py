import contextlib
import gzip
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from fl_gan_lib.data import to_uint8
from fl_gan_lib.datasets import load_dataset, mnist


def test_mnist_5k_is_real_balanced_and_split_the_same_way_each_time():
    train, test = load_dataset("mnist-5k")
    assert train.images.shape == (4000, 1, 28, 28) and test.images.shape == (1000, 1, 28, 28)
    assert train.images.dtype == torch.float32 and train.labels.dtype == torch.int64
    assert train.images.min() == -1 and train.images.max() == 1
    assert torch.bincount(train.labels).tolist() == [400] * 10
    assert torch.bincount(test.labels).tolist() == [100] * 10
    assert test.labels[:8].tolist() == [6, 3, 0, 8, 8, 3, 0, 0]


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing"])
def test_a_damaged_mnist_5k_is_found(monkeypatch, tmp_path, damage):
    table = Path(mnist.DATA_PATH).read_bytes()
    path = tmp_path / "table.csv.gz"
    if damage != "missing":
        content = gzip.decompress(table)
        content = content[:1] + b"7" + content[2:] if damage == "altered" else content[:-100_000]
        path.write_bytes(gzip.compress(content, 1))
    monkeypatch.setattr(mnist, "DATA_PATH", str(path))
    mnist._read_5k.cache_clear()
    with pytest.raises(ValueError, match="reinstall"):
        load_dataset("mnist-5k")
    mnist._read_5k.cache_clear()


def test_unknown_data_set_names_the_known_ones():
    with pytest.raises(ValueError, match=r"'cifar'.*mnist-5k.*mnist"):
        load_dataset("cifar")


class Mirror(ThreadingHTTPServer):
    """A mirror of MNIST, or of something as small as a test wants it, on this computer.

    Attributes:
        files: their content, unpacked, by name.
        cut: names of files of which only the first half is sent.
        stalled: of which no more than that comes, and the connection stays open until this is set.
        pause: seconds before each answer.
        served: the names that were asked for.
    """

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.files = {}
        for part, number in (("train", 200), ("t10k", 30)):
            labels = np.arange(number, dtype=np.uint8) % 10
            pixels = random.integers(0, 256, (number, 28, 28), dtype=np.uint8)
            self.files[f"{part}-images-idx3-ubyte"] = (
                b"\0\0\x08\3" + np.array(pixels.shape, ">u4").tobytes() + bytes(pixels)
            )
            self.files[f"{part}-labels-idx1-ubyte"] = (
                b"\0\0\x08\1" + np.array([number], ">u4").tobytes() + bytes(labels)
            )
        self.cut: set[str] = set()
        self.stalled: threading.Event | None = None
        self.pause = 0.0
        self.served: list[str] = []
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def settings(self) -> dict:
        """What torchvision and the library must believe, to take this mirror for MNIST's."""
        packed = {name: gzip.compress(content, mtime=0) for name, content in self.files.items()}
        return {
            "mirrors": [f"http://127.0.0.1:{self.server_port}/"],
            "resources": [(f"{name}.gz", hashlib.md5(content).hexdigest()) for name, content in packed.items()],
            "hashes": {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()},
        }


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        time.sleep(self.server.pause)
        name = self.path.removeprefix("/").removesuffix(".gz")
        content = gzip.compress(self.server.files[name], mtime=0)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        # torchvision asks twice, first for redirections alone.
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content[: len(content) // 2] if name in self.server.cut else content)
        self.server.served.append(name)
        if name in self.server.cut and self.server.stalled:
            self.server.stalled.wait(60)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def mirror(monkeypatch):
    with Mirror() as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", server.settings["mirrors"])
        monkeypatch.setattr(torchvision.datasets.MNIST, "resources", server.settings["resources"])
        monkeypatch.setattr(mnist, "_MNIST_SHA256", server.settings["hashes"])
        yield server
        if server.stalled:
            server.stalled.set()
        server.shutdown()


@pytest.fixture
def no_network(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])


def put(files: dict[str, bytes], root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def found(raw: Path) -> dict[str, bytes]:
    assert {path.name for path in raw.parent.iterdir()} <= {"raw", ".download.lock"}
    return {path.name: path.read_bytes() for path in raw.iterdir()}


DAMAGE = {
    "truncated": lambda content: content[: len(content) // 2],
    "altered": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "empty": lambda content: b"",
}


def test_missing_mnist_is_downloaded_once(mirror, tmp_path):
    train, test = load_dataset("mnist", tmp_path / "new")
    assert len(train) == 200 and len(test) == 30 and test.labels[:3].tolist() == [0, 1, 2]
    assert np.array_equal(to_uint8(train.images).tobytes(), mirror.files["train-images-idx3-ubyte"][16:])
    assert found(tmp_path / "new" / "MNIST" / "raw") == mirror.files
    mirror.served.clear()
    mnist._read_all.cache_clear()
    load_dataset("mnist", tmp_path / "new")
    assert mirror.served == []


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_mnist_is_found_said_and_mended(mirror, tmp_path, damage):
    name = "t10k-labels-idx1-ubyte"
    raw = put(mirror.files | {name: DAMAGE[damage](mirror.files[name])}, tmp_path)
    with pytest.warns(
        UserWarning, match=rf"{name} is not the original MNIST file.*: downloading MNIST afresh"
    ) as caught:
        assert len(load_dataset("mnist", tmp_path)[1]) == 30
    assert [Path(warning.filename).name for warning in caught] == ["test_mnist.py"]
    assert found(raw) == mirror.files


def test_a_download_that_another_program_left_half_done_is_completed(mirror, tmp_path):
    half = {"train-images-idx3-ubyte.gz": b"\x1f\x8b", "t10k-labels-idx1-ubyte": mirror.files["t10k-labels-idx1-ubyte"]}
    raw = put(half, tmp_path)
    assert len(load_dataset("mnist", tmp_path)[0]) == 200
    assert found(raw) == half | mirror.files


def test_missing_mnist_without_network_says_what_to_do(no_network, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"train-images.*could not be downloaded.*FL_GAN_DATA.*mnist-5k"):
        load_dataset("mnist", tmp_path)


@pytest.mark.filterwarnings("ignore:.*downloading MNIST afresh")
@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_mnist_without_network_is_named_and_left_alone(mirror, no_network, tmp_path, damage):
    files = {name: DAMAGE[damage](content) for name, content in mirror.files.items()}
    raw = put(files, tmp_path)
    with pytest.raises(
        ValueError, match=r"train-images-idx3-ubyte is not the original .*nothing was deleted.*FL_GAN_DATA"
    ):
        load_dataset("mnist", tmp_path)
    assert found(raw) == files


@pytest.mark.filterwarnings("ignore:.*downloading MNIST afresh")
def test_a_download_that_is_cut_off_changes_nothing_and_the_next_one_mends(mirror, tmp_path):
    files = mirror.files | {"train-images-idx3-ubyte": b"old"}
    raw = put(files, tmp_path)
    mirror.cut = {"train-labels-idx1-ubyte"}
    with pytest.raises(ValueError, match=r"could not be downloaded into .*nothing was deleted"):
        load_dataset("mnist", tmp_path)
    assert found(raw) == files
    mirror.cut = set()
    assert len(load_dataset("mnist", tmp_path)[0]) == 200
    assert found(raw) == mirror.files


def test_a_download_that_stands_still_is_given_up(mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "_PATIENCE", 0.5)
    mirror.cut, mirror.stalled = {"train-labels-idx1-ubyte"}, threading.Event()
    with pytest.raises(FileNotFoundError, match="timed out"):
        load_dataset("mnist", tmp_path)


@pytest.mark.filterwarnings("ignore:.*downloading MNIST afresh")
def test_a_mirror_with_other_files_replaces_nothing(mirror, tmp_path, monkeypatch):
    files = mirror.files | {"train-images-idx3-ubyte": b"old"}
    raw = put(files, tmp_path)
    mirror.files = {**mirror.files, "t10k-labels-idx1-ubyte": b"\0\0\x08\1\0\0\0\1\1"}
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", mirror.settings["resources"])
    with pytest.raises(ValueError, match=r"could not be downloaded .*t10k-labels-idx1-ubyte is not the original"):
        load_dataset("mnist", tmp_path)
    assert found(raw) == files


_LOAD = """
import json, sys
from torchvision.datasets import MNIST
from fl_gan_lib.datasets import load_dataset, mnist
settings = json.loads(sys.argv[2])
MNIST.mirrors, MNIST.resources, mnist._MNIST_SHA256 = settings["mirrors"], settings["resources"], settings["hashes"]
print("ready", flush=True)
sys.stdin.readline()
train, test = load_dataset("mnist", sys.argv[1])
print(len(train), len(test))
"""


def start_loading(mirror: Mirror, root: Path) -> subprocess.Popen:
    """`load_dataset` in another process, once it is given a line."""
    command = [sys.executable, "-c", _LOAD, str(root), json.dumps(mirror.settings)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def test_of_two_processes_at_once_one_downloads_and_both_load(mirror, tmp_path):
    mirror.pause = 0.2  # so that the second comes while the first is at it
    processes = [start_loading(mirror, tmp_path) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        output, errors = process.communicate(timeout=120)
        outputs.append(output)
        assert process.returncode == 0, errors
    assert outputs == ["200 30\n"] * 2
    assert sorted(mirror.served) == sorted([*mirror.files, *mirror.files])  # twice, and not four times
    assert found(tmp_path / "MNIST" / "raw") == mirror.files


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_a_download_that_is_killed_leaves_nothing_that_passes_for_whole_and_is_cleaned_up_after(mirror, tmp_path):
    mirror.cut, mirror.stalled = {"t10k-images-idx3-ubyte"}, threading.Event()
    process = start_loading(mirror, tmp_path)
    process.stdin.write("\n")
    process.stdin.flush()
    while not list(tmp_path.glob("MNIST/.download/MNIST/raw/t10k-images-idx3-ubyte.gz")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert list((tmp_path / "MNIST" / "raw").iterdir()) == []
    mirror.stalled.set()
    mirror.cut = set()
    assert len(load_dataset("mnist", tmp_path)[0]) == 200
    assert found(tmp_path / "MNIST" / "raw") == mirror.files


@contextlib.contextmanager
def read_only(root: Path):
    """Nothing in `root` can be written, by root neither: who for that time is nobody."""
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in (root, *root.rglob("*")):
            path.chmod(0o755)


@pytest.fixture
def open_folder():
    """pytest's own folder is for its user alone."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter there")
def test_a_read_only_folder_with_whole_files_is_only_read(mirror, open_folder):
    raw = put(mirror.files, open_folder)
    with read_only(open_folder):
        assert len(load_dataset("mnist", open_folder)[0]) == 200
    assert found(raw) == mirror.files and [path.name for path in raw.parent.iterdir()] == ["raw"]
    assert mirror.served == []


@pytest.mark.skipif(os.name == "nt", reason="permissions are another matter there")
@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda files, name: files | {name: b"old"}, ValueError),
        (lambda files, name: {other: files[other] for other in files if other != name}, FileNotFoundError),
    ],
)
def test_a_read_only_folder_without_whole_files_is_named(mirror, open_folder, damage, error):
    files = damage(mirror.files, "t10k-images-idx3-ubyte")
    raw = put(files, open_folder)
    with read_only(open_folder), pytest.raises(error, match=r"t10k-images.*Permission denied.*nothing was deleted"):
        load_dataset("mnist", open_folder)
    assert found(raw) == files and mirror.served == []


@pytest.mark.needs_mnist
def test_mnist_from_the_environment_variable():
    train, test = load_dataset("mnist")
    assert len(train) == 60_000 and len(test) == 10_000
    assert train.images.min() == -1 and train.images.max() == 1
    original = torchvision.datasets.MNIST(os.environ["FL_GAN_DATA"], train=False)
    assert torch.equal(test.labels, original.targets)
    assert np.array_equal(to_uint8(test.images), original.data.numpy())


@pytest.mark.needs_mnist
@pytest.mark.filterwarnings("ignore:.*downloading MNIST afresh")
def test_one_flipped_bit_of_mnist_is_found(no_network, tmp_path):
    shutil.copytree(Path(os.environ["FL_GAN_DATA"]) / "MNIST", tmp_path / "MNIST")
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    content = bytearray(labels.read_bytes())
    content[5000] ^= 1
    labels.chmod(0o644)
    labels.write_bytes(content)
    with pytest.raises(ValueError, match="t10k-labels"):
        load_dataset("mnist", tmp_path)


def test_a_file_of_mnist_that_does_not_hold_what_it_declares_is_refused():
    content = Mirror().files["t10k-images-idx3-ubyte"]
    assert mnist._parse_idx(content).shape == (30, 28, 28)
    for damaged in (content[:-1], content + b"\0", b"", content[:4], b"\0\0\x0d" + content[3:], content[:3] + b"\4"):
        with pytest.raises(ValueError, match="MNIST's format"):
            mnist._parse_idx(damaged)
