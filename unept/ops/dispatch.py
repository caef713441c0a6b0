"""Which implementation of an operator runs, and why.

The backend is an argument; "auto" is what ``$UNEPT_BACKEND`` says at the time of the call, and without that the fastest
that can run here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import torch
from torch import Tensor

from unept.config import BACKENDS
from unept.ops import cpu_build, cpu_ops, cuda_ops, mmcv_compiled, reference
from unept.ops.reference import Shapes
from unept.ops.validation import axes_of, computed_in


class Backend(NamedTuple):
    """The implementation that runs, and the reason in one line."""

    name: str
    reason: str


def resolve(backend: str = "auto", *, device: str = "cpu") -> Backend:
    """The implementation that ``backend`` stands for here, for tensors of floating-point numbers on a ``device``.

    A card that cannot have the CUDA kernels gets mmcv's compiled operator where that is there and works, else the
    reference.
    ValueError, in one line, for an unknown name and for one that is asked for and cannot run. The first call that can
    take a compiled kernel builds it where that has not been done.
    """
    asked = "asked for"
    if backend == "auto" and (chosen := os.environ.get("UNEPT_BACKEND", "auto")) != "auto":
        backend, asked = chosen, "asked for by UNEPT_BACKEND"
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are {', '.join(BACKENDS)}")
    if backend == "reference":
        return Backend("reference", f"plain PyTorch, {asked}")
    name = backend if backend != "auto" else "cuda" if torch.device(device).type == "cuda" else "native"
    reason = _problem(name, device)
    if not reason:
        return Backend(name, f"{_describe(name)}{', ' + asked if backend == name else ''}")
    if backend == name:
        raise ValueError(f"the {name} kernel cannot run: {reason}")
    if name == "cuda" and not mmcv_compiled.problem(torch.device(device)):
        return Backend("mmcv", f"{_describe('mmcv')}; no {name} kernel: {reason}")
    return Backend("reference", f"plain PyTorch; no {name} kernel: {reason}")


def _describe(name: str) -> str:
    """A compiled implementation in a few words."""
    if name == "native":
        return cpu_ops.describe()
    return "built by nvcc, checked on this card" if name == "cuda" else "mmcv's compiled operator, checked on this card"


def _problem(name: str, device: str) -> str:
    """Why the kernel cannot run on the device; "" where it can."""
    if name in ("cuda", "mmcv"):
        wanted = torch.device(device)
        if wanted.type != "cuda":
            return f"it works on a CUDA card, not on {device!r}"
        return cuda_ops.problem(wanted) if name == "cuda" else mmcv_compiled.problem(wanted)
    return f"it works on the CPU, not on {device!r}" if torch.device(device).type != "cpu" else cpu_build.problem()


@torch.compiler.assume_constant_result
def _name(backend: str, device: str) -> str:
    return resolve(backend, device=device).name


def _suits(value_BSHD: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor) -> bool:
    """Whether a compiled kernel computes in the types that the reference would compute these in."""
    wide = computed_in(value_BSHD.dtype)
    types = {computed_in(tensor.dtype) for tensor in (offsets_BQHLP2, logits_BQHLP)}
    return types <= {wide}


def msda(
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    shapes: Shapes,
    *,
    backend: str = "auto",
) -> Tensor:
    """Multi-scale deformable attention, (B, Q, H * D); see `unept.ops.reference.msda` for the arguments.

    ValueError for tensors that do not fit each other, and for a ``backend`` that cannot run or does not take them.
    "auto", whatever chose for it, gives tensors of mixed precision to the reference. On the meta device, where nothing
    is computed and operations are counted, it is always the one operator, whatever the backend.
    """
    axes_of(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, [side for shape in shapes for side in shape])
    if value_BSHD.device.type == "meta":
        return cpu_ops.msda(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    name = _name(backend, str(value_BSHD.device))
    forced = backend == name
    if name != "reference" and (forced or _suits(value_BSHD, offsets_BQHLP2, logits_BQHLP)):
        run = mmcv_compiled.msda if name == "mmcv" else cpu_ops.msda
        return run(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    return reference.msda(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
