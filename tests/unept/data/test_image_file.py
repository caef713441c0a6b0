"""What is opened as a picture and what is not: by content, without starting a program, and with the true reason."""

from __future__ import annotations

import io
import os
import socket
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from unept.data.image_file import Damaged, Refused
from unept.data.load_image import check_image, read_image, read_photo
from unept.data.load_label import read_label

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)
READERS = (read_image, read_photo, check_image, read_label)


def saved(path: Path, values: np.ndarray, form: str = "png", **options: Any) -> Path:
    Image.fromarray(values).save(path, form, **options)
    return path


def reason(path: Path, read: Any = read_image) -> str:
    """The one line with which a whole file is refused."""
    with pytest.raises(Refused, match=r"^[^\n]+$") as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "damaged" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo.tif"])
def test_no_content_starts_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\nnewpath\n%%EOF\n"
    binary = struct.pack("<4sIIIIIIH", b"\xc5\xd0\xd3\xc6", 30, len(page), 0, 0, 0, 0, 0xFFFF) + page
    for content in (page, binary):
        (tmp_path / name).write_bytes(content)
        for read in READERS:
            assert "PostScript by its content: expected JPEG, PNG" in reason(tmp_path / name, read)
    assert not (tmp_path / "started").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GIF89a", "GIF by its content"),
        (b"\0\0\0\x18ftypheic", "HEIC or AVIF by its content"),
        (b"%PDF-1.7", "PDF by its content"),
        (b"<?xml version='1.0'?>\n<svg xmlns=''>", "SVG by its content"),
        (b"<!DOCTYPE html><html>", "not a picture: its content is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "`git lfs pull` fetches the file"),
        (b"PK\3\4", "not a picture: its content is a compressed archive"),
        (bytes(100), "not a picture: its content is of no known format"),
    ],
)
def test_other_contents_are_called_by_their_name(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "photo.jpg").write_bytes(content)
    assert all(said in reason(tmp_path / "photo.jpg", read) for read in READERS)


