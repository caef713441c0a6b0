"""Reads pictures from cameras, scanners and editors as 8-bit RGB."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from unept.data.image_dataset import BROKEN, IMAGE_SUFFIXES, unreadable
from unept.data.sample import Bytes

DEEPEST = 65_535  # largest value of 16 bits


class Photo(NamedTuple):
    """A picture, uint8 (H, W, 3) RGB, upright, and the conversions that were applied, in words."""

    image: Bytes
    changed: tuple[str, ...]


def read_photo(path: Path) -> Photo:
    """Read any picture that Pillow decodes: grey, palette, CMYK, with alpha, turned by EXIF, or of 16 bits.

    An alpha channel is dropped, not composited: transparent pixels keep the colour that the file has under them, as in
    training. 16-bit grey is scaled to 8 bits (65535 becomes 255); of 16-bit colours the high byte is taken. Of several
    frames the first is read.

    Raises:
        ValueError: Names the file, if it is missing, damaged, no picture, or has values without a known scale (floating
            point, 32 bits).
    """
    try:
        with Image.open(path) as picture:
            turned = picture.getexif().get(0x0112, 1) not in (0, 1)
            upright = ImageOps.exif_transpose(picture)
            changed = ["turned upright (EXIF)"] * turned
            if upright.mode in ("I", "F") or upright.mode.startswith("I;"):
                return Photo(_scaled(path, upright), (*changed, "16 bits scaled to 8"))
            if "transparency" in upright.info or upright.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
                upright = upright.convert("RGBA")  # a palette with transparency warns where it is converted at once
                changed.append("alpha dropped")
            return Photo(np.array(upright.convert("RGB")), tuple(changed))
    except BROKEN as error:
        raise unreadable(path, error) from error


def photos_below(folder: Path) -> list[Path]:
    """Return every picture in a folder and its subfolders, recognised by suffix; hidden files are skipped.

    Raises:
        ValueError: Names a folder that cannot be read.
    """
    photos = []
    for subfolder, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(subfolder, name) for name in names if not name.startswith(".")]
        photos += [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()]
    return sorted(photos)


def _refuse(error: OSError) -> None:
    raise ValueError(f"{error.filename}: folder not readable ({error.strerror})") from error


def _scaled(path: Path, picture: Image.Image) -> Bytes:
    """Convert 16-bit grey to 8-bit RGB."""
    values = np.array(picture)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > DEEPEST:
        raise ValueError(
            f"{path}: values of mode {picture.mode} from {values.min()} to {values.max()}: expected 16 bits"
        )
    grey = ((values.astype(np.uint32) * 255 + DEEPEST // 2) // DEEPEST).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
