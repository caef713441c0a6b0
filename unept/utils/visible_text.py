"""Text from files and users as it may be shown: what steers a terminal or turns writing round is spelled out.

`\\x1b` instead of an escape, `\\u202e` instead of a mark that reverses the rest of a line, `\\xe9` for the byte of a
file's name that is no UTF-8. Line ends and tabs stay.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from collections.abc import Iterator
from typing import Any

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks of direction
    "\u200b\u2028\u2029\ufeff\ufff9-\ufffb"  # other ends of lines, and what has no width
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, which no file can hold; invisible tags
)


def visible_text(text: str) -> str:
    """Return `text` with every character that steers or hides spelled as Python does, `\\x1b` or `\\u202e`."""
    return _HIDDEN.sub(_spelled, text)


def visible_line(text: str) -> str:
    """Return `text` as `visible_text` does, on one line: no file's name can look like a line of the program's own."""
    return visible_text(text).replace("\n", "\\n")


def single_line(text: str) -> str:
    """Return `text` as a cell or a label has it: as `visible_text`, every run of white space and line ends a space."""
    return visible_text(" ".join(text.split()))


def _spelled(match: re.Match[str]) -> str:
    number = ord(match[0])
    if 0xDC80 <= number <= 0xDCFF:  # how Python holds a byte of a file's name that is not UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class VisibleStream:
    """A text stream that shows everything by `visible_text`, and characters that its encoding lacks by their number.

    Once the stream cannot be written, as a pipe whose reader has gone, the rest is dropped and `error` says why: what
    the program does besides printing goes on.

    Args:
        stream: What is written to; None for a standard stream that was closed before the program began.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = io.StringIO() if stream is None else stream
        self.error: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write the text as it may be shown."""
        encoding = getattr(self.stream, "encoding", None) or "utf-8"
        shown = visible_text(text).encode(encoding, "backslashreplace").decode(encoding)
        with self._noting_errors():
            self.stream.write(shown)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with self._noting_errors():
            self.stream.flush()

    def probe(self) -> None:
        """Note in `error` where nothing can be written, without writing anything."""
        try:
            number = self.stream.fileno()
        except (AttributeError, OSError, ValueError):  # no file of the system's
            return
        with self._noting_errors():
            os.write(number, b"")

    @contextlib.contextmanager
    def _noting_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error
            with contextlib.suppress(OSError, ValueError):  # ValueError: no file of the system's
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self.stream.fileno())  # what is buffered goes there too, at the interpreter's end
                os.close(null)


def raw_stream(stream: Any) -> Any:
    """Return the stream below a `VisibleStream`, for a display that steers the terminal itself."""
    return stream.stream if isinstance(stream, VisibleStream) else stream
