"""Compiled kernels of multi-scale deformable attention as ``torch.library`` operators.

They run on CPUs here and on CUDA devices by `unept.ops.cuda_ops`. ``unept::msda`` returns the sampled sum in the type
of the computation (double for double values, else single precision) and, for the backward pass, each query's largest
logit and 1 / the sum of the exponentials. ``unept::msda_backward`` is its derivative; the second derivative goes
through the reference. Importing this module compiles nothing.

Shape legend: see `unept.ops.reference`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from unept.ops import cpu_build, cuda_ops, reference
from unept.ops.reference import Shapes
from unept.ops.validation import VALUE_TYPES, Sizes, check_tensor, computed_in, sizes_of

CPU = torch.device("cpu")
ERRORS = {1: "a type it does not know", 2: "no memory left", 3: "sizes too large for it"}


@cache
def _library() -> ctypes.CDLL:
    """Return the library that the operators call. `cpu_build.Unavailable` if there is none."""
    return declared(cpu_build.load().library)


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the argument types of a library's functions to ctypes, and return the library."""
    pointer, number = ctypes.c_void_p, ctypes.c_int
    start: list[Any] = [ctypes.POINTER(Sizes), ctypes.POINTER(ctypes.c_int64), number, number]
    library.unept_msda_forward.argtypes = [*start, *[pointer] * 6]
    library.unept_msda_backward.argtypes = [*start, *[pointer] * 10]
    return library


@cache
def describe() -> str:
    """Return the library in a few words. `cpu_build.Unavailable` if there is none."""
    built = cpu_build.load()
    lanes = built.library.unept_vector_bytes() // 4
    threads = "threads" if built.library.unept_threaded() else "one thread"
    return f"{built.origin}, {lanes} lanes, {threads}"


def _run(function: Any, sizes: Sizes, shapes: Sequence[int], value_type: torch.dtype, tensors: list[Tensor]) -> None:
    assert all(tensor.is_contiguous() for tensor in tensors)
    sides = (ctypes.c_int64 * len(shapes))(*shapes)
    pointers = [tensor.data_ptr() for tensor in tensors]
    code = function(ctypes.byref(sizes), sides, VALUE_TYPES[value_type], torch.get_num_threads(), *pointers)
    if code == 2:
        raise MemoryError("the native attention kernel found no memory for its tables")
    if code:
        raise RuntimeError(f"the native attention kernel ended with {ERRORS.get(code, code)}")


