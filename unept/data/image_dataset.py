"""Labelled pictures in files: reads them, pairs them with labels, and reports errors in one line."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unept.data.image_file import MAX_PIXELS
from unept.data.label_encoding import Encoding
from unept.data.load_image import IMAGE_SUFFIXES, check_image, read_image
from unept.data.load_label import LABEL_SUFFIXES, read_label
from unept.data.sample import IGNORE, Bytes, Colour, Sample
from unept.utils.paths import special_file

_CLUTTER = ("thumbs.db", "desktop.ini")


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
        max_pixels: int = MAX_PIXELS,
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
            max_pixels: Pictures and labels of more pixels are refused.
        """
        self.name = name
        self.classes = tuple(classes)
        self.palette = tuple(palette)
        self.files = files
        self.pairs = files.pairs
        self.encoding = encoding
        self.max_pixels = max_pixels
        self.read = read or partial(read_label, max_pixels=max_pixels)
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
        image = read_image(pair.image, self.max_pixels)
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
        size = check_image(pair.image, self.max_pixels)
        label = self.label_of(pair)
        if label is not None and label.shape[::-1] != size:
            raise ValueError(other_size(pair, label.shape[::-1], size))


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

    ValueError for what cannot be read, and for what is no file: a named pipe, a device, or a folder named as a picture.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: folder does not exist")
    _refuse_closed(folder)
    files = []
    for path in sorted(folder.rglob("*")):
        if path.name.lower() in _CLUTTER or any(part.startswith(".") for part in path.relative_to(folder).parts):
            continue
        try:
            special = special_file(path)
        except OSError as error:
            special = "nothing" if path.is_symlink() else f"not readable ({error.strerror})"
        if special is None:
            files.append(path)
        elif path.is_symlink():
            raise ValueError(f"{path}: a link to {special}; among pictures, only links to files are followed")
        elif not path.is_dir():
            raise ValueError(f"{path}: {special}, not a file")
        elif path.suffix.lower() in IMAGE_SUFFIXES:
            raise ValueError(f"{path}: {special} named as a picture")
        else:
            _refuse_closed(path)
    return files


def _refuse_closed(folder: Path) -> None:
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ValueError(f"{folder}: no permission to read it")


def other_size(pair: Pair, label: tuple[int, ...], image: tuple[int, ...]) -> str:
    """Return the error line for a label whose width and height are not the picture's."""
    return f"{pair.label}: label of {label[0]}x{label[1]} pixels for an image of {image[0]}x{image[1]} ({pair.image})"
