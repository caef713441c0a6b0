"""Pictures as people have them: every mode that Pillow saves, 16 bits, EXIF, and files that are none."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unept.data.load_image import photos_below, read_photo

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def saved(path: Path, picture: Image.Image, **options: object) -> Path:
    picture.save(path, **options)
    return path


def test_colours_come_back(tmp_path: Path) -> None:
    photo = read_photo(saved(tmp_path / "a.png", Image.fromarray(COLOURS)))
    assert photo.changed == ()
    assert (photo.image == COLOURS).all()
    assert photo.image.dtype == np.uint8


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16", "I;16B", "I"])
def test_every_mode_is_rgb_of_the_same_size(tmp_path: Path, mode: str) -> None:
    if mode.startswith("I"):
        values = COLOURS[..., 0].astype(np.uint16) * 257
        picture = Image.fromarray(
            values.astype(np.int32) if mode == "I" else values.astype({"I;16B": ">u2"}.get(mode, "<u2"))
        )
        expected = COLOURS[..., :1].repeat(3, axis=2)
    else:
        picture = Image.fromarray(COLOURS).convert(mode)
        expected = np.array(picture.convert("RGB"))
    photo = read_photo(saved(tmp_path / "a.tif", picture))
    assert photo.image.shape == (6, 9, 3)
    assert (photo.image == expected).all()
    assert photo.changed == {"I": ("16 bits scaled to 8",), "A": ("alpha dropped",)}.get(
        "I" if mode.startswith("I") else mode[-1], ()
    )


def test_16_bits_are_scaled_and_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 32767, 65535]], np.uint16)
    photo = read_photo(saved(tmp_path / "a.png", Image.fromarray(values)))
    assert (
        photo.image[0, :, 0].tolist() == [round(v * 255 / 65535) for v in values[0].tolist()] == [0, 0, 1, 1, 127, 255]
    )
    assert (photo.image == photo.image[..., :1]).all()


def png_of_16_bits(values: np.ndarray) -> bytes:
    """An RGB PNG of 16 bits a channel, which Pillow does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_the_high_byte_of_16_bit_colours(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(png_of_16_bits(COLOURS.astype(np.uint16) * 256 + 7))
    assert (read_photo(path).image == COLOURS).all()


def test_transparent_pixels_keep_their_colour(tmp_path: Path) -> None:
    alpha = np.zeros((6, 9, 1), np.uint8)
    photo = read_photo(saved(tmp_path / "a.png", Image.fromarray(np.concatenate([COLOURS, alpha], 2))))
    assert (photo.image == COLOURS).all()
    palette = Image.fromarray(COLOURS).convert("P")
    photo = read_photo(saved(tmp_path / "b.png", palette, transparency=3))
    assert (photo.image == np.array(palette.convert("RGB"))).all()
    assert photo.changed == ("alpha dropped",)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = read_photo(saved(tmp_path / "a.png", Image.fromarray(COLOURS), exif=exif))
    turned = {
        1: COLOURS, 2: COLOURS[:, ::-1], 3: COLOURS[::-1, ::-1], 4: COLOURS[::-1], 5: COLOURS.swapaxes(0, 1),
        6: COLOURS.swapaxes(0, 1)[:, ::-1], 7: COLOURS[::-1, ::-1].swapaxes(0, 1), 8: COLOURS.swapaxes(0, 1)[::-1],
    }  # fmt: skip
    assert (photo.image == turned[orientation]).all()
    assert photo.changed == (("turned upright (EXIF)",) if orientation > 1 else ())


def test_a_cmyk_jpeg(tmp_path: Path) -> None:
    flat = Image.new("RGB", (16, 16), (200, 30, 40))
    photo = read_photo(saved(tmp_path / "a.jpg", flat.convert("CMYK"), quality=95))
    assert np.abs(photo.image.astype(int) - [200, 30, 40]).max() < 8


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cut.png", cut, "truncated or damaged PNG"),
        ("empty.png", lambda _: b"", "truncated or damaged: the file is empty"),
        ("head.png", lambda data: data[:30], "truncated or damaged PNG"),
        ("text.jpg", lambda _: b"no picture", "not a picture: its content is of no known format"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, content: object, message: str) -> None:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, format="png")
    (tmp_path / name).write_bytes(content(file.getvalue()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"{name}: {message}") as caught:
        read_photo(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_values_without_a_known_scale_are_refused(tmp_path: Path) -> None:
    for name, values in (("f", np.ones((2, 2), np.float32)), ("i", np.full((2, 2), 70_000, np.int32))):
        path = saved(tmp_path / f"{name}.tif", Image.fromarray(values))
        with pytest.raises(ValueError, match=rf"{name}\.tif: values of mode .* expected 16 bits"):
            read_photo(path)
    with pytest.raises(ValueError, match=r"no\.png: file does not exist"):
        read_photo(tmp_path / "no.png")


def test_pictures_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "deeper/c.tif", ".hidden.png", ".cache/d.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [path.relative_to(tmp_path).as_posix() for path in photos_below(tmp_path)] == [
        "a.png",
        "b.JPG",
        "deeper/c.tif",
    ]


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "closed").mkdir()
    usual = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return usual(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(ValueError, match=r"closed: folder not readable \(Permission denied\)"):
        photos_below(tmp_path)