def forward(
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    shapes: Sequence[int],
    *,
    library: ctypes.CDLL | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute ``unept::msda`` on the CPU.

    Args:
        value_BSHD: Values; see `unept.ops.reference.msda`.
        reference_Q2: Reference points, in the type of the computation like all that follow.
        offsets_BQHLP2: Offsets in pixels.
        logits_BQHLP: Attention logits.
        shapes: Height and width of each level in turn.
        library: A library that is `declared`; default: the usual one.

    Returns:
        The sampled sum (B, Q, H * D), and (B, H, Q, 2): largest logit and 1 / sum of exponentials.
    """
    sizes = sizes_of(CPU, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    out, softmax = _empty(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    inputs = [tensor.contiguous() for tensor in (value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP)]
    _run((library or _library()).unept_msda_forward, sizes, shapes, value_BSHD.dtype, [*inputs, out, softmax])
    return out, softmax


def _empty(
    value_BSHD: Tensor, _reference: Tensor, _offsets: Tensor, logits_BQHLP: Tensor, _shapes: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return uninitialised results of the forward operator: (B, Q, H * D) and (B, H, Q, 2)."""
    (B, _, H, D), Q = value_BSHD.shape, logits_BQHLP.shape[1]
    wide = computed_in(value_BSHD.dtype)
    return value_BSHD.new_empty((B, Q, H * D), dtype=wide), value_BSHD.new_empty((B, H, Q, 2), dtype=wide)


def backward(
    grad_BQC: Tensor,
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    out_BQC: Tensor,
    softmax_BHQ2: Tensor,
    shapes: Sequence[int],
    *,
    library: ctypes.CDLL | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute ``unept::msda_backward`` on the CPU.

    Args:
        grad_BQC: Gradient of the sampled sum.
        value_BSHD: Values.
        reference_Q2: Reference points.
        offsets_BQHLP2: Offsets in pixels.
        logits_BQHLP: Attention logits.
        out_BQC: Sampled sum of the forward pass.
        softmax_BHQ2: Second result of the forward pass.
        shapes: Height and width of each level in turn.
        library: A library that is `declared`; default: the usual one.

    Returns:
        Gradients of values, offsets and logits.
    """
    sizes = sizes_of(CPU, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    wide, sum_shape = computed_in(value_BSHD.dtype), (sizes.batch, sizes.queries, sizes.heads * sizes.channels)
    check_tensor("the result's gradient", grad_BQC, sum_shape, device=CPU, dtype=wide)
    check_tensor("the result", out_BQC, sum_shape, device=CPU, dtype=wide)
    check_tensor("the softmax", softmax_BHQ2, (sizes.batch, sizes.heads, sizes.queries, 2), device=CPU, dtype=wide)
    inputs = (grad_BQC, value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, out_BQC, softmax_BHQ2)
    gradients = _empty_gradients(*inputs, shapes)
    tensors = [*(tensor.contiguous() for tensor in inputs), *gradients]
    _run((library or _library()).unept_msda_backward, sizes, shapes, value_BSHD.dtype, tensors)
    return gradients


def _empty_gradients(
    _gradient: Tensor,
    value_BSHD: Tensor,
    _reference: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    _out: Tensor,
    _softmax: Tensor,
    _shapes: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return uninitialised results of the backward operator, like the value, the offsets and the logits."""
    return tuple(like.new_empty(like.shape) for like in (value_BSHD, offsets_BQHLP2, logits_BQHLP))  # type: ignore[return-value]


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.shapes = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_BQC: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad_BQC is None:
        return None, None, None, None, None
    value, reference_Q2, offsets, logits, out, softmax = ctx.saved_tensors
    by_value, by_offsets, by_logits = torch.ops.unept.msda_backward(
        grad_BQC, value, reference_Q2, offsets, logits, out, softmax, ctx.shapes
    )
    by_reference = None
    if ctx.needs_input_grad[1]:  # a step of the reference point is one of every offset, in pixels of its level
        sizes_L2 = by_offsets.new_tensor([*zip(ctx.shapes[1::2], ctx.shapes[::2], strict=True)])
        by_reference = (by_offsets.sum((0, 2, 4)) * sizes_L2).sum(1)
    return by_value, by_reference, by_offsets, by_logits, None


def _save_twice(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    del output
    grad, value, reference_Q2, offsets, logits, _, _, ctx.shapes = inputs
    ctx.save_for_backward(grad, value, reference_Q2, offsets, logits)


def _differentiate_twice(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiate the backward pass through the reference.

    The result and the softmax are functions of the other inputs.
    """
    shapes = tuple(zip(ctx.shapes[::2], ctx.shapes[1::2], strict=True))
    with torch.enable_grad():
        grad, value, reference_Q2, offsets, logits = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        out = reference.msda(value, reference_Q2, offsets, logits, shapes, total=reference.sum_by_matrix)
        firsts = torch.autograd.grad(out.to(grad.dtype), (value, offsets, logits), grad, create_graph=True)
        seconds = torch.autograd.grad(
            firsts, (grad, value, reference_Q2, offsets, logits), grads, allow_unused=True, materialize_grads=True
        )
    return (*seconds, None, None, None)


def _register() -> torch.library.Library:
    """Register the operators, once a process however often this module is loaded; the caller keeps the result alive."""
    library = torch.library.Library("unept", "FRAGMENT")
    if hasattr(torch.ops.unept, "msda"):
        return library
    inputs = "Tensor value, Tensor reference, Tensor offsets, Tensor logits"
    tags = (torch.Tag.pt2_compliant_tag,)
    library.define(f"msda({inputs}, SymInt[] shapes) -> (Tensor, Tensor)", tags=tags)
    saved = "Tensor result, Tensor softmax, SymInt[] shapes"
    library.define(f"msda_backward(Tensor gradient, {inputs}, {saved}) -> (Tensor, Tensor, Tensor)", tags=tags)
    library.impl("msda", forward, "CPU")
    library.impl("msda_backward", backward, "CPU")
    library.impl("msda", cuda_ops.forward, "CUDA")
    library.impl("msda_backward", cuda_ops.backward, "CUDA")
    torch.library.register_fake("unept::msda", _empty, lib=library)
    torch.library.register_fake("unept::msda_backward", _empty_gradients, lib=library)
    torch.library.register_autograd("unept::msda", _differentiate, setup_context=_save, lib=library)
    torch.library.register_autograd(
        "unept::msda_backward", _differentiate_twice, setup_context=_save_twice, lib=library
    )
    for device in ("cpu", "cuda"):
        torch.library.register_autocast("unept::msda", device, torch.float32, lib=library)
        torch.library.register_autocast("unept::msda_backward", device, torch.float32, lib=library)
    return library


_kept = _register()


def msda(
    value_BSHD: Tensor, reference_Q2: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor, shapes: Shapes
) -> Tensor:
    """Compute multi-scale deformable attention by the compiled kernel of the value's device.

    See `unept.ops.reference.msda` for arguments and result. ValueError for arguments that the kernel does not take;
    `cpu_build.Unavailable` if there is none.
    """
    wide = computed_in(value_BSHD.dtype)
    if wide == torch.float32 and torch.float64 in (offsets_BQHLP2.dtype, logits_BQHLP.dtype):
        raise ValueError(f"the compiled kernels do not mix {value_BSHD.dtype} values with double offsets or logits")
    flat = [side for shape in shapes for side in shape]
    points_Q2, offsets, logits = (tensor.to(wide) for tensor in (reference_Q2, offsets_BQHLP2, logits_BQHLP))
    out, _ = torch.ops.unept.msda(value_BSHD, points_Q2, offsets, logits, flat)
    return out.to(value_BSHD.dtype)
