"""Memory of a call, counted where it is allocated: cuda/allocations.cpp stands before the C library's malloc.

Torch's own counters see tensors only; this sees the scratch memory of compiled operators too.
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

from bench.microbench.operator.cases import OperatorCase
from bench.microbench.operator.implementations import OperatorCall
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.rows import BenchmarkRow, RowContext
from unept.ops import cpu_build

COUNTER_SOURCE = "allocations.cpp"


def counter_library() -> Path:
    """Return the path of the library to preload; it is built if need be.

    Raises:
        cpu_build.Unavailable: There is none, with the reason.
    """
    if platform.libc_ver()[0] != "glibc":
        raise cpu_build.Unavailable("memory is counted before glibc's malloc, and this is not glibc")
    return cpu_build.load(COUNTER_SOURCE).path


def preload_variables(path: Path) -> dict[str, str]:
    """Return the environment variables that put the library before the C library in a new process."""
    others = os.environ.get("LD_PRELOAD", "")
    return {"LD_PRELOAD": f"{path}:{others}" if others else str(path)}


class MallocCounter:
    """Counts of this process, in bytes.

    Raises:
        RuntimeError: The library was not preloaded.
    """

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
        """Return the bytes allocated now; `peak_bytes` counts from here."""
        gc.collect()
        self._most()
        return self._now()

    def current_bytes(self) -> int:
        """Return the bytes allocated now."""
        return self._now()

    def peak_bytes(self) -> int:
        """Return the most bytes allocated at once since `start`."""
        return self._most()


def operator_memory_rows(context: RowContext, name: str, run: OperatorCall, case: OperatorCase) -> list[BenchmarkRow]:
    """Return the rows of `count_call_bytes` for an operator on the inputs of a case."""
    *inputs, gradient = make_inputs(case, torch.float32)

    def call(tensors: list[Tensor]) -> Tensor:
        value, reference, offsets, logits = tensors
        return run(value, reference, offsets, logits, case.shapes)

    counts = count_call_bytes(call, inputs, gradient, fixed=1)
    return [context.row(name, phase, "bytes", [float(number)]) for phase, number in counts.items()]


def count_call_bytes(
    run: Callable[[list[Tensor]], Tensor], inputs: list[Tensor], gradient: Tensor | None = None, *, fixed: int = -1
) -> dict[str, int]:
    """Count the bytes of a call beyond its inputs.

    Args:
        run: The call; takes the list of tensors and returns one.
        inputs: Its inputs; gradients go to all of them but the one at `fixed`.
        gradient: Gradient of the result; None for 1 everywhere.
        fixed: Index of the input without a gradient; -1 for none.

    Returns:
        Bytes: `forward`, at most in a forward pass without gradients; `held`, kept for the backward pass, the result
        included; `forward+backward`, at most in both passes, the gradients included.

    Raises:
        RuntimeError: The library was not preloaded.
    """
    counter = MallocCounter()
    with torch.no_grad():
        out = run(inputs)  # what is set up once is not counted
        gradient = torch.ones_like(out) if gradient is None else gradient
        del out
        before = counter.start()
        out = run(inputs)
        figures = {"forward": counter.peak_bytes() - before}
        del out
    leaves = [tensor.requires_grad_() for index, tensor in enumerate(inputs) if index != fixed]
    torch.autograd.grad(run(inputs), leaves, gradient)
    before = counter.start()
    out = run(inputs)
    figures["held"] = counter.current_bytes() - before
    gradients = torch.autograd.grad(out, leaves, gradient)
    figures["forward+backward"] = counter.peak_bytes() - before
    del out, gradients
    return figures
