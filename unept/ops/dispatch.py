"""Selects the implementation of the operator.

The backend is an argument; "auto" is the value of ``$UNEPT_BACKEND`` at the time of the call, and without that the
fastest implementation that can run here.
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
    """Name of the implementation that runs, and the reason in one line."""

    name: str
    reason: str


def resolve(backend: str = "auto", *, device: str = "cpu") -> Backend:
    """Return the implementation that ``backend`` stands for here.

    "auto" on a CUDA device without our kernels is mmcv's compiled operator if it works there, else the reference. The
    first call that can use a compiled kernel builds it.

    Args:
        backend: A name of BACKENDS.
        device: Device of the tensors, as text.

    Raises:
        ValueError: In one line, for an unknown name and for a backend that was requested and cannot run.
    """
    request = "asked for"
    if backend == "auto" and (chosen := os.environ.get("UNEPT_BACKEND", "auto")) != "auto":
        backend, request = chosen, "asked for by UNEPT_BACKEND"
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are {', '.join(BACKENDS)}")
    if backend == "reference":
        return Backend("reference", f"plain PyTorch, {request}")
    name = backend if backend != "auto" else "cuda" if torch.device(device).type == "cuda" else "native"
    reason = _problem(name, device)
    if not reason:
        return Backend(name, f"{_describe(name)}{', ' + request if backend == name else ''}")
    if backend == name:
        raise ValueError(f"the {name} kernel cannot run: {reason}")
    if name == "cuda" and not mmcv_compiled.problem(torch.device(device)):
        return Backend("mmcv", f"{_describe('mmcv')}; no {name} kernel: {reason}")
    return Backend("reference", f"plain PyTorch; no {name} kernel: {reason}")


def _describe(name: str) -> str:
    """Return a compiled implementation in a few words."""
    if name == "native":
        return cpu_ops.describe()
    return "built by nvcc, checked on this card" if name == "cuda" else "mmcv's compiled operator, checked on this card"


def _problem(name: str, device: str) -> str:
    """Return the reason why the kernel cannot run on the device; "" if it can."""
    if name in ("cuda", "mmcv"):
        wanted = torch.device(device)
        if wanted.type != "cuda":
            return f"it works on a CUDA card, not on {device!r}"
        return cuda_ops.problem(wanted) if name == "cuda" else mmcv_compiled.problem(wanted)
    return f"it works on the CPU, not on {device!r}" if torch.device(device).type != "cpu" else cpu_build.problem()


def _name(backend: str, device: str) -> str:
    return resolve(backend, device=device).name


# torch.compiler.assume_constant_result does this too, and imports torch._dynamo, which takes a second.
_name._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _suits(value_BSHD: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor) -> bool:
    """Return True if a compiled kernel computes in the types that the reference would use."""
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
    """Compute multi-scale deformable attention by the selected implementation.

    "auto" passes tensors of mixed precision to the reference. On the meta device, where operations are counted and
    nothing is computed, the result is always that of the one operator.

    Args:
        value_BSHD: Values; see `unept.ops.reference.msda` for all tensors.
        reference_Q2: Reference points.
        offsets_BQHLP2: Offsets in pixels.
        logits_BQHLP: Attention logits.
        shapes: (height, width) of each level.
        backend: A name of BACKENDS.

    Returns:
        (B, Q, H * D).

    Raises:
        ValueError: For tensors that do not fit each other, and for a backend that cannot run or does not take them.
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
