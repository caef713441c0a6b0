"""Reads pictures from cameras, scanners and editors as 8-bit RGB, upright. Every part reads its pictures here."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from unept.data.image_file import MAX_PIXELS, SAVE_AS, OpenImage, Refused, open_image
from unept.data.orientation import UPRIGHT, turned
from unept.data.sample import Bytes

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm")
DEEPEST = 65_535  # largest value of 16 bits
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
_COLOURS = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", *_ALPHA)
_PHOTOMETRIC = 262


class Photo(NamedTuple):
    """A picture, uint8 (H, W, 3) RGB, upright, and the conversions that were applied, in words."""

    image: Bytes
    changed: tuple[str, ...]


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Bytes:
    """Read a picture to train on or to score, uint8 (H, W, 3) RGB, upright.

    Grey and palette pictures are converted and an alpha channel is dropped: transparent pixels keep the colour that the
    file has under them. Of several frames the first is read.

    Args:
        path: The file; its format is known by its content.
        max_pixels: A picture of more pixels is refused.

    Raises:
        ValueError: Names the file, if it is missing, damaged, no picture, too large, or of more than 8 bits a channel.
    """
    with open_image(path, max_pixels) as image:
        _refuse_deep(path, image)
        return turned(_rgb(image.picture), image.orientation)


def read_photo(path: Path, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a picture to predict: as `read_image`, and 16 bits a channel are scaled to 8 (65535 becomes 255).

    Raises:
        ValueError: As `read_image`, but for 16 bits; also for floating point and 32 bits, which have no known scale.
    """
    with open_image(path, max_pixels) as image:
        picture = image.picture
        changed = ["turned upright (EXIF)"] * (image.orientation != UPRIGHT)
        _refuse_colours(path, image)
        if image.depth > 8 and picture.mode in _COLOURS:
            changed.append("16 bits: the high byte taken")
        if picture.mode not in _COLOURS:
            changed.append("16 bits scaled to 8")
            pixels = _scaled(path, picture)
        else:
            if picture.mode in _ALPHA or "transparency" in picture.info:
                changed.append("alpha dropped")
            pixels = _rgb(picture)
        return Photo(turned(pixels, image.orientation), tuple(changed))


def check_image(path: Path, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Decode a picture and return its upright width and height; ValueError as from `read_image`."""
    with open_image(path, max_pixels) as image:
        _refuse_deep(path, image)
        size, (width, height) = image.upright_size, image.picture.size
        image.picture.draft(None, (max(width // 8, 1), max(height // 8, 1)))  # a JPEG, read to its end all the same
        image.picture.load()
        return size


def photos_below(folder: Path) -> list[Path]:
    """Return every picture in a folder and its subfolders, recognised by suffix; hidden files are skipped.

    Raises:
        ValueError: Names a folder that cannot be read.
    """
    photos = []
    for subfolder, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(subfolder, name) for name in names if not name.startswith(".")]
        photos += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(photos)


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: folder not readable ({error.strerror})") from error


def _refuse_deep(path: Path, image: OpenImage) -> None:
    _refuse_colours(path, image)
    if image.depth > 8:
        raise Refused(
            f"{path}: image of mode {image.picture.mode} with {image.depth} bits a channel: expected 8 bits", SAVE_AS
        )


def _refuse_colours(path: Path, image: OpenImage) -> None:
    """Refuse colours that have no conversion to RGB."""
    mode = image.picture.mode
    if mode not in _COLOURS and not (mode in ("I", "F") or mode.startswith("I;")):
        raise Refused(f"{path}: image of mode {mode}: expected grey, RGB or CMYK", SAVE_AS)


def _rgb(picture: Image.Image) -> Bytes:
    picture.load()
    picture.info.pop("transparency", None)  # not needed, and with it Pillow warns
    if picture.mode == "La":
        picture = picture.convert("LA")
    elif picture.mode == "RGBa":
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def _scaled(path: Path, picture: Image.Image) -> Bytes:
    """Convert 16-bit grey to 8-bit RGB."""
    values = np.array(picture)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > DEEPEST:
        raise Refused(
            f"{path}: values of mode {picture.mode} from {values.min()} to {values.max()}: expected 16 bits", SAVE_AS
        )
    wide = values.astype(np.uint32)
    if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # a TIFF in which 0 is white
        wide = DEEPEST - wide
    grey = ((wide * 255 + DEEPEST // 2) // DEEPEST).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
