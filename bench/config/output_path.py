"""Checks of the folder or file that a command will write, before it starts; nothing is made."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_TEMPORARY = ".tmp"  # what a file's name has at its end while it is written
_ROOM = 256  # bytes of a path that are left for what a report puts into its folder
_FILE_ROOM = 8 << 20  # bytes that the largest file of a report, a log or a small model may take
_NAME_LIMIT, _PATH_LIMIT = 255, 4096  # bytes, where the system does not say


def check_output(path: Path, option: str, *, is_file: bool = False) -> None:
    """Check that a folder, or a file, can be made or written at a path.

    Args:
        path: The path.
        option: The option that gave it, as `--out`, for the message.
        is_file: True for a file.

    Raises:
        ValueError: In one line, for a name that is no UTF-8 or too long, for a file where a folder must be or the other
            way round, for a folder in which nothing can be written, and for a limit of file sizes below what a report
            takes.
    """
    said = f"{option} {os.fsencode(path).decode('utf-8', 'backslashreplace')}"
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{said}: a name that is not UTF-8, and reports must name it; name another") from None
    if "\0" in os.fspath(path):
        raise ValueError(f"{said}: a name with a zero byte; name another")
    absolute = Path(os.path.abspath(path))
    if is_file and _mode(absolute) and stat.S_ISDIR(_mode(absolute)):
        raise ValueError(f"{said}: a folder; expected a file")
    folder = absolute.parent if is_file else absolute
    existing = next(path for path in (folder, *folder.parents) if _mode(path))
    if not stat.S_ISDIR(_mode(existing)):
        raise ValueError(f"{said}: {existing} is a file; expected a folder, name another")
    most = _limit(existing, "PC_NAME_MAX", _NAME_LIMIT)
    for part in (absolute, *absolute.parents):
        length = len(os.fsencode(part.name))
        if length + len(_TEMPORARY) * (is_file and part == absolute) > most:
            raise ValueError(f"{said}: a name of {length} bytes; the file system takes {most}, name a shorter one")
    if len(os.fsencode(absolute)) + _ROOM > _limit(existing, "PC_PATH_MAX", _PATH_LIMIT):
        raise ValueError(f"{said}: a path of {len(os.fsencode(absolute))} bytes is too long; name a shorter one")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"{said}: {existing} is not writable; name another folder")
    largest = _file_size_limit()
    if largest is not None and largest < _FILE_ROOM:
        raise ValueError(
            f"{said}: a file of this process may have {largest:,} bytes at most (ulimit -f): expected {_FILE_ROOM:,} "
            "or more, as a report may take; raise the limit"
        )


def _file_size_limit() -> int | None:
    """Return the bytes that a file of this process may have; None without a limit."""
    try:
        import resource
    except ImportError:  # Windows, which has none
        return None
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def _mode(path: Path) -> int:
    """Return the mode of what is at a path; 0 where nothing can be found there."""
    try:
        return path.stat().st_mode
    except OSError:
        return 0


def _limit(folder: Path, name: str, default: int) -> int:
    try:
        return os.pathconf(folder, name)
    except (OSError, ValueError, AttributeError):
        return default
