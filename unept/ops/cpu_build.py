"""Finds or builds the library of the CPU kernel and the tools that measure it: packaged, cached, or compiled here.

Libraries are cached in `unept.utils.cache_folder`. A library's name holds a hash of its sources, of the flags, and of
everything the compiler predefines for this machine, which identifies the compiler, its version and the instruction set.
Any number of processes may build at once: one does, under a file lock, to a temporary name; a finished library is
renamed into its place.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from unept.utils.cache_folder import cache_folder
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.messages import first_error_line

MAIN = "msda_cpu.cpp"
NATIVE = "native"  # the instruction set of this machine
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-fno-strict-aliasing", "-fvisibility=hidden")
# Options that a compiler may refuse; the best set first.
OPTIONS = (("-march=native", "-fopenmp"), ("-march=native",), ("-fopenmp",), ())
COMPILERS = ("g++", "clang++", "c++")
PATIENCE = 600  # seconds, for one compilation


class Unavailable(RuntimeError):
    """Raised where there is no library; the message is the reason in one line."""


class Built(NamedTuple):
    """A loaded library, its origin in a few words, and its file."""

    library: ctypes.CDLL
    origin: str
    path: Path


def sources() -> Path:
    """Return the folder of the kernels' sources: beside the package in a checkout, inside it once installed."""
    inside, beside = Path(__file__).parent / "kernels", Path(__file__).parents[2] / "cuda"
    return beside if (beside / MAIN).is_file() else inside


def source_hash(folder: Path | None = None, main: str = MAIN) -> str:
    """Return 16 hexadecimal digits over the names and contents of ``main`` and the headers.

    Unavailable if they are missing.
    """
    folder = folder or sources()
    if not (folder / main).is_file():
        raise Unavailable(f"the kernel's sources are not in {folder}")
    files = sorted([folder / main, *folder.glob("*.h")])
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def library_folder() -> Path:
    """Return the folder that libraries are cached in. Unavailable where no home folder is known."""
    try:
        return cache_folder()
    except RuntimeError:  # a user without an entry and without $HOME, as in some containers
        raise Unavailable("no home folder is known here: set UNEPT_CACHE to a folder for built libraries") from None


def load(main: str = MAIN, march: str = NATIVE) -> Built:
    """Load the library of a source file.

    Args:
        main: Name of the source file.
        march: Instruction set, as for the compiler's ``-march``; "native" is this machine's.

    Raises:
        Unavailable: If there is no library; the first time that the kernel itself is missing, one line is logged.
    """
    outcome = _outcome(main, march)
    if isinstance(outcome, str):
        raise Unavailable(outcome)
    return outcome


def problem() -> str:
    """Return the reason in one line why `load` fails; "" if it succeeds."""
    outcome = _outcome(MAIN, NATIVE)
    return outcome if isinstance(outcome, str) else ""


@cache
def _outcome(main: str, march: str) -> Built | str:
    """Return the library, or the reason why there is none; determined once a process."""
    try:
        return _load(main, march)
    except Unavailable as error:
        if (main, march) != (MAIN, NATIVE):
            return str(error)
        logging.getLogger(__name__).warning("no native attention kernel, so plain PyTorch runs: %s", error)
        return str(error)


def _load(main: str = MAIN, march: str = NATIVE) -> Built:
    digest = source_hash(main=main)
    packaged = sources() / "libunept_cpu.so"
    if (main, march) == (MAIN, NATIVE) and packaged.is_file() and (library := _opened(packaged, digest)):
        return Built(library, "packaged", packaged)
    reasons = []
    for compiler in _compilers():
        built = _from_cache(compiler, digest, main, march)
        if isinstance(built, Built):
            return built
        reasons.append(f"{compiler[0]}: {built}")
    raise Unavailable("; ".join(reasons) or f"no compiler, none of {', '.join(COMPILERS)} is there")


