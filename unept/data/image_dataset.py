"""Labelled pictures in files: reads them, pairs them with labels, and reports errors in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from unept.data.label_encoding import Encoding
from unept.data.sample import IGNORE, Bytes, Colour, Sample

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # nothing lossy
_CLUTTER = ("thumbs.db", "desktop.ini")
# Errors of Pillow for files that it cannot decode and for pictures of more than about 180 million pixels.
BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class Damaged(ValueError):
    """A file that is missing, cannot be read, or cannot be decoded to its end."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A picture and its label.

    Attributes:
        image: File of the picture.
        label: File of the label; None in a split without labels.
        name: The picture's path in its folder, without suffix.
    """

    image: Path
    label: Path | None
    name: str


@dataclass(frozen=True, kw_only=True)
class Unpaired:
    """A missing picture `path` or a missing label `expected`; `said` is the error line."""

    path: Path
    expected: Path
    said: str


@dataclass(frozen=True, kw_only=True)
class Files:
    """Files of a split by their names alone: pairs, pictures without label, and labels without picture."""

    pairs: tuple[Pair, ...]
    unpaired: tuple[Unpaired, ...] = ()
    spare: tuple[Path, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Official:
    """The owners' description of a split.

    Attributes:
        pictures: Number of pictures.
        size: Width and height of all pictures; None if they differ.
        void: True if some pixels have no class.
    """

    pictures: int
    size: tuple[int, int] | None = None
    void: bool = False


class Pictures:
    """One split of a data set in files (a `unept.data.sample.Dataset`); decodes at each access.

    In a split without labels, `labelled` is False and every label is 255.
    """

    ignore = IGNORE
    lookalikes: tuple[tuple[int, ...], ...] = ()  # nobody has said which classes only context tells apart

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        palette: Sequence[Colour],
        files: Files,
        encoding: Encoding,
        read: Callable[[Path], npt.NDArray[Any]] | None = None,
        official: Official | None = None,
    ) -> None:
        """Build the split from its files.

        Args:
            name: Name of the data set.
            classes: Names of the classes.
            palette: Colours of the classes.
            files: Pairs of pictures and labels.
            encoding: Meaning of the values in label files.
            read: Reads a label file's values, integers (H, W); default: `read_label`.
            official: The owners' description of the split.
        """
        self.name = name
        self.classes = tuple(classes)
        self.palette = tuple(palette)
        self.files = files
        self.pairs = files.pairs
        self.encoding = encoding
        self.read = read or read_label
        self.official = official
        self.labelled = any(pair.label for pair in files.pairs)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        """Read a sample.

        ValueError, naming the file, for one that cannot be read and for a label of another size or value.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of {self.name}: expected 0 to {len(self) - 1}")
        pair = self.pairs[index]
        image = read_image(pair.image)
        label = self.label_of(pair)
        if label is None:
            label = np.full(image.shape[:2], IGNORE, np.uint8)
        elif label.shape != image.shape[:2]:
            raise ValueError(other_size(pair, label.shape[::-1], image.shape[1::-1]))
        return Sample(image=image, label=label, name=pair.name)

    def label_of(self, pair: Pair) -> Bytes | None:
        """Return the label of a pair in class numbers, 255 = ignore. ValueError for a value that no class has."""
        if pair.label is None:
            return None
        raw = self.read(pair.label)
        try:
            return self.encoding.decode(raw)
        except ValueError as error:
            raise ValueError(f"{pair.label}: {error}") from None

    def check(self, index: int) -> None:
        """Decode a pair, at a coarse scale if the format allows it; ValueError as from `self[index]`."""
        pair = self.pairs[index]
        size = check_image(pair.image)
        label = self.label_of(pair)
        if label is not None and label.shape[::-1] != size:
            raise ValueError(other_size(pair, label.shape[::-1], size))


def read_image(path: Path) -> Bytes:
    """Read a picture as uint8 (H, W, 3) RGB, upright.

    Grey and palette pictures are converted, an alpha channel is dropped, an EXIF orientation is applied.

    Raises:
        ValueError: For a file that is missing, truncated or no image, and for more than 8 bits a channel.
    """
    try:
        with Image.open(path) as picture:
            _refuse_deep(path, picture)
            upright = ImageOps.exif_transpose(picture)
            # Only by way of RGBA does Pillow convert a palette with transparency without a warning.
            upright = upright.convert("RGBA") if "transparency" in upright.info else upright
            return np.array(upright.convert("RGB"))
    except BROKEN as error:
        raise unreadable(path, error) from error


