"""Finds or builds the library of the CUDA kernels: cached, or compiled by the machine's nvcc for the device at hand.

The cache is ``$UNEPT_CACHE``, else ``$XDG_CACHE_HOME/unept-bench``, else ``~/.cache/unept-bench``. A library's name
holds a hash of its sources, of nvcc's version, of the flags and of the device's architecture. Any number of processes
may build at once: one does, under a file lock, to a temporary name; a finished library is renamed into its place.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from unept.ops.cpu_build import Unavailable, library_folder, sources
from unept.utils.file_locks import LockBusy, file_lock
from unept.utils.messages import first_error_line

MAIN = "msda_cuda.cu"
SHARED_HEADERS = ("point.h", "interface.h")
FLAGS = ("-std=c++17", "-O3", "-shared", "-Xcompiler", "-fPIC")
USUAL_PLACE = "/usr/local/cuda"
PATIENCE = 900  # seconds, for one compilation


def source_hash(folder: Path | None = None) -> str:
    """Return 16 hexadecimal digits over the names and contents of the CUDA sources. Unavailable if they are missing."""
    folder = folder or sources()
    files = sorted([*folder.glob("*.cu"), *folder.glob("*.cuh"), *(folder / name for name in SHARED_HEADERS)])
    if missing := [path.name for path in (folder / MAIN, *files) if not path.is_file()]:
        raise Unavailable(f"the CUDA kernel's sources are not in {folder}: no {', '.join(missing)}")
    total = hashlib.sha256()
    for path in files:
        total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()[:16]


def find_nvcc() -> str:
    """Return the path of nvcc.

    From ``$CUDA_HOME`` or ``$CUDA_PATH`` if set, else on the path, else in the usual folder.
    """
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if home := os.environ.get(variable):
            nvcc = Path(home) / "bin" / "nvcc"
            if os.access(nvcc, os.X_OK):
                return str(nvcc)
            raise Unavailable(f"{variable} is {home}, and there is no bin/nvcc in it")
    if path := shutil.which("nvcc") or shutil.which(f"{USUAL_PLACE}/bin/nvcc"):
        return path
    raise Unavailable("no nvcc: not on the path, not in /usr/local/cuda, and CUDA_HOME is not set")


def target(nvcc: str, capability: tuple[int, int]) -> str:
    """Return nvcc's target for a device of this compute capability.

    Native code, or else the newest PTX that it accepts.

    Unavailable if nvcc builds nothing that the device runs.
    """
    listed = sorted(int(number) for number in re.findall(r"compute_(\d+)\b", _said([nvcc, "--list-gpu-arch"])))
    number = 10 * capability[0] + capability[1]
    if number in listed:
        return f"arch=compute_{number},code=sm_{number}"
    older = [known for known in listed if known < number]
    if not older:
        lowest = f"{listed[0] // 10}.{listed[0] % 10} and newer" if listed else "nothing"
        raise Unavailable(f"{nvcc} builds for {lowest}, and this card is {capability[0]}.{capability[1]}")
    return f"arch=compute_{older[-1]},code=compute_{older[-1]}"


def library_for(capability: tuple[int, int]) -> Path:
    """Return the library for a device of this compute capability, built if necessary. Unavailable if there is none."""
    digest, nvcc = source_hash(), find_nvcc()
    flags = [*FLAGS, "-gencode", target(nvcc, capability), f'-DUNEPT_SOURCES="{digest}"']
    key = hashlib.sha256("\0".join([*flags, _said([nvcc, "--version"])]).encode()).hexdigest()[:16]
    path = library_folder() / f"msda-cuda-{key}.so"
    if path.is_file():
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with file_lock(path.with_suffix(".lock"), timeout=2 * PATIENCE):
            if not path.is_file():  # another process may have built it meanwhile
                compile_library([nvcc, *flags], path)
    except (OSError, LockBusy) as error:
        raise Unavailable(f"cannot build the CUDA kernel in {path.parent}: {first_error_line(str(error))}") from error
    return path


def compile_library(command: Sequence[str], path: Path) -> None:
    """Compile the sources to ``path``, which appears complete or not at all. Unavailable with nvcc's first error."""
    for stale in path.parent.glob(f".{path.stem}-*.tmp"):
        stale.unlink(missing_ok=True)  # left by a process that was killed; this one holds the lock
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=".tmp", dir=path.parent)
    os.close(handle)
    try:
        _said([*command, "-o", name, str(sources() / MAIN)])
        os.chmod(name, 0o755)
        os.replace(name, path)
    finally:
        Path(name).unlink(missing_ok=True)


def _said(command: Sequence[str]) -> str:
    """Return the standard output of a command. Unavailable if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Unavailable(f"cannot run {command[0]}: {first_error_line(str(error))}") from error
    if done.returncode:
        reason = first_error_line(done.stderr) or first_error_line(done.stdout) or f"it ended with {done.returncode}"
        raise Unavailable(f"{command[0]}: {reason}")
    return done.stdout