def _compilers() -> list[list[str]]:
    """Return the commands to try: $CXX alone if it is set."""
    if chosen := os.environ.get("CXX"):
        return [shlex.split(chosen)]
    return [[name] for name in COMPILERS if shutil.which(name)]


def _from_cache(compiler: list[str], digest: str, main: str, march: str) -> Built | str:
    """Return this compiler's library, cached or built now, or the reason why there is none."""
    try:
        return _cached(compiler, digest, main, march)
    except (Unavailable, OSError, LockBusy, subprocess.SubprocessError) as error:
        return first_error_line(str(error))


def _cached(compiler: list[str], digest: str, main: str, march: str) -> Built:
    facts, options = _facts(compiler, march)
    key = hashlib.sha256("\0".join([digest, *compiler, *FLAGS, facts]).encode()).hexdigest()[:16]
    folder = library_folder()
    path = folder / f"{Path(main).stem}-{key}.so"
    version = next((line.split('"')[1] for line in facts.splitlines() if line.startswith("#define __VERSION__")), "")
    origin = f"built by {compiler[0]} {version}".strip()
    if library := _opened(path, digest):
        return Built(library, origin, path)
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(path.with_suffix(".lock"), timeout=2 * PATIENCE):
        library = _opened(path, digest)  # another process may have built it meanwhile
        if library is None:
            compile_library(compiler, path, digest, options, main=main)
            library = _opened(path, digest)
    if library is None:
        raise Unavailable(f"{path} was built and does not load")
    return Built(library, origin, path)


def _facts(compiler: list[str], march: str = NATIVE) -> tuple[str, tuple[tuple[str, ...], ...]]:
    """Return the compiler's predefined macros for this machine or instruction set, and the options worth trying."""
    for native in (f"-march={march}", *[""] * (march == NATIVE)):
        command = [*compiler, *filter(None, [native]), "-dM", "-E", "-x", "c++", os.devnull]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode == 0:
            tried = (tuple(word.replace(NATIVE, march) for word in option) for option in OPTIONS)
            return done.stdout, tuple(option for option in tried if native in option or not native)
    raise Unavailable(first_error_line(done.stderr) or f"ended with {done.returncode}")


def compile_library(
    compiler: Sequence[str],
    path: Path,
    digest: str,
    options: Sequence[Sequence[str]] = OPTIONS,
    *,
    folder: Path | None = None,
    main: str = MAIN,
) -> None:
    """Compile ``main`` in ``folder`` to ``path``, which appears complete or not at all.

    Args:
        compiler: Command of the compiler.
        path: Library to write.
        digest: Hash of the sources, stored in the library.
        options: Sets of options, tried in turn.
        folder: Folder of the sources; default: `sources()`.
        main: Name of the source file.

    Raises:
        Unavailable: If the compiler refuses all options; with its last message.
        OSError: If the library cannot be written.
    """
    said = ""
    for stale in path.parent.glob(f".{path.stem}-*.tmp"):
        stale.unlink(missing_ok=True)  # left by a process that was killed; this one holds the lock
    for option in options:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
        os.close(handle)
        try:
            command = [*compiler, *FLAGS, *option, f'-DUNEPT_SOURCES="{digest}"', "-o", name]
            command.append(str((folder or sources()) / main))
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
            if done.returncode == 0:
                os.chmod(name, 0o755)
                os.replace(name, path)
                return
            said = done.stderr or f"ended with {done.returncode}"
        finally:
            Path(name).unlink(missing_ok=True)
    raise Unavailable(f"cannot compile: {first_error_line(said)}")


def _opened(path: Path, digest: str) -> ctypes.CDLL | None:
    """Load the library at ``path`` if it exists, is complete, and was built from these sources; else None."""
    try:
        library = ctypes.CDLL(str(path))
        library.unept_sources.restype = ctypes.c_char_p
        return library if library.unept_sources().decode() == digest else None
    except (OSError, AttributeError):
        return None