def test_only_files_are_opened(tmp_path: Path) -> None:
    """Whoever opened the pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    (tmp_path / "nothing.png").symlink_to(tmp_path / "gone.png")
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "socket.png"))
        for name, said in (
            ("pipe.png", "a named pipe (FIFO), not a file"),
            ("link.png", "a named pipe (FIFO), not a file"),
            ("folder.png", "a folder, not a file"),
            ("socket.png", "a socket, not a file"),
            ("/dev/null", "a device, not a file"),
            ("nothing.png", "file does not exist"),
            ("x" * 300, "it cannot be opened (File name too long)"),
            ("a\0b.png", "it cannot be opened"),
        ):
            assert all(said in reason(tmp_path / name, read) for read in READERS)


def test_texts_and_profiles_of_any_size_do_not_matter(tmp_path: Path) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", "x" * 3_000_000, zip=True)
    text.add_itxt("prompt", "y" * 3_000_000)
    path = saved(tmp_path / "a.png", COLOURS, icc_profile=bytes(3_000_000), pnginfo=text)
    (tmp_path / "b.png").write_bytes(path.read_bytes().replace(b"iCCP", b"zTXt"))  # no text, and a wrong checksum
    for name in ("a.png", "b.png"):
        np.testing.assert_array_equal(read_image(tmp_path / name), COLOURS)
    saved(tmp_path / "c.jpg", COLOURS, "jpeg", icc_profile=bytes(3_000_000))
    assert check_image(tmp_path / "c.jpg") == (9, 6)


def test_a_large_picture_is_read_without_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between Pillow's own limit, which only warns, and above twice of it, where it refuses."""
    path = saved(tmp_path / "a.png", COLOURS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for limit in (53, 20):
            monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
            np.testing.assert_array_equal(read_image(path), COLOURS)
    assert "9x6 pixels, above the limit of 53; raise it by" in reason(path, lambda path: read_image(path, 53))
    np.testing.assert_array_equal(read_image(path, 54), COLOURS)


def deep_png(colour: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    head = struct.pack(">IIBBBBB", 4, 4, 16, colour, 0, 0, 0)
    rows = (b"\0" + bytes(range(8 * samples))) * 4
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_16_bits_a_channel_are_refused_in_grey_and_in_colours(tmp_path: Path, colour: int) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(deep_png(colour))
    for read in (read_image, check_image):
        assert "with 16 bits a channel: expected 8 bits" in reason(path, read)
    assert read_photo(path).changed[0].startswith("16 bits"), "and scaled, with a word, to predict"


def test_16_bits_a_channel_in_other_formats(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 2 1 4095\n" + bytes(12))
    (tmp_path / "b.ppm").write_bytes(b"P5 2 1 65535\n" + bytes(4))
    saved(tmp_path / "c.tif", np.zeros((2, 2), np.uint16), "tiff")
    for name in ("a.ppm", "b.ppm", "c.tif"):
        assert "16 bits a channel: expected 8 bits" in reason(tmp_path / name)


def test_kinds_that_are_not_decoded_are_not_called_damaged(tmp_path: Path) -> None:
    Image.merge("LAB", [Image.fromarray(COLOURS[..., 0])] * 3).save(tmp_path / "lab.tif")
    assert "image of mode LAB: expected grey, RGB or CMYK" in reason(tmp_path / "lab.tif")
    content = bytearray(saved(tmp_path / "a.tif", COLOURS, "tiff").read_bytes())
    place = content.index(struct.pack("<HHI", 262, 3, 1)) + 8
    content[place] = 32  # colours that nobody has
    (tmp_path / "a.tif").write_bytes(content)
    assert "a TIFF of a kind that is not read (unknown pixel mode)" in reason(tmp_path / "a.tif")
    for number, name in ((6, "tiff_jpeg"), (50001, "webp")):
        content = bytearray(saved(tmp_path / "c.tif", COLOURS, "tiff").read_bytes())
        place = content.index(struct.pack("<HHI", 259, 3, 1)) + 8
        content[place : place + 2] = struct.pack("<H", number)
        (tmp_path / "c.tif").write_bytes(content)
        assert f"a TIFF of a kind that is not read (compression {name})" in reason(tmp_path / "c.tif")
    saved(tmp_path / "b.jpg", COLOURS, "jpeg")
    content = bytearray((tmp_path / "b.jpg").read_bytes())
    content[content.index(b"\xff\xc0") + 4] = 12  # bits of a sample
    (tmp_path / "b.jpg").write_bytes(content)
    assert "a JPEG of a kind that is not read (cannot handle 12-bit layers)" in reason(tmp_path / "b.jpg")


@pytest.mark.parametrize("form", ["jpeg", "png", "bmp", "tiff", "webp", "ppm"])
def test_a_file_that_is_cut_off_is_called_damaged(tmp_path: Path, form: str) -> None:
    path = saved(tmp_path / "a.png", np.tile(COLOURS, (9, 9, 1)), form)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(Damaged, match=r"a\.png: truncated or damaged (JPEG|PNG|BMP|TIFF|WebP|PPM) \("):
        read_image(path)


@pytest.mark.parametrize("form", ["png", "deflated png", "tiff", "webp"])
def test_an_orientation_that_xmp_alone_tells(tmp_path: Path, form: str) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = tmp_path / "a"
    if "png" in form:
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp.decode(), zip=form != "png")
        saved(path, COLOURS, pnginfo=text)
    elif form == "tiff":
        saved(path, COLOURS, form, tiffinfo={700: xmp})
    else:
        saved(path, COLOURS, form, lossless=True, xmp=xmp)
    np.testing.assert_array_equal(read_image(path), COLOURS.swapaxes(0, 1)[:, ::-1])
    assert check_image(path) == (6, 9)


def test_an_orientation_that_imagemagick_has_put_into_a_text(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    digits = exif.tobytes().hex()
    for zipped in (False, True):
        text = PngImagePlugin.PngInfo()
        text.add_text("Raw profile type exif", f"\nexif\n{len(digits) // 2:8}\n{digits}\n", zip=zipped)
        path = saved(tmp_path / "a.png", COLOURS, pnginfo=text)
        np.testing.assert_array_equal(read_image(path), COLOURS[::-1, ::-1])


def test_of_several_pictures_in_a_camera_file_the_first_is_read(tmp_path: Path) -> None:
    """MPO, as telephones write it under the name of a JPEG."""
    first, second = (Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in (200, 20))
    file = io.BytesIO()
    first.save(file, "mpo", save_all=True, append_images=[second], quality=95)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert read_image(tmp_path / "a.jpg").mean() == pytest.approx(200, abs=2)
    assert "saved as JPEG" in reason(tmp_path / "a.jpg", read_label)
