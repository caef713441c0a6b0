"""Reading of one image and its label to their ends."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unept.data.image_dataset import Pair, Pictures
from unept.data.image_file import Damaged, Refused
from unept.data.load_image import check_image
from unept.data.png_chunks import broken_chunk

Kind = Literal["damaged", "image", "label"]
_DAMAGED = "download or extract them again"


@dataclass(frozen=True, kw_only=True)
class FileFault:
    """A file that could not be used.

    Attributes:
        kind: damaged; image, a picture that is not read; label, a label that is not read.
        path: The file.
        said: One line that names it.
        fix: What to do about it.
    """

    kind: Kind
    path: Path
    said: str
    fix: str


@dataclass(frozen=True, kw_only=True)
class PairReading:
    """Content and faults of a pair of files.

    Attributes:
        pair: The two files.
        size: Width and height of the image in pixels; None where unknown.
        label_size: Width and height of the label in pixels; None where unknown.
        pixels: Number of pixels of each label value.
        digest: BLAKE2b of the image file; "" where it could not be read.
        label_digest: BLAKE2b of the label file; "" where it could not be read.
        faults: What is wrong with the files.
    """

    pair: Pair
    size: tuple[int, int] | None
    label_size: tuple[int, int] | None
    pixels: Mapping[int, int]
    digest: str
    label_digest: str
    faults: tuple[FileFault, ...]


def read_pair(pictures: Pictures, pair: Pair) -> PairReading:
    """Read both files of a pair to their ends. Whatever is wrong with them is a fault of the reading, never an
    exception.
    """
    faults: list[FileFault] = []
    size = label_size = None
    pixels: dict[int, int] = {}
    digest = label_digest = ""
    try:
        size = check_image(pair.image, pictures.max_pixels)
        digest = _digest(pair.image)
    except ValueError as error:
        faults.append(_fault("image", pair.image, error))
    if pair.label is not None:
        try:
            raw = pictures.read(pair.label)
            label_digest = _digest(pair.label)
            label_size = (raw.shape[1], raw.shape[0])
            counts = pictures.encoding.counts(raw)
            pixels = {int(value): int(counts[value]) for value in np.flatnonzero(counts)}
        except ValueError as error:
            faults.append(_fault("label", pair.label, error))
    return PairReading(
        pair=pair,
        size=size,
        label_size=label_size,
        pixels=pixels,
        digest=digest,
        label_digest=label_digest,
        faults=tuple(faults),
    )


def _digest(path: Path) -> str:
    content = path.read_bytes()
    chunk = broken_chunk(content)
    if chunk is not None:
        raise Damaged(f"{path}: truncated or damaged: the checksum of its chunk {chunk} is wrong")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _fault(kind: Kind, path: Path, error: ValueError) -> FileFault:
    if isinstance(error, Refused):
        return FileFault(kind=kind, path=path, said=error.reason, fix=error.fix)
    assert isinstance(error, Damaged), error
    return FileFault(kind="damaged", path=path, said=str(error), fix=_DAMAGED)
