"""Memory that a call takes, counted where it is allocated: cuda/allocations.cpp stands before the C library's malloc.

Torch's own counters see tensors only; this sees the scratch of compiled operators too.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from bench.microbench.operator.implementations import OperatorCall
from bench.microbench.operator.inputs import OperatorCase, make_inputs
from bench.microbench.rows import BenchmarkRow, RowContext
from unept.ops import cpu_build

COUNTER_SOURCE = "allocations.cpp"


def counter_library() -> Path:
    """The library to preload. `build.Unavailable`, with the reason, where there is none."""
    if platform.libc_ver()[0] != "glibc":
        raise cpu_build.Unavailable("memory is counted before glibc's malloc, and this is not glibc")
    return cpu_build.load(COUNTER_SOURCE).path


def preload_variables(path: Path) -> dict[str, str]:
    """The environment variables that put the library before the C library in a new process."""
    others = os.environ.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": f"{path}:{others}" if others else str(path)}


class MallocCounter:
    """The counts of this process. RuntimeError where the library was not preloaded."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(None)
            self._now, self._most = library.unept_allocated, library.unept_most_allocated
        except AttributeError:
            raise RuntimeError("the counting malloc is not preloaded") from None
        self._now.restype = self._most.restype = ctypes.c_int64
        before = self._now()
        block = torch.ones(1 << 20)
        assert self._now() - before >= block.nbytes, "the counting malloc does not count torch's tensors"

    def start(self) -> int:
        """Bytes allocated now; `peak_bytes` counts from here."""
        gc.collect()
        self._most()
        return self._now()

    def current_bytes(self) -> int:
        """Bytes allocated now."""
        return self._now()

    def peak_bytes(self) -> int:
        """The most bytes allocated at once since `start`."""
        return self._most()


def operator_memory_rows(place: RowContext, name: str, run: OperatorCall, case: OperatorCase) -> list[BenchmarkRow]:
    """What `count` finds of an operator on the inputs of a case."""
    *given, gradient = make_inputs(case, torch.float32)

    def call(tensors: list[Tensor]) -> Tensor:
        value, where, offsets, logits = tensors
        return run(value, where, offsets, logits, case.shapes)

    found = count_call_bytes(call, given, gradient, fixed=1)
    return [place.row(name, phase, "bytes", [float(number)]) for phase, number in found.items()]


def count_call_bytes(
    run: Callable[[list[Tensor]], Tensor], given: list[Tensor], gradient: Tensor | None = None, *, fixed: int = -1
) -> dict[str, int]:
    """Bytes beyond the inputs: at most in a forward pass without gradients, kept for the backward pass with the result,
    and at most in a forward and backward pass with its gradients, which go to all of `given` but the one at `fixed`.

    Without a `gradient` of the result it is 1 everywhere. RuntimeError where the library was not preloaded.
    """
    counted = MallocCounter()
    with torch.no_grad():
        out = run(given)  # what is set up once is not counted
        gradient = torch.ones_like(out) if gradient is None else gradient
        del out
        before = counted.start()
        out = run(given)
        found = {"forward": counted.peak_bytes() - before}
        del out
    leaves = [tensor.requires_grad_() for place, tensor in enumerate(given) if place != fixed]
    torch.autograd.grad(run(given), leaves, gradient)
    before = counted.start()
    out = run(given)
    found["held"] = counted.current_bytes() - before
    gradients = torch.autograd.grad(out, leaves, gradient)
    found["forward+backward"] = counted.peak_bytes() - before
    del out, gradients
    return found