def read_label(path: Path) -> Bytes:
    """Read the values of a label picture, uint8 (H, W): the indices of a palette picture, the values of a grey one.

    Raises:
        ValueError: For a file that is missing, truncated or no image, for colours, and for values above 255.
    """
    try:
        with Image.open(path) as picture:
            mode = picture.mode
            values = np.array(picture)
    except BROKEN as error:
        raise unreadable(path, error) from error
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise ValueError(f"{path}: label of mode {mode}: expected one whole number a pixel (a grey or palette picture)")
    if values.size and (values.max() > 255 or values.min() < 0):
        raise ValueError(f"{path}: label values {values.min()} to {values.max()}: expected 0 to 255")
    return values.astype(np.uint8)


def check_image(path: Path) -> tuple[int, int]:
    """Decode a picture and return its upright width and height; ValueError as from `read_image`."""
    try:
        with Image.open(path) as picture:
            _refuse_deep(path, picture)
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) >= 5  # the orientations that swap the sides
            coarse = max(width // 8, 1), max(height // 8, 1)
            picture.draft(None, coarse)  # a JPEG is then decoded at an eighth, but read to its end
            picture.load()
    except BROKEN as error:
        raise unreadable(path, error) from error
    return (height, width) if turned else (width, height)


def images_below(folder: Path) -> dict[str, Path]:
    """Return every picture below a folder, by its path without suffix, sorted. Hidden files are skipped.

    Raises:
        ValueError: For a folder that is missing or empty, for a file with another suffix than a picture's, and for two
            pictures that differ in the suffix only.
    """
    images: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(f"{path}: not an image (expected one of {' '.join(IMAGE_SUFFIXES)})")
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in images:
            raise ValueError(f"{path}: a second image named {name!r} beside {images[name].name}")
        images[name] = path
    if not images:
        raise ValueError(f"{folder}: no images in it")
    return images


def labels_below(folder: Path, images: Container[str]) -> dict[str, Path]:
    """Return every label below a folder by its path without suffix; ValueError if one of the `images` has two."""
    labels: dict[str, Path] = {}
    for path in files_below(folder):
        if path.suffix.lower() not in LABEL_SUFFIXES:
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in labels and name in images:
            raise ValueError(f"{path}: a second label named {name!r} beside {labels[name].name}")
        labels[name] = path
    return labels


def pair_up(images: dict[str, Path], labels: dict[str, Path], expected: Callable[[str], Path]) -> Files:
    """Pair each picture with the label of its name; `expected` returns the path of a missing one."""
    return Files(
        pairs=tuple(Pair(image=path, label=labels[name], name=name) for name, path in images.items() if name in labels),
        unpaired=tuple(
            Unpaired(path=path, expected=expected(name), said=f"{path}: no label {expected(name)}")
            for name, path in images.items()
            if name not in labels
        ),
        spare=tuple(path for name, path in labels.items() if name not in images),
    )


def pairs_of(images: dict[str, Path], labels: Path) -> Files:
    """Pair each picture with the label of its name below the folder `labels`."""
    return pair_up(images, labels_below(labels, images), lambda name: labels / f"{name}.png")


def files_below(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted, without hidden files and clutter.

    ValueError for what cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: folder does not exist")
    _refuse_closed(folder)
    files = []
    for path in sorted(folder.rglob("*")):
        if path.name.lower() in _CLUTTER or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        if path.is_file():
            files.append(path)
        elif path.is_symlink():
            raise ValueError(
                f"{path}: a link to a folder or to nothing; among pictures, only links to files are followed"
            )
        elif path.is_dir():
            _refuse_closed(path)
    return files


def _refuse_closed(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"{folder}: no permission to read it")


def _refuse_deep(path: Path, picture: Image.Image) -> None:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        raise ValueError(f"{path}: image of mode {picture.mode}: expected 8 bits a channel")


def unreadable(path: Path, error: Exception) -> ValueError:
    """Return the one-line error for a file that Pillow could not open or decode."""
    if isinstance(error, ValueError) and str(error).startswith(f"{path}: "):
        return error
    if isinstance(error, FileNotFoundError):
        return Damaged(f"{path}: file does not exist")
    if isinstance(error, PermissionError):
        return Damaged(f"{path}: no permission to read it")
    reason = " ".join(str(error).replace(str(path), "it").replace(repr(str(path)), "it").split())
    return Damaged(f"{path}: truncated, damaged or not an image ({reason})")


def other_size(pair: Pair, label: tuple[int, ...], image: tuple[int, ...]) -> str:
    """Return the error line for a label whose width and height are not the picture's."""
    return f"{pair.label}: label of {label[0]}x{label[1]} pixels for an image of {image[0]}x{image[1]} ({pair.image})"
