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

LARGEST = 1 << 28  # bytes of an element once it is inflated; a label map of 10,000 x 10,000 pixels has 200 MB

_HEADER = 128
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
        ValueError: Without the file's name, for a file that is damaged or of another format, and for a variable that is
            missing or no matrix of real numbers.
        OSError: If the file cannot be read.
    """
    return matrix_in(path.read_bytes(), name)


def matrix_in(content: bytes, name: str) -> npt.NDArray[Any]:
    """Read the matrix called `name` from a file's content; see `read_matrix`."""
    if content[:1] == b"\x89":
        raise ValueError("a MATLAB file of version 7.3: save it as version 7")
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if len(content) < _HEADER or order is None:
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
            raise ValueError("cut off within the head of an element")
        kind, length = struct.unpack_from(f"{order}II", content, position)
        start, step = position + 8, 8
        if kind >> 16:  # a small element: length and type share a word, and the data follow at once
            kind, length, start, step = kind & 0xFFFF, kind >> 16, position + 4, 4
        if start + length > len(content) or (step == 4 and length > 4):
            raise ValueError("cut off within an element")
        yield _Element(kind, content[start : start + length])
        whole = length if kind == _DEFLATED else -(-length // step) * step
        position = start + whole


def _inflated(element: _Element, order: str) -> _Element:
    """Return the element inside a deflated one."""
    engine = zlib.decompressobj()
    try:
        content = engine.decompress(element.content, LARGEST)
    except zlib.error as error:
        raise ValueError(f"a deflated element is damaged ({error})") from None
    if not engine.eof:
        raise ValueError(f"a deflated element is cut off, or of more than {LARGEST >> 20} MiB")
    inner = next(_elements(memoryview(content), order), None)
    if inner is None:
        raise ValueError("a deflated element is empty")
    return inner


def _matrix(content: memoryview, order: str, name: str) -> npt.NDArray[Any] | None:
    """Return the numbers of a matrix, or None if it has another name."""
    parts = _elements(content, order)
    flags, sizes, label = (next(parts, None) for _ in range(3))
    if flags is None or sizes is None or label is None or len(flags.content) < 4:
        raise ValueError("a variable is cut off")
    if bytes(label.content) != name.encode():
        return None
    (word,) = struct.unpack_from(f"{order}I", flags.content)
    numbers = next(parts, None)
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX:
        raise ValueError(f"{name} is no matrix of real numbers")
    if numbers is None or numbers.kind not in _NUMBERS or sizes.kind != 5 or len(sizes.content) % 4:
        raise ValueError(f"{name} is cut off or damaged")
    shape = struct.unpack(f"{order}{len(sizes.content) // 4}i", sizes.content)
    kind = np.dtype(f"{order}{_NUMBERS[numbers.kind]}")
    if min(shape, default=-1) < 0 or math.prod(shape) * kind.itemsize != len(numbers.content) or len(shape) > 8:
        raise ValueError(f"{name} has {len(numbers.content)} bytes for a size of {'x'.join(map(str, shape))}")
    array = np.frombuffer(numbers.content, kind).reshape(shape, order="F")
    return array.astype(kind.newbyteorder("="))
