"""The MATLAB reader against SciPy's writer and reader, and on files with bytes changed."""

from __future__ import annotations

import struct
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from unept.data import mat_file
from unept.data.mat_file import matrix_in, read_matrix


def refusal(content):
    """The message with which a file's content is refused; "" where it is read."""
    try:
        matrix_in(content, "LabelMap")
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_every_type_of_number(tmp_path, kind, packed):
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (2, 3), (5, 1), (0, 0), (3, 4, 2), (31, 17)):
        values = rng.integers(0, 100, shape).astype(kind)
        path = tmp_path / "x.mat"
        savemat(path, {"first": "text", "LabelMap": values, "n": np.eye(3)}, do_compression=packed)
        found = read_matrix(path, "LabelMap")
        np.testing.assert_array_equal(found, loadmat(path)["LabelMap"])
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(read_matrix(path, "n"), np.eye(3))


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_orders_of_bytes(tmp_path, order):
    """A 2x3 matrix of two-byte numbers, column by column, put together by hand."""

    def element(kind, content):
        return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)

    flags = element(6, struct.pack(f"{order}II", 11, 0))
    parts = flags + element(5, struct.pack(f"{order}2i", 2, 3)) + element(1, b"LabelMap")
    parts += element(4, struct.pack(f"{order}6H", 1, 2, 3, 4, 5, 600))
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    path = tmp_path / "x.mat"
    path.write_bytes(head + element(14, parts))
    assert read_matrix(path, "LabelMap").tolist() == [[1, 3, 5], [2, 4, 600]]
    np.testing.assert_array_equal(read_matrix(path, "LabelMap"), loadmat(path)["LabelMap"])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "LabelMap is no matrix of real numbers"),
        ({"a": 1}, "LabelMap is no matrix of real numbers"),
        (np.array([[1j]]), "LabelMap is no matrix of real numbers"),
        (np.array([["a", 1]], object), "LabelMap is no matrix of real numbers"),
    ],
)
def test_what_is_no_matrix(tmp_path, value, message):
    savemat(tmp_path / "x.mat", {"LabelMap": value})
    assert refusal((tmp_path / "x.mat").read_bytes()) == message


def test_other_files(tmp_path):
    for content, message in (
        (b"", "the file is empty"),
        (b"text " * 40, "no MATLAB file of version 5 to 7"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "version 7.3 (HDF5); save it as version 7"),
    ):
        assert message in refusal(content)
    modern = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(384) + b"\x89HDF\r\n\x1a\n"
    assert "version 7.3 (HDF5); save it as version 7: save(FILE, 'LabelMap', '-v7')" in refusal(modern + bytes(99))
    path = tmp_path / "x.mat"
    savemat(path, {"x": 1})
    assert refusal(path.read_bytes()) == "no variable LabelMap in it"


def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(mat_file, "LARGEST", 1 << 20)
    path = tmp_path / "x.mat"
    savemat(path, {"LabelMap": np.zeros((2000, 2000), np.uint8)}, do_compression=True)
    content = path.read_bytes()
    assert refusal(content) == "an element of more than 1 MiB, the limit for a label map"
    packed = zlib.compress(struct.pack("<II", 14, 0x7FFFFFFF) + bytes(100))
    assert refusal(content[:128] + struct.pack("<II", 15, len(packed)) + packed) == "cut off within an element"


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path, packed):
    path = tmp_path / "x.mat"
    savemat(path, {"LabelMap": np.arange(60).reshape(6, 10).astype(np.uint16)}, do_compression=packed)
    content = path.read_bytes()
    for kept in range(len(content)):
        assert refusal(content[:kept]), kept


@pytest.mark.parametrize("packed", [False, True])
def test_changed_bytes_raise_nothing_else(tmp_path, packed):
    """Whatever is changed, the file is read or refused in one line; a deflated one is never read wrongly."""
    path = tmp_path / "x.mat"
    values = np.arange(60).reshape(6, 10).astype(np.uint16)
    savemat(path, {"LabelMap": values}, do_compression=packed)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(2000):
        changed = bytearray(content)
        for place in rng.integers(124, len(content), rng.integers(1, 6)):
            changed[place] = rng.integers(256)
        said = refusal(bytes(changed))
        assert "\n" not in said
        refused += bool(said)
        if packed and not said:
            np.testing.assert_array_equal(matrix_in(bytes(changed), "LabelMap"), values)
    assert refused > 500
