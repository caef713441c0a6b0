"""Pictures with EXIF data and labels of every kind, made at random: the numbers that were written, or one line."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unept.data.load_image import check_image, read_image
from unept.data.load_label import read_label

bounded = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LOSSLESS = ("png", "tiff", "webp")
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 99: 1}
UPRIGHT = (
    lambda a: a,
    lambda a: a[:, ::-1],
    lambda a: a[::-1, ::-1],
    lambda a: a[::-1],
    lambda a: a.swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1)[:, ::-1],
    lambda a: a[::-1, ::-1].swapaxes(0, 1),
    lambda a: a.swapaxes(0, 1)[::-1],
)  # by orientation, from 1


def directory(fields: list[tuple[int, int, int, bytes]], order: str = "<", *, start: int = 8) -> bytes:
    """A TIFF directory of (tag, type, count, content), with what is longer than four bytes behind it."""
    behind, entries = b"", b""
    end = start + 2 + 12 * len(fields) + 4
    for tag, kind, count, content in sorted(fields):
        if len(content) > 4:
            entries += struct.pack(f"{order}HHII", tag, kind, count, end + len(behind))
            behind += content
        else:
            entries += struct.pack(f"{order}HHI", tag, kind, count) + content.ljust(4, b"\0")
    return struct.pack(f"{order}H", len(fields)) + entries + bytes(4) + behind


def exif_data(fields: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    mark = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + mark + struct.pack(f"{order}I", 8) + directory(fields, order)


@st.composite
def odd_field(draw: st.DrawFn) -> tuple[int, int, int, bytes]:
    """Any field but the orientation, of any type, count and content, as many writers leave them."""
    tag = draw(st.sampled_from([0x10F, 0x11A, 0x11B, 0x128, 0x132, 0x8769, 0x8825, 0xA005, 0x9286, 0x2BC, 0xC4A5]))
    kind, count = draw(st.sampled_from([*SIZES])), draw(st.integers(0, 5))
    return tag, kind, count, draw(st.binary(min_size=SIZES[kind] * count, max_size=SIZES[kind] * count))


def with_tags(tiff: bytes, fields: list[tuple[int, int, int, bytes]]) -> bytes:
    """A little-endian TIFF whose directory, written anew at the end, holds these fields in place of its own."""
    (start,) = struct.unpack_from("<I", tiff, 4)
    (count,) = struct.unpack_from("<H", tiff, start)
    held = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number, content = struct.unpack_from("<HHI4s", tiff, place)
        length = SIZES[kind] * number
        (offset,) = struct.unpack("<I", content)
        held[tag] = (tag, kind, number, tiff[offset : offset + length] if length > 4 else content[:length])
    held |= {field[0]: field for field in fields}
    tiff += bytes(len(tiff) % 2)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + directory([*held.values()], start=len(tiff))


def saved(values: np.ndarray, form: str, fields: list[tuple[int, int, int, bytes]], order: str = "<") -> bytes:
    file = io.BytesIO()
    picture = Image.fromarray(values)
    if form == "tiff":
        picture.save(file, "tiff")
        return with_tags(file.getvalue(), fields)
    options: dict[str, Any] = {"lossless": True, "exact": True} if form == "webp" else {"quality": 100}
    picture.save(file, form, exif=exif_data(fields, order), **options)
    return file.getvalue()


@bounded
@given(
    form=st.sampled_from([*LOSSLESS, "jpeg"]),
    orientation=st.integers(0, 10),
    kind=st.sampled_from([1, 3, 4, 6, 8, 9]),
    order=st.sampled_from("<>"),
    odd=st.lists(odd_field(), max_size=3, unique_by=lambda field: field[0]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
)
def test_a_picture_is_upright_whatever_else_its_exif_holds(
    tmp_path: Path, form: str, orientation: int, kind: int, order: str, odd: Any, height: int, width: int
) -> None:
    values = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    order = "<" if form == "tiff" else order
    letter = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i"}[kind]
    fields = [(0x112, kind, 1, struct.pack(f"{order}{letter}", orientation)), *odd]
    path = tmp_path / "photo.jpg"
    path.write_bytes(saved(values, form, fields, order))
    if form == "jpeg":
        values = np.array(Image.open(io.BytesIO(saved(values, form, []))).convert("RGB"))
    expected = UPRIGHT[orientation - 1 if 1 <= orientation <= 8 else 0](values)
    np.testing.assert_array_equal(read_image(path), expected)
    assert check_image(path) == expected.shape[1::-1]


def test_the_exif_of_a_tiff_that_leads_nowhere_does_not_matter(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    path = tmp_path / "photo.tif"
    path.write_bytes(saved(values, "tiff", [(0x112, 3, 1, b"\6\0"), (0x8769, 6, 1, b"\x80"), (0x11A, 2, 3, b"72\0")]))
    np.testing.assert_array_equal(read_image(path), UPRIGHT[5](values))


@bounded
@given(form=st.sampled_from([*LOSSLESS, "jpeg"]), exif=st.binary(max_size=60), kind=st.integers(0, 20))
def test_damaged_exif_data_do_not_matter(tmp_path: Path, form: str, exif: bytes, kind: int) -> None:
    """An orientation that is no number, and data that are no EXIF at all."""
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    path = tmp_path / "photo.png"
    file = io.BytesIO()
    if form == "tiff":
        file.write(saved(values, form, [(0x112, 2, 2, b"6\0")]))
    else:
        options: dict[str, Any] = {"lossless": True, "exact": True} if form == "webp" else {}
        Image.fromarray(values).save(file, form, exif=b"Exif\0\0" + exif + bytes(1), **options)
    path.write_bytes(file.getvalue())
    assert read_image(path).shape in ((5, 7, 3), (7, 5, 3))
    if form in ("png", "webp") and exif[:2] not in (b"II", b"MM"):
        np.testing.assert_array_equal(read_image(path), values)


def read_or_reason(read: Any, path: Path) -> Any:
    """What a reader returns, or the line with which it refuses the file."""
    try:
        return read(path)
    except ValueError as error:
        reason = str(error)
    assert str(path) in reason
    assert "\n" not in reason
    return reason


def packed(values: np.ndarray, bits: int) -> bytes:
    """Rows of numbers of 1, 2, 4, 8 or 16 bits, each row padded to a whole byte."""
    shifts = np.arange(bits - 1, -1, -1)
    return np.packbits((values[..., None] >> shifts & 1).reshape(len(values), -1), axis=1).tobytes()


def png(values: np.ndarray, bits: int, colours: int | None) -> bytes:
    """A grey PNG of that many bits a pixel, or one with a palette of that many colours."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape
    rows, length = packed(values, bits), (width * bits + 7) // 8
    lines = b"".join(b"\0" + rows[i * length : (i + 1) * length] for i in range(height))
    head = struct.pack(">IIBBBBB", width, height, bits, 3 if colours else 0, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(range(7, 7 + 3)) * colours) if colours else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", head), palette, chunk(b"IDAT", zlib.compress(lines)), chunk(b"IEND", b"")]
    )


