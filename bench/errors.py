"""An exception as what a row, a log or a message says of it."""

from __future__ import annotations


def one_line(error: BaseException, most: int = 300) -> str:
    """`Type: message`, the message's lines joined, at most `most` characters."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}"[:most] if message else type(error).__name__
