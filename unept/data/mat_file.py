"""Reads one matrix of numbers from a MATLAB file of version 5, as MATLAB 5 to 7.2 and SciPy write them.

The format is MathWorks' "MAT-File Level 5". SciPy's own reader is not used, since a damaged file can crash the process
in it; here every length is checked against the content, and nothing but numbers is created from the file.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from unept.data.image_file import Damaged, open_file

LARGEST = 1 << 28  # bytes of an element once it is inflated; a label map of 10,000 x 10,000 pixels has 200 MB

_HEADER = 128
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MATRIX, _DEFLATED = 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_NUMERIC_CLASSES = range(6, 16)  # double, single and the whole numbers; not text, cells, structures, sparse matrices
_COMPLEX = 0x0800


class _Element(NamedTuple):
    kind: int
    content: memoryview


def read_matrix(path: Path, name: str) -> npt.NDArray[Any]:
    """Read the matrix called `name`, in the type its numbers are stored in. Other variables are skipped.

    Raises:
        Damaged: Without the file's name, for a file that is cut off or broken.
        ValueError: Without the file's name, for a file of another format, and for a variable that is missing or no
            matrix of real numbers.
        Refused: Names the file, if it cannot be opened or is no regular file.
    """
    with open_file(path) as file:
        return matrix_in(file.read(), name)


def matrix_in(content: bytes, name: str) -> npt.NDArray[Any]:
    """Read the matrix called `name` from a file's content; see `read_matrix`."""
    if any(content.startswith(_HDF5, start) for start in (0, 512, 1024, 2048)):  # as a rule behind a header of text
        raise ValueError(f"a MATLAB file of version 7.3 (HDF5); save it as version 7: save(FILE, '{name}', '-v7')")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if not content or (len(content) < _HEADER and content.startswith(b"MATLAB")):
        raise Damaged("cut off within the head of the file" if content else "the file is empty")
    if order is None:
        raise ValueError("no MATLAB file of version 5 to 7")
    for element in _elements(memoryview(content)[_HEADER:], order):
        matrix = _inflated(element, order) if element.kind == _DEFLATED else element
        numbers = _matrix(matrix.content, order, name) if matrix.kind == _MATRIX else None
        if numbers is not None:
            return numbers
    raise ValueError(f"no variable {name} in it")


def _elements(content: memoryview, order: str) -> Iterator[_Element]:
    """Yield the elements in order: a type, a length, and as many bytes, padded to a multiple of 8."""
    position = 0
    while position < len(content):
        if position + 8 > len(content):
            raise Damaged("cut off within the head of an element")
        kind, length = struct.unpack_from(f"{order}II", content, position)
        start, step = position + 8, 8
        if kind >> 16:  # a small element: length and type share a word, and the data follow at once
            kind, length, start, step = kind & 0xFFFF, kind >> 16, position + 4, 4
        if start + length > len(content) or (step == 4 and length > 4):
            raise Damaged("cut off within an element")
        yield _Element(kind, content[start : start + length])
        whole = length if kind == _DEFLATED else -(-length // step) * step
        position = start + whole


def _inflated(element: _Element, order: str) -> _Element:
    """Return the element inside a deflated one."""
    engine = zlib.decompressobj()
    try:
        content = engine.decompress(element.content, LARGEST)
    except zlib.error as error:
        raise Damaged(f"a deflated element is damaged ({error})") from None
    if engine.unconsumed_tail:
        raise ValueError(f"an element of more than {LARGEST >> 20} MiB, the limit for a label map")
    if not engine.eof:
        raise Damaged("a deflated element is cut off")
    inner = next(_elements(memoryview(content), order), None)
    if inner is None:
        raise Damaged("a deflated element is empty")
    return inner


def _matrix(content: memoryview, order: str, name: str) -> npt.NDArray[Any] | None:
    """Return the numbers of a matrix, or None if it has another name."""
    parts = _elements(content, order)
    flags, sizes, label = (next(parts, None) for _ in range(3))
    if flags is None or sizes is None or label is None or len(flags.content) < 4:
        raise Damaged("a variable is cut off")
    if bytes(label.content) != name.encode():
        return None
    (word,) = struct.unpack_from(f"{order}I", flags.content)
    numbers = next(parts, None)
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX:
        raise ValueError(f"{name} is no matrix of real numbers")
    if numbers is None or numbers.kind not in _NUMBERS or sizes.kind != 5 or len(sizes.content) % 4:
        raise Damaged(f"{name} is cut off or damaged")
    shape = struct.unpack(f"{order}{len(sizes.content) // 4}i", sizes.content)
    kind = np.dtype(f"{order}{_NUMBERS[numbers.kind]}")
    if min(shape, default=-1) < 0 or math.prod(shape) * kind.itemsize != len(numbers.content) or len(shape) > 8:
        raise Damaged(f"{name} has {len(numbers.content)} bytes for a size of {'x'.join(map(str, shape))}")
    array = np.frombuffer(numbers.content, kind).reshape(shape, order="F")
    return array.astype(kind.newbyteorder("="))
