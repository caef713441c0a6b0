"""Files that are written completely or not at all. Imports no torch."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def atomic_write(path: Path, data: bytes, *, alone: bool = False) -> Path:
    """Replace the file `path` by `data`, synced to the disk; a crash at any time leaves the old file or the new one.

    Of processes that write one path at once, each writes it whole, and one of them last.

    Args:
        path: File to replace.
        data: Its new content.
        alone: True where a lock keeps every other process from writing `path`. The temporary file has its name with
            TEMPORARY_SUFFIX then, and replaces one that a killed process has left.

    Returns:
        `path`.

    Raises:
        OSError: Names the file.
    """
    own = path.name if alone else f".{secrets.token_hex(8)}"  # a name of its own does not lengthen a long one
    temporary = path.with_name(f"{own}{TEMPORARY_SUFFIX}")
    try:
        with open(temporary, "wb" if alone else "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # writing and syncing do not say what, and the temporary name says nothing
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return path


def sync_folder(folder: Path) -> None:
    """Sync a folder's names to the disk, if the system can open folders."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
