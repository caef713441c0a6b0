"""Paths that a user typed, and what stands there. Imports no torch."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

_SPECIAL = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def special_file(path: Path) -> str | None:
    """Return what stands at a path if it is no regular file, as `a folder`; None for a file. OSError for nothing.

    Whoever opened a named pipe would wait for another process.
    """
    mode = path.stat().st_mode
    if stat.S_ISREG(mode):
        return None
    return next((name for test, name in _SPECIAL if test(mode)), "no file")


def quoted_path(path: Path | str) -> str:
    """Return a path as a shell takes it, for lines that may be copied; one that begins with a dash as a file."""
    text = str(path)
    return shlex.quote(f"./{text}" if text.startswith("-") else text)


def user_path(text: str) -> Path:
    """Return the path with `~` and `~NAME` replaced by a home folder.

    Raises:
        ValueError: There is no such user, or none has told where the home folder is.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        name = text.partition("/")[0]
        raise ValueError(f"{text}: no home folder of {name} is known here; write the path without ~") from None
