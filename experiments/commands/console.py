"""Output of the verbs, their exit codes, and the command line that called them."""

from __future__ import annotations

import errno
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.study.study import WorkerTasks

NAME = "unept-bench"
DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130  # exit codes
_UNUSABLE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One call of the program.

    Args:
        words: The command line without the program's name.
        tasks: What the workers of a study call; None for the real training and measures.
    """

    words: tuple[str, ...]
    tasks: WorkerTasks | None = None

    @property
    def command(self) -> str:
        """The whole command line, quoted for a shell."""
        return shlex.join([NAME, *self.words])


def print_progress(line: str) -> None:
    """Print a line to standard error: progress, warnings and what went wrong."""
    print(line, file=sys.stderr, flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print result lines to standard output."""
    print("\n".join(lines))


def refuse(message: str) -> int:
    """Print a user's mistake as one line and return its exit code."""
    print_progress(f"{NAME}: {message}")
    return REFUSED


def check_files(paths: Iterable[Path]) -> None:
    """Raise ValueError that names the first file that is not there."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: file does not exist")


def one_line(error: Exception) -> str:
    """Return the error's message in one line."""
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    if text.startswith("Got unexpected extra argument") and "=" in text:
        text += "; axes follow --grid, as in --grid N=4,16 L=1,3"
    return " ".join(text.split())


def explain_os_error(error: OSError) -> str | None:
    """Return a line on what a user can mend, as a full disk or a folder that cannot be written; None for all else."""
    path = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{path}the disk is full; finished runs are kept, and the same command continues once there is room"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{path}not readable or not writable ({error.strerror}); name another folder with --out"
    if error.errno in _UNUSABLE:
        return f"{path}{error.strerror}; name another folder with --out"
    return None
