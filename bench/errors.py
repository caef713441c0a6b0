"""Exceptions as one line of text, for rows, logs and messages."""

from __future__ import annotations


def one_line(error: BaseException, most: int = 300) -> str:
    """Return `Type: message` on one line.

    Args:
        error: The exception; the lines of its message are joined by spaces.
        most: Largest length of the text, in characters; the rest is cut off.
    """
    message = message_line(error, most)
    return f"{type(error).__name__}: {message}"[:most] if message else type(error).__name__


def message_line(message: object, most: int = 300) -> str:
    """Return a message, or that of an exception alone, on one line, at most `most` characters of it."""
    return " ".join(str(message).split())[:most]
