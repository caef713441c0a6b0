"""The CUDA kernels, as they are, compiled by g++ against emulator/, behind the product's own Python object."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from locations import ROOT

from unept.ops import cuda_build
from unept.ops.cuda_library import Kernel
from unept.ops.validation import Sizes

EMULATOR = Path(__file__).parent / "emulator"
FLAGS = ("-std=c++17", "-O1", "-fPIC", "-U_FORTIFY_SOURCE", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas")
POISON = 0xFF  # every byte of it makes NaN
SIZE_OF_TYPE = {0: (4, 4), 1: (8, 8), 2: (2, 4), 3: (2, 4)}  # bytes of a value and of everything else

needs_compiler = pytest.mark.skipif(not shutil.which("g++"), reason="no g++, so the CUDA kernels cannot be emulated")
_folder = tempfile.TemporaryDirectory(prefix="unept-emulated-")


def compile_object(source: Path, target: Path, *flags: str) -> None:
    command = ["g++", *FLAGS, f"-I{EMULATOR}", *flags, "-x", "c++", "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@cache
def emulator_object() -> Path:
    path = Path(_folder.name) / "emulator.o"
    compile_object(EMULATOR / "emulator.cpp", path)
    return path


def build(source: Path, target: Path, *flags: str) -> ctypes.CDLL:
    """A source of kernels and the emulator as one library. The sanitizer reports to the emulator, not to libtsan."""
    kernels = target.with_suffix(".o")
    compile_object(source, kernels, "-fsanitize=thread", *flags)
    subprocess.run(["g++", "-shared", "-o", str(target), str(kernels), str(emulator_object())], check=True)
    library = ctypes.CDLL(str(target))
    library.emulated_watch.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    library.emulated_additions.restype = ctypes.c_longlong
    library.emulated_queued_on.argtypes = [ctypes.c_void_p]
    return library


class Watched:
    """A library that tells the emulator which arrays a call may use, and poisons those that it shall fill."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def _watch(self, arrays: Mapping[str, tuple[int, int]], outputs: Sequence[str]) -> None:
        seen = set()
        for name, (pointer, count) in arrays.items():
            if not count or pointer in seen:
                continue
            seen.add(pointer)
            if name in outputs:
                ctypes.memset(pointer, POISON, count)
            self._library.emulated_watch(pointer, count, name.encode())

    def _call(self, name: str, names: Sequence[str], outputs: Sequence[str], arguments: tuple[Any, ...]) -> int:
        sizes, kind, pointers = arguments[0]._obj, arguments[2], arguments[5:]
        bytes_of = _bytes_of(sizes, *SIZE_OF_TYPE[kind])
        arrays = {name: (pointer, bytes_of[name]) for name, pointer in zip(names, pointers, strict=True)}
        self._watch(arrays, outputs)
        try:
            return int(getattr(self._library, name)(*arguments))
        finally:
            self._library.emulated_forget()

    def unept_msda_cuda_forward(self, *arguments: Any) -> int:
        names = ("value", "reference", "offsets", "logits", "result", "softmax")
        return self._call("unept_msda_cuda_forward", names, names[-2:], arguments)

    def unept_msda_cuda_backward(self, *arguments: Any) -> int:
        names = ("result gradient", "value", "reference", "offsets", "logits", "result", "softmax")
        outputs = ("value gradient", "value sum", "offset gradient", "logit gradient")
        return self._call("unept_msda_cuda_backward", names + outputs, outputs, arguments)


def _bytes_of(s: Sizes, value: int, other: int) -> dict[str, int]:
    values, results = s.batch * s.tokens * s.heads * s.channels, s.batch * s.queries * s.heads * s.channels
    points = s.batch * s.queries * s.heads * s.levels * s.points
    of_type = {"value": values, "value gradient": values}
    of_other = {"reference": 2 * s.queries, "offsets": 2 * points, "logits": points, "result": results}
    of_other |= {"softmax": 2 * s.batch * s.heads * s.queries, "result gradient": results, "value sum": values}
    of_other |= {"offset gradient": 2 * points, "logit gradient": points}
    return {**{k: value * n for k, n in of_type.items()}, **{k: other * n for k, n in of_other.items()}}


@cache
def library(*flags: str, folder: Path = ROOT / "cuda") -> ctypes.CDLL:
    name = f"lib{abs(hash((flags, folder)))}.so"
    digest = cuda_build.source_hash(folder)
    return build(folder / cuda_build.MAIN, Path(_folder.name) / name, f'-DUNEPT_SOURCES="{digest}"', *flags)


def kernel(*flags: str, folder: Path = ROOT / "cuda") -> Kernel:
    """The kernels on the CPU, every access of theirs watched; ``flags`` go to the compiler."""
    made = Kernel(library(*flags, folder=folder), torch.device("cpu"))
    made.library = Watched(made.library)  # type: ignore[assignment]
    return made


def mutated(edits: Mapping[str, tuple[str, str]], folder: Path) -> Path:
    """A copy of the kernels' sources with a text replaced in each of some files; it must be there exactly once."""
    copy = folder / "cuda"
    shutil.copytree(ROOT / "cuda", copy)
    for name, (before, after) in edits.items():
        text = (copy / name).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{before!r} is {text.count(before)} times in {name}"
        (copy / name).write_text(text.replace(before, after), encoding="utf-8")
    return copy
