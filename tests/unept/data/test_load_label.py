"""Label pictures: lossy ones are refused whatever they are called, and they are turned as their pictures."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unept.data import check_data, open_data
from unept.data.image_file import Refused
from unept.data.load_label import LABEL_SUFFIXES, read_label

VALUES = np.arange(54, dtype=np.uint8).reshape(6, 9) % 5


def saved(path: Path, form: str, **options: Any) -> Path:
    Image.fromarray(VALUES).save(path, form, **options)
    return path


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
@pytest.mark.parametrize(
    ("form", "options", "said"),
    [
        ("jpeg", {"quality": 75}, "label saved as JPEG, by its content, has lost its values"),
        ("webp", {}, "label saved as WebP, by its content, has lost its values"),
        ("tiff", {"compression": "jpeg"}, "label saved as JPEG in a TIFF, by its content, has lost its values"),
        ("ppm", {}, "label saved as PPM, by its content: expected PNG, BMP, TIFF"),
    ],
)
def test_lossy_content_is_refused_under_any_name(
    tmp_path: Path, suffix: str, form: str, options: Any, said: str
) -> None:
    path = saved(tmp_path / f"label{suffix}", form, **options)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        read_label(path)
    assert str(caught.value).startswith(f"{path}: {said}")


@pytest.mark.parametrize("form", ["png", "bmp", "tiff"])
@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_whole_numbers_are_read_under_any_name(tmp_path: Path, form: str, suffix: str) -> None:
    np.testing.assert_array_equal(read_label(saved(tmp_path / f"label{suffix}", form)), VALUES)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_lossless_compressions_of_tiff(tmp_path: Path, compression: str) -> None:
    np.testing.assert_array_equal(read_label(saved(tmp_path / "x.tif", "tiff", compression=compression)), VALUES)


def test_negative_numbers_in_a_byte_are_no_classes(tmp_path: Path) -> None:
    """A TIFF of signed bytes, where -1 means unlabelled: Pillow gives 255."""
    for low, high in ((0, 4), (-1, 4)):
        Image.fromarray(VALUES).save(tmp_path / "x.tif", tiffinfo={339: 2})
        content = bytearray((tmp_path / "x.tif").read_bytes())
        content[content.index(VALUES.tobytes())] = low & 255
        (tmp_path / "x.tif").write_bytes(content)
        if low < 0:
            with pytest.raises(ValueError, match=f"label values {low} to {high}: expected 0 to 255"):
                read_label(tmp_path / "x.tif")
        else:
            np.testing.assert_array_equal(read_label(tmp_path / "x.tif"), VALUES)


def tiff(values: np.ndarray, bits: int, photometric: int) -> bytes:
    """A TIFF of one strip of grey samples, rows padded to bytes."""
    height, width = values.shape
    digits = ["".join(f"{value:0{bits}b}" for value in row) for row in values.tolist()]
    rows = b"".join(
        int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big") for text in digits
    )
    entries = {
        256: width,
        257: height,
        258: bits,
        259: 1,
        262: photometric,
        273: 122,
        277: 1,
        278: height,
        279: len(rows),
    }
    fields = b"".join(struct.pack(">HHII", tag, 4, 1, number) for tag, number in entries.items())
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + fields + bytes(4) + rows


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_numbers_of_a_tiff_are_those_of_the_file_or_refused(tmp_path: Path, bits: int) -> None:
    """Where 0 is white, Pillow turns 0 and 1 of one bit round."""
    numbers = VALUES % min(5, 2**bits)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff(numbers, bits, 1))
    np.testing.assert_array_equal(read_label(path), numbers)
    path.write_bytes(tiff(numbers, bits, 0))
    with pytest.raises(ValueError, match=r"label in a TIFF that counts from white|unknown pixel mode"):
        read_label(path)


@pytest.mark.parametrize("content", [b"GIF89a", tiff(VALUES, 8, 4)], ids=["another format", "a kind of TIFF"])
def test_nobody_is_told_to_save_a_label_as_jpeg(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(Refused) as caught:
        read_label(tmp_path / "x.png")
    assert caught.value.fix == "save it as PNG with the same numbers"


@pytest.mark.parametrize("form", ["png", "tiff"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_a_label_is_turned_as_its_picture(tmp_path: Path, form: str, orientation: int) -> None:
    """A camera's orientation in both, as tools that annotate in place leave it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    colours = (VALUES * 50)[..., None].repeat(3, 2)
    for split in ("train", "val"):
        for folder, values in (("images", colours), ("labels", VALUES)):
            path = tmp_path / folder / split / f"a.{form[:3]}"
            path.parent.mkdir(parents=True)
            Image.fromarray(values).save(path, form, exif=exif)
    assert check_data(f"folder:{tmp_path}?classes=5")
    sample = open_data(f"folder:{tmp_path}?classes=5", "train")[0]
    np.testing.assert_array_equal(sample.label * 50, sample.image[..., 0])
    np.testing.assert_array_equal(sample.label, np.rot90(VALUES, 2 if orientation == 3 else -1))
