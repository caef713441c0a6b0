"""Folders and files of reports; imports nothing heavy, so that a folder is tried before anything is measured."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryFile

from unept.utils.atomic_files import atomic_write

MAX_FOLDER_LETTERS = 100  # characters of a folder's name


def writable_folder(folder: Path) -> Path:
    """Return the folder after a trial write; it is made if need be. Call it before a long measurement.

    Raises:
        OSError: Nothing can be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder):
        return folder


def write_files(folder: Path, made: Mapping[str, bytes]) -> list[Path]:
    """Write a report's files to `folder` and return their paths, pages first.

    Raises:
        OSError: They cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(made, key=lambda name: (not name.startswith("report."), name.endswith(".html"), name))
    return [atomic_write(folder / name, made[name]) for name in names]


def report_folder(out: Path, experiment: str) -> Path:
    """Return the folder of an experiment's report in the study's folder."""
    return out / "report" / experiment_folder(experiment)


def experiment_folder(experiment: str) -> str:
    """Return the experiment's name as a folder name without characters that a shell reads: `table-6` for `table 6`.

    A name too long for a file system is cut and marked by a digest.
    """
    name = re.sub(r"[^A-Za-z0-9_.,=+-]+", "-", experiment).strip("-.") or "experiment"
    if len(name) <= MAX_FOLDER_LETTERS:
        return name
    return f"{name[:MAX_FOLDER_LETTERS]}-{hashlib.sha256(experiment.encode()).hexdigest()[:8]}"
