"""Paths that a user typed. Imports no torch."""

from __future__ import annotations

import shlex
from pathlib import Path


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
