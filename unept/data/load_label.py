"""Reads the numbers of label pictures as the file holds them. Every part reads its label pictures here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from unept.data.image_file import MAX_PIXELS, SAVE_AS, OpenImage, Refused, open_image
from unept.data.orientation import turned
from unept.data.sample import Bytes

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")  # nothing lossy
_FORMATS = ("PNG", "BMP", "TIFF")
_LOSSY = {"JPEG": "JPEG", "WebP": "WebP", "jpeg": "JPEG", "tiff_jpeg": "JPEG", "webp": "WebP"}
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
_EXPORT = "export it again as PNG from what it was made of: the numbers in this file have changed"
_SAVE_NUMBERS = "save it as PNG with the same numbers"
_NUMBERS = "write the number of the class into a grey or palette PNG; colours have to be turned back into numbers first"


def read_label(path: Path, max_pixels: int = MAX_PIXELS) -> Bytes:
    """Read the values of a label picture, uint8 (H, W), upright: the indices of a palette, the values of a grey one.

    Grey of 1, 2 and 4 bits gives the numbers of the file, not the brightness that they stand for.

    Args:
        path: The file; its format is known by its content.
        max_pixels: A label of more pixels is refused.

    Raises:
        ValueError: Names the file, if it is missing, damaged, no picture, in a lossy format, in colours, in a TIFF that
            counts from white, or has values outside 0 to 255.
    """
    try:
        with open_image(path, max_pixels) as image:
            _refuse_lossy(path, image)
            values = _numbers(path, image)
    except Refused as refused:
        if refused.fix != SAVE_AS:
            raise
        raise Refused(refused.reason, _SAVE_NUMBERS) from refused  # a JPEG would change them
    if values.size and (values.max() > 255 or values.min() < 0):
        raise Refused(f"{path}: label values {values.min()} to {values.max()}: expected 0 to 255", _NUMBERS)
    return turned(values.astype(np.uint8), image.orientation)


def _numbers(path: Path, image: OpenImage) -> npt.NDArray[Any]:
    """Return the numbers (H, W) of a label as they stand in its file."""
    picture = image.picture
    values = np.array(picture)
    if values.ndim != 2 or values.dtype.kind not in "bui":
        raise Refused(
            f"{path}: label of mode {picture.mode}: expected one whole number a pixel (a grey or palette picture)",
            _NUMBERS,
        )
    if picture.mode == "L" and image.depth in (2, 4):  # Pillow has scaled them to 255
        values //= 255 // (2**image.depth - 1)
    if image.format == "TIFF":
        tags = getattr(picture, "tag_v2", {})
        if tags.get(_PHOTOMETRIC, 0) == 0:  # Pillow inverts 1 to 8 bits, and leaves 16 as they are
            raise Refused(
                f"{path}: label in a TIFF that counts from white (WhiteIsZero): its numbers are not clear",
                "save it as PNG, or with BlackIsZero",
            )
        if values.dtype == np.uint8 and tags.get(_SAMPLE_FORMAT) in (2, (2,)):
            values = values.view(np.int8)
    return values


def _refuse_lossy(path: Path, image: OpenImage) -> None:
    """Refuse a label in a format that changes numbers, or in another than those that labels are in."""
    compression = image.picture.info.get("compression") if image.format == "TIFF" else None
    lossy = _LOSSY.get(image.format) or _LOSSY.get(str(compression))
    if lossy:
        holder = "" if image.format != "TIFF" else " in a TIFF"
        raise Refused(f"{path}: label saved as {lossy}{holder}, by its content, has lost its values", _EXPORT)
    if image.format not in _FORMATS:
        raise Refused(
            f"{path}: label saved as {image.format}, by its content: expected {', '.join(_FORMATS)}", _NUMBERS
        )
