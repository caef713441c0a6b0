"""Reading of one image and its label to their ends."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from unept.data.image_dataset import Damaged, Pair, Pictures, check_image

Kind = Literal["damaged", "image", "label"]
_PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, kw_only=True)
class FileFault:
    """A file that could not be used.

    Attributes:
        kind: damaged; image, an image of the wrong sort; label, a label of the wrong sort.
        path: The file.
        said: One line that names it.
    """

    kind: Kind  # damaged; an image of the wrong sort; a label of the wrong sort
    path: Path
    said: str


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
        size = check_image(pair.image)
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


def broken_chunk(content: bytes) -> str | None:
    """Return the type of a PNG's first chunk whose checksum is wrong or that is cut off; None where all of them are
    whole.

    Decoders do not look at the checksums of the chunks that hold the pixels. None for any other file.
    """
    if not content.startswith(_PNG):
        return None
    position = len(_PNG)
    while position < len(content):
        if position + 8 > len(content):
            return "the last one"
        length, kind = struct.unpack_from(">I4s", content, position)
        end = position + 8 + length
        checksum = int.from_bytes(content[end : end + 4], "big")
        if end + 4 > len(content) or zlib.crc32(content[position + 4 : end]) != checksum:
            return str(kind.decode("ascii", "replace"))
        if kind == b"IEND":
            return None
        position = end + 4
    return "IEND"


def _digest(path: Path) -> str:
    content = path.read_bytes()
    chunk = broken_chunk(content)
    if chunk is not None:
        raise Damaged(f"{path}: damaged: the checksum of its chunk {chunk} is wrong")
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def _fault(kind: Kind, path: Path, error: ValueError) -> FileFault:
    return FileFault(kind="damaged" if isinstance(error, Damaged) else kind, path=path, said=str(error))
