"""Output of the verbs, their exit codes, and the command line that called them."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unept.utils.file_locks import NO_LOCKS
from unept.utils.paths import special_file
from unept.utils.visible_text import VisibleStream, visible_line

if TYPE_CHECKING:
    from bench.study.study import WorkerTasks

NAME = "unept-bench"
DONE, FAILED, REFUSED, INTERRUPTED = 0, 1, 2, 130  # exit codes
_UNUSABLE = (errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)

_NO_ROOM = {
    errno.EFBIG: "larger than a file of this process may be (ulimit -f)",
    errno.EMFILE: "more files are open than this process may have (ulimit -n)",
    errno.ENFILE: "more files are open than this machine may have",
    errno.EAGAIN: "no further process or thread may be started (ulimit -u)",
    errno.ENOMEM: "no memory is left for another process (ulimit -v)",
}


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


@contextlib.contextmanager
def visible_output() -> Iterator[VisibleStream]:
    """Show everything that is printed within the context by `visible_text`; yields the standard output.

    Standard streams that were closed before the program began are opened on nothing, so that no file takes their place.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest number that is free
        os.set_inheritable(opened, True)
    os.close(opened)
    output = VisibleStream(sys.stdout)
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(VisibleStream(sys.stderr)):
        yield output


def print_progress(line: str) -> None:
    """Print a line to standard error: progress, warnings and what went wrong."""
    print(visible_line(line), file=sys.stderr, flush=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print result lines to standard output."""
    print("\n".join(map(visible_line, lines)))


def refuse(message: str) -> int:
    """Print a user's mistake as one line and return its exit code."""
    print_progress(f"{NAME}: {message}")
    return REFUSED


def check_files(paths: Iterable[Path]) -> None:
    """Raise ValueError that names the first path where no file is."""
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path}: file does not exist")
        if special := special_file(path):
            raise ValueError(f"{path}: {special}, not a file")


def check_checkpoints(paths: Iterable[Path]) -> None:
    """Raise ValueError that names the first checkpoint that is not there, or is a folder."""
    for path in paths:
        check_files([path])
        if path.is_dir():
            raise ValueError(f"{path}: a folder, no checkpoint; expected a file")


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
    if error.errno in NO_LOCKS:
        return (
            f"{path}the file system of this folder has no file locks ({error.strerror}), which keep processes apart; "
            "name a folder on another one with --out"
        )
    if error.errno in _NO_ROOM:
        return f"{path}{_NO_ROOM[error.errno]}; finished runs are kept, and the same command continues"
    if error.errno in _UNUSABLE:
        return f"{path}{error.strerror}; name another folder with --out"
    return None
