"""Chunks of a PNG file: what its pixels need, its metadata, and whether a checksum is wrong."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_LARGEST_TEXT = 1 << 20  # bytes of an inflated text that may hold EXIF or XMP data
_XMP = b"XML:com.adobe.xmp\0"
_PROFILE = re.compile(rb"Raw profile type (?:exif|APP1)\0")


class Chunk(NamedTuple):
    """A chunk as it stands in the file; `content` and `checksum` are shorter where the file is cut off."""

    head: bytes
    content: bytes
    checksum: bytes

    @property
    def kind(self) -> bytes:
        """The four letters of its type."""
        return self.head[4:]

    @property
    def whole(self) -> bool:
        """True if the checksum is that of the content."""
        return zlib.crc32(self.kind + self.content) == int.from_bytes(self.checksum, "big") and len(self.checksum) == 4


class PngContent(NamedTuple):
    """A PNG without anything that its pixels do not need, and the metadata that say how it is turned."""

    pixels: bytes
    depth: int
    exif: bytes
    xmp: bytes
    foreign: bool  # of Apple's own format, which only looks like PNG


def chunks(file: BinaryIO, size: int) -> Iterator[Chunk]:
    """Yield the chunks of a file of `size` bytes, which is read on behind its signature, to IEND or to its end."""
    while head := file.read(8):
        length = int.from_bytes(head[:4], "big")
        content = file.read(min(length, size))
        chunk = Chunk(head, content, file.read(4) if len(content) == length else b"")
        yield chunk
        if len(chunk.checksum) < 4 or chunk.kind == b"IEND":
            return


def read_png(file: BinaryIO, size: int) -> PngContent:
    """Read a PNG of `size` bytes. Texts and colour profiles of any size, damaged ones too, do not matter."""
    pixels = io.BytesIO()
    pixels.write(SIGNATURE)
    depth, exif, xmp, foreign = 8, b"", b"", False
    for chunk in chunks(file, size):
        if chunk.kind in _PIXELS:
            pixels.writelines(chunk)
        if chunk.kind == b"IHDR" and len(chunk.content) > 8:
            depth = chunk.content[8]
        elif chunk.kind == b"eXIf":
            exif = chunk.content
        elif chunk.kind == b"iTXt" and chunk.content.startswith(_XMP):
            xmp = _xmp(chunk.content[len(_XMP) :])
        elif chunk.kind in (b"tEXt", b"zTXt") and (profile := _PROFILE.match(chunk.content)):
            exif = exif or _profile(chunk.content[profile.end() :], deflated=chunk.kind == b"zTXt")
        elif chunk.kind == b"CgBI":
            foreign = True
    return PngContent(pixels.getvalue(), depth, exif, xmp, foreign)


def broken_chunk(content: bytes) -> str | None:
    """Return the type of a PNG's first chunk whose checksum is wrong or that is cut off; None where all of them are
    whole.

    Decoders do not look at the checksums of the chunks that hold the pixels. None for any other file.
    """
    if not content.startswith(SIGNATURE):
        return None
    file = io.BytesIO(content)
    file.seek(len(SIGNATURE))
    kind = b""
    for chunk in chunks(file, len(content)):
        kind = chunk.kind
        if len(chunk.head) < 8:
            return "the last one"
        if not chunk.whole:
            return kind.decode("ascii", "replace")
    return None if kind == b"IEND" else "IEND"


def _xmp(text: bytes) -> bytes:
    """Return the XMP data of an international text behind its keyword: whether and how it is deflated, two names, data.

    b"" where they are deflated and damaged.
    """
    data = text[2:].split(b"\0", 2)[-1]
    if text[:1] != b"\1":
        return data
    try:
        return zlib.decompressobj().decompress(data, _LARGEST_TEXT)
    except zlib.error:
        return b""


def _profile(text: bytes, *, deflated: bool) -> bytes:
    """Return the EXIF data of a text as ImageMagick writes them: a name, a length and hexadecimal digits, by line."""
    try:
        raw = zlib.decompressobj().decompress(text[1:], _LARGEST_TEXT) if deflated else text
        return bytes.fromhex(b"".join(raw.split(b"\n")[3:]).decode("ascii"))
    except (zlib.error, ValueError):
        return b""
