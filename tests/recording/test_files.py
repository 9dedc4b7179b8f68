import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzz.targets import TARGETS

from fl_gan_lib.recording import files

RUNS = Path(__file__).parents[2] / "notebooks" / "runs"
CORPUS = Path(__file__).parent / "fuzz" / "corpus"
HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}\n"
ARRAYS = {
    "clients.0.optimizer.state.3.exp_avg": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a step": np.array(7.0, dtype=np.float32),
    "none": np.zeros((0, 28, 28)),
    "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every second": np.arange(10)[::2],
    "big-endian": np.arange(3, dtype=">i2"),
    "file": np.array([True, False]),
    "a": np.array([1 + 2j]),
}


def npy(shape: str, dtype: str = "|u1", content: bytes = b"") -> bytes:
    header = HEADER.format(dtype, shape).encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def json_of(text: str) -> bytes:
    return npy(f"({len(text)},)", content=text.encode())


@pytest.mark.parametrize("compress", [True, False])
def test_what_is_packed_is_unpacked_the_same_and_can_be_written_to(compress):
    text, arrays = files.unpack(files.pack({"a": [1, "ü", None, {}]}, ARRAYS, compress=compress))
    assert text == {"a": [1, "ü", None, {}]} and arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert array.dtype == ARRAYS[name].dtype and array.shape == ARRAYS[name].shape and array.flags.writeable
        assert np.array_equal(array, ARRAYS[name])


def test_numpy_alone_reads_what_is_packed_and_what_numpy_saves_is_read():
    with np.load(io.BytesIO(files.pack({"loss": float("nan")}, ARRAYS))) as loaded:
        assert json.loads(loaded["text"].tobytes()).keys() == {"loss"}
        assert np.array_equal(loaded["every second"], [0, 2, 4, 6, 8])
    buffer = io.BytesIO()
    np.savez(buffer, text=np.frombuffer(b"{}", np.uint8), x=np.eye(3))
    assert np.array_equal(files.unpack(buffer.getvalue())[1]["x"], np.eye(3))


def test_records_made_before_are_read_and_would_be_packed_to_the_same_bytes():
    content = (RUNS / "attack_3.npz").read_bytes()
    assert files.pack(*files.unpack(content)) == content


def test_what_compresses_as_well_as_a_bomb_is_packed_without_compression():
    blank = {"samples": np.zeros(2**25, np.uint8)}
    assert files.unpack(files.pack({}, blank))[1]["samples"].sum() == 0
    long = {"text": "x" * 2**21}
    assert files.unpack(files.pack(long, {}))[0] == long


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("objects", np.array([{}], dtype=object)),
        ("words", np.array(["word"])),
        ("long double", np.zeros(2, np.longdouble)),
        ("fields", np.zeros(2, [("x", "f4")])),
        ("text", np.zeros(2)),
        ("folder/name", np.zeros(2)),
        ("back\\slash", np.zeros(2)),
        ("", np.zeros(2)),
    ],
)
def test_what_could_not_be_unpacked_is_not_packed(name, array):
    if name == "long double" and array.itemsize == 8:
        pytest.skip("a long double is a double here")
    with pytest.raises(ValueError, match=r"only numbers|names of arrays"):
        files.pack({}, {name: array})


GOOD = {"x.npy": npy("(3,)", content=b"abc"), "text.npy": json_of("{}")}


def test_the_good_example_below_is_good():
    assert files.unpack(zipped(GOOD))[1]["x"].tobytes() == b"abc"


