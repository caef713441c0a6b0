"""Opens picture files of the formats that are read, known by their content, and says why another is not read.

Pillow decodes the pixels. It gets regular files only and knows no other format here, so no file starts a program.
Metadata never decide whether a picture is read: but for the orientation they are left aside.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, TiffTags
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from unept.data.orientation import OrientationField, exif_orientation, find_orientation
from unept.data.png_chunks import SIGNATURE, read_png
from unept.utils.paths import special_file

MAX_PIXELS = 400_000_000  # 20,000 x 20,000 pixels: 1.2 GB once they are decoded
_HEAD = 512
_BITS_PER_SAMPLE = 258
_DECODERS: dict[str, Callable[[BinaryIO], ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "TIFF": TiffImageFile,
    "WebP": WebPImageFile,
    "PPM": PpmImageFile,
}
FORMATS = f"{', '.join([*_DECODERS][:-1])} or {[*_DECODERS][-1]}"
# How the content of a file begins, by what it is; "-" where that is no picture.
_READ = (
    ("JPEG", rb"\xff\xd8\xff"),
    ("PNG", re.escape(SIGNATURE)),
    ("BMP", rb"BM"),
    ("TIFF", rb"II[*+]\0|MM\0[*+]"),
    ("WebP", rb"RIFF....WEBP"),
    ("PPM", rb"P[1-6][ \t\r\n#]"),
)
_NOT_READ = (
    ("PostScript", rb"%!PS|\xc5\xd0\xd3\xc6"),
    ("PDF", rb"%PDF"),
    ("GIF", rb"GIF8"),
    ("HEIC or AVIF", rb"....ftyp"),
    ("JPEG 2000", rb"\0\0\0\x0cjP|\xff\x4f\xff\x51"),
    ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL"),
    ("OpenEXR", rb"\x76\x2f\x31\x01"),
    ("SVG", rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)?<svg"),
    ("- a web page", rb"\s*<(?:!doctype html|html)"),
    ("- a pointer of Git LFS, for which `git lfs pull` fetches the file", rb"version https://git-lfs"),
    ("- a compressed archive", rb"PK\x03\x04|\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf"),
)
_KINDS = [(name, re.compile(pattern, re.DOTALL | re.IGNORECASE)) for name, pattern in (*_READ, *_NOT_READ)]
_RARE_COMPRESSIONS = (
    "webp",
    "tiff_jpeg",
)  # of a TIFF: libraries as Pillow brings them lack both decoders, and do not say so
_UNSUPPORTED = re.compile(r"unsupported|not (?:yet )?supported|cannot handle|unknown|not available", re.IGNORECASE)
SAVE_AS = "save it as JPEG or PNG with 8 bits a channel"

warnings.filterwarnings("ignore", module=r"PIL\.")  # on metadata, which are not used


class Damaged(ValueError):
    """A file that is cut off or whose content is broken."""


class Refused(ValueError):
    """A file that is not read although it may be whole.

    Attributes:
        reason: One line that names the file.
        fix: What to do about it.
    """

    def __init__(self, reason: str, fix: str) -> None:
        super().__init__(reason, fix)
        self.reason = reason
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.reason}; {self.fix}"


@dataclass(frozen=True, kw_only=True)
class OpenImage:
    """A picture whose pixels can be decoded.

    Attributes:
        picture: It, without orientation.
        format: JPEG, PNG, BMP, TIFF, WebP or PPM, by its content.
        depth: Bits of a channel in the file.
        orientation: 1 to 8 as in EXIF; 1 is upright.
    """

    picture: Image.Image
    format: str
    depth: int
    orientation: int

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as they are to be seen."""
        width, height = self.picture.size
        return (height, width) if self.orientation > 4 else (width, height)


def open_file(path: Path) -> BinaryIO:
    """Open a regular file for reading; whatever else stands there is never opened.

    Raises:
        Refused: Names the path, and what is there.
    """
    try:
        special = special_file(path)
        if special is None:
            return open(path, "rb")
    except FileNotFoundError:
        raise Refused(f"{path}: file does not exist", "extract the package it comes from again") from None
    except PermissionError:
        raise Refused(f"{path}: no permission to read it", "change its permissions") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"{path}: it cannot be opened ({reason})", "check the name and the disk") from error
    raise Refused(f"{path}: {special}, not a file", "put the file itself there")


@contextmanager
def open_image(path: Path, max_pixels: int = MAX_PIXELS) -> Iterator[OpenImage]:
    """Open a picture; whatever goes wrong inside the block is the file's fault.

    Args:
        path: The file. Its name does not matter.
        max_pixels: A picture of more pixels is not decoded.

    Raises:
        Damaged: The file is cut off or broken.
        Refused: It is not there, no picture, of a kind that is not read, or too large.
    """
    kind, compression = "picture", None
    try:
        with open_file(path) as file:
            kind = _kind(path, file)
            image = _opened(path, file, kind, max_pixels)
            compression = image.picture.info.get("compression")
            yield image
    except (Damaged, Refused):
        raise
    except MemoryError as error:
        raise Refused(f"{path}: not enough memory for a picture of this size", "use a machine with more") from error
    except Exception as error:  # a decoder raises whatever its parser stumbles over
        if kind == "TIFF" and compression in _RARE_COMPRESSIONS and str(error).startswith("decoder error"):
            raise Refused(f"{path}: a TIFF of a kind that is not read (compression {compression})", SAVE_AS) from error
        raise _explained(path, kind, error) from error