def tiff(values: np.ndarray, bits: int, photometric: int, order: str, orientation: int) -> bytes:
    """An uncompressed TIFF of one strip: grey, 0 white or black, or with a palette."""
    height, width = values.shape
    pixels = values.astype(f"{order}u2").tobytes() if bits == 16 else packed(values, bits)
    numbers = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8), (274, orientation)]
    fields = [(tag, 3, 1, struct.pack(f"{order}H", number)) for tag, number in [*numbers, (277, 1), (278, height)]]
    fields.append((279, 4, 1, struct.pack(f"{order}I", len(pixels))))
    if photometric == 3:
        fields.append((320, 3, 3 << bits, bytes(6 << bits)))
    pixels += bytes(len(pixels) % 2)
    mark = b"II*\0" if order == "<" else b"MM\0*"
    end = 8 + len(pixels)
    return mark + struct.pack(f"{order}I", end) + pixels + directory(fields, order, start=end)


@bounded
@given(
    bits=st.sampled_from([1, 2, 4, 8, 16]),
    indexed=st.booleans(),
    height=st.integers(1, 6),
    width=st.integers(1, 19),
    seed=st.integers(0, 99),
)
def test_a_png_label_holds_the_numbers_of_the_file(
    tmp_path: Path, bits: int, indexed: bool, height: int, width: int, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, min(1 << bits, 256), (height, width))
    path = tmp_path / "label.png"
    path.write_bytes(png(values, bits, 1 << bits if indexed and bits <= 8 else None))
    np.testing.assert_array_equal(read_label(path), values)


