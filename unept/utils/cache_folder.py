"""The folder of this program's caches. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$UNEPT_CACHE``, else ``$XDG_CACHE_HOME/unept-bench``, else ``~/.cache/unept-bench``.

    Raises:
        RuntimeError: No home folder is known.
    """
    if chosen := os.environ.get("UNEPT_CACHE"):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "unept-bench"
