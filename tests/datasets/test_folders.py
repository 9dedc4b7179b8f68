"""Images of one's own: a folder that has one sub-folder for each class."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fl_gan_lib.data import ImageDataset, to_uint8


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two classes, whose names and whose files' names are difficult ones."""
    root = tmp_path / "meine 'Bilder'"
    for name, grey in (("s10", 255), ("s2", 0), ("Käfer", 128)):
        (root / name).mkdir(parents=True)
        for number in (1, 2, 10):
            Image.new("L", (40, 30), grey).save(root / name / f"{number}.png")
    return root


def test_classes_and_files_come_in_natural_order(folder):
    Image.new("L", (30, 30), 9).save(folder / "s2" / "2.png")
    dataset = ImageDataset.from_folder(folder)
    assert dataset.classes == ("Käfer", "s2", "s10") and dataset.side == 28
    assert dataset.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert to_uint8(dataset.images)[:, 0, 0].tolist() == [128] * 3 + [0, 9, 0] + [255] * 3
    assert ImageDataset.from_folder(str(folder), side=16) == ImageDataset.from_folder(folder, side=np.int64(16))


def test_an_image_becomes_grey_square_and_small(folder):
    wide = np.zeros((100, 160, 3), np.uint8)
    wide[:, :30] = wide[:, -30:] = 255  # what the square in the middle leaves out
    wide[50:, 30:-30] = (255, 0, 0)
    Image.fromarray(wide).save(folder / "s2" / "1.png")
    pixels = to_uint8(ImageDataset.from_folder(folder, side=20).images_of("s2"))[0]
    assert pixels.shape == (20, 20) and (pixels[:7] == 0).all() and (pixels[13:] == 76).all()


def test_transparent_turned_and_deep_images_are_read_as_a_person_sees_them(folder):
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(folder / "s2" / "1.png")
    Image.fromarray(np.full((30, 30), 40_000, np.uint16)).save(folder / "s2" / "2.png")
    turned = Image.fromarray(np.repeat(np.array([[0], [255]], np.uint8), 30, axis=1).repeat(15, axis=0))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(folder / "s2" / "10.jpg", exif=exif, quality=100)
    (folder / "s2" / "10.png").unlink()
    transparent, deep, upright = to_uint8(ImageDataset.from_folder(folder).images_of("s2"))
    assert (transparent == 255).all() and (deep == 40_000 >> 8).all()
    assert upright[0].min() > 240 and upright[-1].max() < 15


def test_litter_of_file_managers_is_passed_over(folder):
    for name in (".DS_Store", "s2/.DS_Store", "s2/Thumbs.db", "README.txt"):
        (folder / name).write_bytes(b"x")
    (folder / ".git").mkdir()
    assert len(ImageDataset.from_folder(folder)) == 9


def noise() -> bytes:
    """A PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def spoil(folder: Path, name: str, content: bytes) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def as_train_and_test(folder: Path) -> None:
    classes = list(folder.iterdir())
    for part in ("test", "train"):
        (folder / part).mkdir()
    for one in classes:
        one.rename(folder / "train" / one.name)
        (folder / "test" / one.name).mkdir()


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (
            lambda folder: spoil(folder, "s2/notes.txt", b"hello"),
            r"s2.notes\.txt is no PNG or JPEG image.*take it away",
        ),
        (lambda folder: spoil(folder, "s2/1.png", b""), r"s2.1\.png is no PNG or JPEG image"),
        (
            lambda folder: spoil(folder, "s2/1.png", noise()[:800]),
            r"s2.1\.png .*(cannot be read as an image|damaged one)",
        ),
        (lambda folder: Image.new("L", (9, 9)).save(folder / "s2" / "1.gif"), r"1\.gif is no PNG or JPEG .*convert it"),
        (lambda folder: Image.new("L", (9, 9)).save(folder / "1.png"), r"1\.png is in no class: put it into"),
        (lambda folder: (folder / "empty").mkdir(), "empty is empty: put the images of this class into it"),
        (lambda folder: (folder / "s2" / "more").mkdir(), "more is a folder inside a class"),
        (as_train_and_test, r"hold folders, and no images: .* read each by itself, for instance .*test$"),
        (
            lambda folder: [os.replace(folder / name, folder.parent / name) for name in ("s2", "s10")],
            "has only the class 'Käfer': at least two",
        ),
    ],
)
def test_a_mistake_in_the_folder_is_named_with_its_mend(folder, mistake, message):
    mistake(folder)
    with pytest.raises(ValueError, match=message):
        ImageDataset.from_folder(folder)


def test_a_folder_that_is_none_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        ImageDataset.from_folder(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*1\.png"):
        ImageDataset.from_folder(folder / "s2" / "1.png")
    with pytest.raises(ValueError, match="has no sub-folder"):
        (tmp_path / "bare").mkdir()
        ImageDataset.from_folder(tmp_path / "bare")
    for side in (30, 12, 68, 28.0, "28", True):
        with pytest.raises(ValueError, match="side is"):
            ImageDataset.from_folder(folder, side=side)


def test_the_home_folder_may_be_meant(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(ImageDataset.from_folder(f"~/{folder.name}")) == 9