@bounded
@given(
    bits=st.sampled_from([1, 2, 4, 8, 16]),
    photometric=st.integers(0, 3),
    order=st.sampled_from("<>"),
    orientation=st.integers(1, 8),
    height=st.integers(1, 6),
    width=st.integers(1, 19),
)
def test_a_tiff_label_holds_the_numbers_of_the_file_and_is_turned_as_its_picture(
    tmp_path: Path, bits: int, photometric: int, order: str, orientation: int, height: int, width: int
) -> None:
    values = np.random.default_rng(width).integers(0, min(1 << bits, 256), (height, width))
    path = tmp_path / "label.tif"
    path.write_bytes(tiff(values, bits, photometric, order, orientation))
    found = read_or_reason(read_label, path)
    if isinstance(found, str):  # from white, colours of one sample, a palette of 65,536 colours
        assert photometric in (0, 2) or (photometric, bits) == (3, 16)
        return
    if photometric == 0 and bits == 1:
        values = 1 - values  # black and white as they are seen
    np.testing.assert_array_equal(found, UPRIGHT[orientation - 1](values))


@bounded
@given(
    form=st.sampled_from(["png", "tiff", "bmp", "gif", "ppm", "webp", "jpeg"]),
    mode=st.sampled_from(["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "I", "F", "CMYK", "LAB", "YCbCr"]),
    suffix=st.sampled_from(["png", "tif", "bmp"]),
    cut=st.integers(0, 40),
)
def test_any_file_is_read_as_it_was_written_or_refused_in_one_line(
    tmp_path: Path, form: str, mode: str, suffix: str, cut: int
) -> None:
    values = np.random.default_rng(0).integers(0, 200, (6, 8)).astype(np.uint8)
    kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode)
    picture = Image.fromarray(values.astype(kind)) if kind else Image.fromarray(values)
    if mode == "P":
        picture.putpalette([*range(256)] * 3)
    elif kind is None and mode not in ("L", "LAB"):
        picture = picture.convert(mode)
    elif mode == "LAB":
        picture = Image.merge("LAB", [picture] * 3)
    file, path = io.BytesIO(), tmp_path / f"x.{suffix}"
    try:
        picture.save(file, form)
    except (OSError, KeyError, ValueError):
        return
    path.write_bytes(file.getvalue()[: max(len(file.getvalue()) - cut, 0)])
    for read in (read_image, read_label):
        found = read_or_reason(read, path)
        if isinstance(found, str):
            assert cut or "damaged" not in found
            continue
        assert found.shape[:2] == (6, 8)
        if read is read_label:
            assert form in ("png", "tiff", "bmp")
            np.testing.assert_array_equal(found, np.array(picture))


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("grey", [False, True])
def test_a_bmp_label_holds_the_numbers_of_the_file_or_is_refused(tmp_path: Path, bits: int, grey: bool) -> None:
    """Also where the palette looks like grey, which Pillow takes for pixels of 8 bits."""
    values = np.random.default_rng(0).integers(0, 1 << bits, (5, 13))
    rows, length = packed(values, bits), (13 * bits + 7) // 8
    lines = b"".join(rows[i * length : (i + 1) * length].ljust(-(-length // 4) * 4, b"\0") for i in range(5)[::-1])
    tone = [0, 255] if bits == 1 else range(1 << bits)
    palette = b"".join(bytes([n, n, n, 0]) if grey else bytes([9, 8, n, 0]) for n in tone)
    head = struct.pack("<IiiHHIIiiII", 40, 13, 5, 1, bits, 0, len(lines), 0, 0, 1 << bits, 0)
    path = tmp_path / "label.bmp"
    start = 14 + len(head) + len(palette)
    path.write_bytes(b"BM" + struct.pack("<IHHI", start + len(lines), 0, 0, start) + head + palette + lines)
    if grey and bits == 4:
        with pytest.raises(ValueError, match=r"label\.bmp: a BMP of 4 bits with a grey palette, which is not read"):
            read_label(path)
    else:
        np.testing.assert_array_equal(read_label(path), values)