WRONG = [
    (b"", "not a zip file"),
    (b"PK", "not a zip file"),
    (b"PK\5\6" + bytes(18), "there is no 'text' in it"),
    (zipped(GOOD)[:-30], "not a zip file"),
    (zipped(GOOD, zipfile.ZIP_STORED).replace(b"abc", b"abd"), "Bad CRC-32"),
    (zipped(GOOD | {"text.npy": npy("(2,)", content=b"{")}), r"declares the shape \(2,\), and holds 1 bytes"),
    (zipped(GOOD | {"x.npy": npy("(10000000000000000,)", content=b"abc")}), "holds 3 bytes"),
    (zipped(GOOD | {"x.npy": npy("(" + f"{'9' * 18}, " * 60 + ")")}), "holds 0 bytes"),
    (zipped(GOOD | {"x.npy": npy(f"(0, {'9' * 18}, {'9' * 18})")}), "too big|dimension"),
    (zipped(GOOD | {"x.npy": npy("(1, " * 3000)}), "not an array of numbers"),
    (zipped(GOOD | {"x.npy": npy("(-1,)")}), "not an array of numbers"),
    (zipped(GOOD | {"x.npy": npy("(1,)", "|O", b"\x80\x04N.")}), "not an array of numbers"),
    (zipped(GOOD | {"x.npy": npy("()", "|i3", b"abc")}), "not an array of numbers"),
    (zipped(GOOD | {"x.npy": b"\x80\x04N."}), "not an array of numbers"),
    (zipped(GOOD | {"x.npy": b""}), "not an array of numbers"),
    (zipped(GOOD | {"x.pkl": b"\x80\x04N."}), "'x.pkl' in it is no array"),
    (zipped(GOOD | {"../x.npy": npy("()", content=b"a")}), "'../x.npy' in it is no array"),
    (zipped(GOOD | {"..\\x.npy": npy("()", content=b"a")}), "x.npy' in it is no array"),
    (zipped(GOOD | {".npy": npy("()", content=b"a")}), "'.npy' in it is no array"),
    (
        zipped(GOOD | {"y.npy": npy("(2,)", content=b"ab")}).replace(b"y.npy", b"x.npy"),
        "two arrays in it have one name",
    ),
    (zipped(GOOD, zipfile.ZIP_BZIP2), "encrypted, or compressed in an unknown way"),
    (zipped(GOOD, zipfile.ZIP_LZMA), "encrypted, or compressed in an unknown way"),
    (zipped(GOOD).replace(b"PK\1\2\x14\3\x14\0\0", b"PK\1\2\x14\3\x14\0\1"), "encrypted, or compressed"),
    (zipped({"x.npy": GOOD["x.npy"]}), "there is no 'text' in it"),
    (zipped(GOOD | {"text.npy": json_of("[]")}), "not a JSON object"),
    (zipped(GOOD | {"text.npy": json_of('{"a":')}), "Expecting value"),
    (zipped(GOOD | {"text.npy": npy("(4,)", content=b'{"\xff"')}), "utf-8"),
    (zipped(GOOD | {"text.npy": json_of('{"a":' + "[" * 100_000)}), "recursion"),
    (zipped(GOOD | {"text.npy": json_of('{"a":' + "9" * 100_000 + "}")}), "4300"),
]


@pytest.mark.parametrize(("content", "reason"), WRONG, ids=[reason for _, reason in WRONG])
def test_what_is_wrong_with_an_archive_is_said(content, reason):
    with pytest.raises(ValueError, match=reason):
        files.unpack(content)


def test_every_flipped_bit_is_found_or_harmless():
    content = files.pack({"a": 1}, ARRAYS)
    for position in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << position % 8
        try:
            text, arrays = files.unpack(bytes(damaged))
        except ValueError:
            continue
        # Dates, attributes and the like have no checksum, and names none either.
        assert text == {"a": 1} and len(arrays) == len(ARRAYS)
        assert all(np.array_equal(a, b) for a, b in zip(arrays.values(), ARRAYS.values(), strict=True))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("target", TARGETS)
def test_what_the_fuzzer_came_upon_is_read_or_refused(target, monkeypatch):
    with zipfile.ZipFile(CORPUS / f"{target}.zip") as corpus:
        inputs = [corpus.read(name) for name in corpus.namelist()]
    monkeypatch.setattr(zipfile.ZipExtFile, "_update_crc", lambda *_: None, raising=False)  # as for the fuzzer
    assert {TARGETS[target](content) for content in inputs} == {True, False}


