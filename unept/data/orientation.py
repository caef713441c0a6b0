"""Orientation of a picture as EXIF, TIFF and XMP record it, and the turn of the pixels that makes it upright.

Only this one field is read, and nothing is written back: other fields of any type, or damaged ones, do not matter.
"""

from __future__ import annotations

import io
import re
import struct
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

UPRIGHT = 1
_TAG = 0x0112
_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)\s*([0-9]+)""")
# Types of a field that hold numbers: bytes, shorts, longs, with sign and without; rationals have two.
_TYPES = {1: "B", 3: "H", 4: "I", 5: "II", 6: "b", 8: "h", 9: "i", 10: "ii", 16: "Q", 17: "q"}
_SHORT = 3


class _Layout(NamedTuple):
    """Formats in a TIFF structure: of an offset, of the number of entries, and of an entry."""

    offset: str
    number: str
    entry: str


_LAYOUTS = {42: _Layout("I", "H", "HHI4s"), 43: _Layout("4xQ", "Q", "HHQ8s")}  # TIFF, BigTIFF


class OrientationField(NamedTuple):
    """The orientation in a TIFF structure.

    Attributes:
        orientation: 1 to 8; 1, upright, for a value that is none of these.
        position: Where the entry begins in the file.
        plain: An entry of the same length that says upright.
    """

    orientation: int
    position: int
    plain: bytes


def find_orientation(file: BinaryIO) -> OrientationField | None:
    """Return the orientation in the first directory of a TIFF structure; None without one or in another structure."""
    try:
        file.seek(0)
        head = file.read(4)
        order = {b"II": "<", b"MM": ">"}[head[:2]]
        layout = _LAYOUTS[struct.unpack(f"{order}H", head[2:])[0]]
        (start,) = _read(file, f"{order}{layout.offset}")
        file.seek(start)
        (count,) = _read(file, f"{order}{layout.number}")
        entries = file.read(min(count, 0xFFFF) * struct.calcsize(f"{order}{layout.entry}"))
        for entry in range(0, len(entries), size := struct.calcsize(f"{order}{layout.entry}")):
            tag, kind, length, content = struct.unpack_from(f"{order}{layout.entry}", entries, entry)
            if tag == _TAG:
                position = start + struct.calcsize(f"{order}{layout.number}") + entry
                upright = struct.pack(f"{order}H", UPRIGHT).ljust(len(content), b"\0")
                plain = struct.pack(f"{order}{layout.entry}", _TAG, _SHORT, 1, upright)
                assert len(plain) == size
                return OrientationField(_number(file, order, layout, kind, length, content), position, plain)
    except (struct.error, KeyError, OverflowError, ValueError, OSError):
        pass  # cut off or damaged: without orientation
    return None


def exif_orientation(exif: bytes, xmp: bytes = b"") -> int:
    """Return the orientation, 1 to 8, of the picture with these EXIF data, or, where they have none, these XMP data."""
    field = find_orientation(io.BytesIO(exif.removeprefix(b"Exif\0\0")))
    if field is not None:
        return field.orientation
    described = _XMP.search(xmp)
    return _valid(int(described[1][:3])) if described else UPRIGHT


def turned(values: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return the values (H, W, ...) as an orientation of 1 to 8 says that they are to be seen."""
    if orientation > 4:
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def _read(file: BinaryIO, form: str) -> tuple[Any, ...]:
    return struct.unpack(form, file.read(struct.calcsize(form)))


def _number(file: BinaryIO, order: str, layout: _Layout, kind: int, length: int, content: bytes) -> int:
    """Return the first number of a field as an orientation."""
    form = f"{order}{_TYPES.get(kind, '')}"
    if kind not in _TYPES or not length:
        return UPRIGHT
    if struct.calcsize(form) * length > len(content):
        file.seek(struct.unpack(f"{order}{layout.offset[-1]}", content)[0])
        content = file.read(struct.calcsize(form))
        if len(content) < struct.calcsize(form):
            return UPRIGHT
    numbers = struct.unpack_from(form, content)
    if len(numbers) == 1:
        return _valid(numbers[0])
    numerator, denominator = numbers
    return _valid(numerator // denominator) if denominator and numerator % denominator == 0 else UPRIGHT


def _valid(number: int) -> int:
    return number if 1 <= number <= 8 else UPRIGHT
