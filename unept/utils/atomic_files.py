"""Files that are written completely or not at all. Imports no torch."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def atomic_write(path: Path, data: bytes) -> Path:
    """Replace the file `path` by `data`, synced to the disk; a crash at any time leaves the old file or the new one.

    Two processes must not write one path at once.

    Args:
        path: File to replace; the temporary file is `path` with the suffix ".tmp".
        data: Its new content.

    Returns:
        `path`.

    Raises:
        OSError: Names the file.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing and syncing do not say what
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