def declared(size: int) -> bytes:
    """A little archive one member of which claims, in the directory of the zip, to be of `size`."""
    content = bytearray(zipped(GOOD))
    at = content.index(b"PK\1\2") + 24
    content[at : at + 4] = size.to_bytes(4, "little")
    return bytes(content)


HUNGRY = {
    "a bomb": lambda: zipped(GOOD | {"x.npy": npy("(100000000,)", content=bytes(10**8))}),
    "many": lambda: zipped(GOOD | {f"x{k}.npy": npy("(4000000,)", content=bytes(4_000_000)) for k in range(20)}),
    "a bomb that is small enough": lambda: zipped(GOOD | {"x.npy": npy("(15000000,)", content=bytes(15_000_000))}),
    "a shape": lambda: zipped(GOOD | {"x.npy": npy("(100000000,)")}),
    "a size": lambda: declared(4_000_000_000),
    "a size that is small enough": lambda: declared(16_000_000),
    "JSON": lambda: zipped(GOOD | {"text.npy": json_of('{"a":[' + "{}," * 2**22 + "{}]}")}),
    "JSON that is small enough": lambda: zipped(GOOD | {"text.npy": json_of('{"a":[' + "{}," * 349_000 + "{}]}")}),
    "JSON that is warranted": lambda: zipped(
        GOOD | {"text.npy": json_of('{"a":[' + "{}," * 10**6 + "{}]}")}, zipfile.ZIP_STORED
    ),
    "everything": lambda: zipped(
        {"noise.npy": npy("(3000000,)", content=np.random.default_rng(0).bytes(3_000_000))}
        | {"x.npy": npy("(42000000,)", content=bytes(42_000_000))}
        | {"text.npy": json_of('{"a":[' + "{}," * 999_000 + "{}]}")}
    ),
    "names": lambda: zipped({f"{k}.npy": b"" for k in range(5000)}),
    "arrays": lambda: zipped(GOOD | {f"{k}.npy": npy("(0,)") for k in range(5000)}),
}


@pytest.mark.parametrize("name", HUNGRY)
def test_no_archive_takes_more_memory_than_its_size_warrants(name):
    content = HUNGRY[name]()
    tracemalloc.start()
    with contextlib.suppress(ValueError):
        files.unpack(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < max(48 * 2**20, 45 * len(content))


def test_a_file_is_replaced_and_its_folders_are_made(tmp_path):
    path = files.write_atomically(tmp_path / "new" / "folder" / "x.npz", b"old")
    assert files.write_atomically(path, b"new") == path and path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_whole_and_no_other(tmp_path):
    pytest.importorskip("resource")
    path = files.write_atomically(tmp_path / "x.npz", b"old")
    code = (
        "import resource, sys; from fl_gan_lib.recording import files;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); files.write_atomically(sys.argv[1], bytes(10**6))"
    )
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert run.returncode == 1 and "OSError" in run.stderr
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way_is_an_error_that_leaves_nothing(tmp_path):
    (tmp_path / "x.npz").mkdir()
    with pytest.raises(OSError, match=r"x\.npz"):
        files.write_atomically(tmp_path / "x.npz", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.skipif(os.name == "nt", reason="there is no such signal")
def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path):
    path = files.write_atomically(tmp_path / "x.npz", b"a" * 10**7)
    code = (
        "import itertools, sys; from fl_gan_lib.recording import files\n"
        "for letter in itertools.cycle((b'b', b'a')): files.write_atomically(sys.argv[1], letter * 10**7)"
    )
    for patience in (0.01, 0.03, 0.05):
        writer = subprocess.Popen([sys.executable, "-c", code, path])
        while not list(tmp_path.glob(".x.npz.*.tmp")):
            assert writer.poll() is None
            time.sleep(0.001)
        time.sleep(patience)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        content = path.read_bytes()
        assert len(content) == 10**7 and content in (b"a" * 10**7, b"b" * 10**7)
        for left in tmp_path.glob(".x.npz.*.tmp"):
            left.unlink()
