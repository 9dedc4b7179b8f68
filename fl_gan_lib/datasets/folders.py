"""Your own images: a folder that has one sub-folder for each class."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm.auto import tqdm

from fl_gan_lib.arguments import check_side
from fl_gan_lib.classes import check_class_names

# What file managers leave in a folder, besides files whose name begins with a dot.
_LITTER = {"thumbs.db", "desktop.ini"}


def read_folder(path: str | Path, *, side: int = 28) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read the PNG and JPEG files of a folder that has one sub-folder for each class.

    Each image is turned upright (as its camera noted it), laid on white where it is transparent, made grey (ITU-R
    601), cut to the square in its middle, and resized (Lanczos). Colours are not inverted: black stays black. Files and
    classes come in natural order (2 before 10). Files whose name begins with a dot are passed over.

    Args:
        path: the folder; `~` is the home folder.
        side: of the images, in pixels.

    Returns:
        The images, uint8 of shape (N, side, side); their labels, int64 of shape (N,); the names of the classes.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: there are fewer than two classes, or an empty one, or a file is no image; the message names it.
    """
    side = check_side(side)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {folder}: name one that has a sub-folder of images for each class")
    entries = _entries(folder)
    sub_folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if not entry.is_dir() and _is_called_an_image(entry)]
    if loose:
        raise ValueError(f"{loose[0]} is in no class: put it into the sub-folder of its class, or take it away")
    if len(sub_folders) < 2:
        found = f"only the class {sub_folders[0].name!r}" if sub_folders else "no sub-folder"
        raise ValueError(
            f"{folder} has {found}: at least two classes are needed, each in a sub-folder that has its name"
        )
    if all(entry.is_dir() for sub_folder in sub_folders for entry in _entries(sub_folder)):
        raise ValueError(
            f"the sub-folders of {folder} hold folders, and no images: if they are parts of a data set, such as train "
            f"and test, read each by itself, for instance {sub_folders[0]}"
        )
    classes = check_class_names([sub_folder.name for sub_folder in sub_folders])
    files = [(file, label) for label, sub_folder in enumerate(sub_folders) for file in _images_in(sub_folder)]
    pixels = [_read_image(file, side) for file, _ in tqdm(files, "images", unit="image", leave=False, delay=2)]
    labels = np.array([label for _, label in files], dtype=np.int64)
    return np.stack(pixels), labels, classes


def _images_in(sub_folder: Path) -> list[Path]:
    found = _entries(sub_folder)
    if not found:
        raise ValueError(f"{sub_folder} is empty: put the images of this class into it, or take it away")
    if folders := [entry for entry in found if entry.is_dir()]:
        raise ValueError(f"{folders[0]} is a folder inside a class: put its images into {sub_folder}, or take it away")
    return found


def _entries(folder: Path) -> list[Path]:
    visible = [
        entry for entry in folder.iterdir() if not entry.name.startswith(".") and entry.name.lower() not in _LITTER
    ]
    return sorted(visible, key=lambda entry: _natural(entry.name))


def _natural(name: str) -> list[tuple[str, int]]:
    """A key that sorts s2 before s10."""
    parts = re.split(r"(\d+)", name)
    return [*zip(map(str.casefold, parts[::2]), map(int, [*parts[1::2], "0"]), strict=True), (name, 0)]


def _is_called_an_image(file: Path) -> bool:
    return file.suffix.lower() in {".png", ".jpg", ".jpeg"}


def _read_image(file: Path, side: int) -> np.ndarray:
    """A file as uint8 of shape (side, side), by the rule of `read_folder`."""
    try:
        with warnings.catch_warnings(), Image.open(file, formats=("PNG", "JPEG")) as image:
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            grey = _make_grey(ImageOps.exif_transpose(image))
    except (UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"{file} is no PNG or JPEG image, or a damaged one ({error}): convert it, or take it away"
        ) from error
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{file} cannot be read as an image ({error}): replace it, or take it away") from error
    return make_square(grey, side)


def make_square(image: Image.Image, side: int) -> np.ndarray:
    """The square in the middle of a grey picture, resized: uint8 of shape (side, side)."""
    shortest = min(image.size)
    left, top = ((length - shortest) // 2 for length in image.size)
    square = image.crop((left, top, left + shortest, top + shortest))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def _make_grey(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L")