def _kind(path: Path, file: BinaryIO) -> str:
    """Return the format of a file by its content; Damaged or Refused for another than those that are read."""
    head = file.read(_HEAD)
    file.seek(0)
    if not head:
        raise Damaged(f"{path}: truncated or damaged: the file is empty")
    kind = next((name for name, pattern in _KINDS if pattern.match(head)), "- of no known format")
    if kind in _DECODERS:
        return kind
    if kind.startswith("- "):
        raise Refused(f"{path}: not a picture: its content is {kind[2:]}", f"put a {FORMATS} file there")
    raise Refused(f"{path}: {kind} by its content: expected {FORMATS}", SAVE_AS)


def _opened(path: Path, file: BinaryIO, kind: str, max_pixels: int) -> OpenImage:
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels  # Pillow's own limit lies lower; this one is told below
    exif = xmp = b""
    depth, field, source = 8, None, file
    if kind == "PNG":
        file.seek(len(SIGNATURE))
        content = read_png(file, os.fstat(file.fileno()).st_size)
        if content.foreign:
            raise Refused(f"{path}: a PNG of Apple's own kind (CgBI), which is not read", SAVE_AS)
        depth, exif, xmp, source = content.depth, content.exif, content.xmp, io.BytesIO(content.pixels)
    elif kind == "TIFF":
        field, source = _upright_tiff(file)
    source.seek(0)
    picture = _DECODERS[kind](source)
    if kind in ("JPEG", "WebP"):
        exif, xmp = (_bytes(picture.info.get(name)) for name in ("exif", "xmp"))
    elif isinstance(picture, TiffImageFile):
        depth = _tiff_depth(picture)
        xmp = _bytes(_without_metadata(picture))
    elif kind == "PPM":
        depth = _ppm_depth(picture)
    width, height = picture.size
    if width * height > max_pixels:
        raise Refused(
            f"{path}: {width}x{height} pixels, above the limit of {max_pixels:,}",
            "raise it by 'max_pixels' in meta.json (data) or --max-pixels (predict), or cut the picture into tiles",
        )
    if isinstance(picture, BmpImageFile) and picture.mode in ("1", "L") and picture.tile[0][0] == "raw":
        bits = _bmp_bits(file)
        if bits != (1 if picture.mode == "1" else 8):  # Pillow would take its rows for something else
            raise Refused(f"{path}: a BMP of {bits} bits with a grey palette, which is not read", "save it as PNG")
    orientation = field.orientation if field else exif_orientation(exif, xmp)
    return OpenImage(picture=picture, format=kind, depth=depth, orientation=orientation)


def _upright_tiff(file: BinaryIO) -> tuple[OrientationField | None, BinaryIO]:
    """Return the orientation of a TIFF, and the TIFF with the orientation blanked, since Pillow would apply it too."""
    field = find_orientation(file)
    if field is None:
        return None, file
    file.seek(0)
    content = bytearray(file.read())
    content[field.position : field.position + len(field.plain)] = field.plain
    return field, io.BytesIO(content)


def _without_metadata(picture: TiffImageFile) -> Any:
    """Take out what Pillow would read, and might stumble over, once the pixels are decoded; return the XMP data."""
    xmp = picture.info.pop("xmp", None)
    exif = picture.getexif()
    for tag in TiffTags.TAGS_V2_GROUPS:
        if tag in exif:
            del exif[tag]
    return xmp


def _tiff_depth(picture: TiffImageFile) -> int:
    bits = picture.tag_v2.get(_BITS_PER_SAMPLE, 1)
    return int(max(bits)) if isinstance(bits, tuple) else int(bits)


def _ppm_depth(picture: ImageFile) -> int:
    """Return 16 for a PPM whose largest value is above 255."""
    arguments = picture.tile[0][3]
    numbers = [number for number in arguments if isinstance(number, int)] if isinstance(arguments, tuple) else []
    return 16 if picture.mode == "I" or max(numbers, default=0) > 255 else 8


def _bmp_bits(file: BinaryIO) -> int:
    """Return the bits of a pixel in a BMP."""
    file.seek(14)
    head = file.read(16)
    return int.from_bytes(head[10:12] if head[:4] == b"\x0c\0\0\0" else head[14:16], "little")


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def _explained(path: Path, kind: str, error: Exception) -> ValueError:
    """Return the one-line error for a file that a decoder gave up."""
    said = " ".join(str(error).replace(repr(str(path)), "it").replace(str(path), "it").split())
    said = said or type(error).__name__
    if isinstance(error, OSError) and error.errno is not None:
        return Refused(f"{path}: it cannot be read ({error.strerror})", "check the disk")
    if isinstance(error.__cause__, KeyError) and said.isdecimal():
        said = f"unknown compression, or no field, {said}"  # a table of the decoder has no such entry
    if _UNSUPPORTED.search(said):
        return Refused(f"{path}: a {kind} of a kind that is not read ({said})", SAVE_AS)
    return Damaged(f"{path}: truncated or damaged {kind} ({said})")
