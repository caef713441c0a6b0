"""mmcv's compiled CUDA operator, from a user's mmcv, for a device that cannot have our kernels.

mmcv is imported by the first call, never before. Its operator takes locations and weights, which are computed here; it
computes in single precision at least, as ours does, and is compared with the reference once before it is used.

Shape legend: see `unept.ops.reference`.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from unept.ops import cuda_selftest, reference
from unept.ops.reference import Shapes
from unept.ops.validation import computed_in
from unept.utils.messages import first_error_line

Apply = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
CLOSE = 1e-4  # allowed difference from the reference, relative to the largest number


@cache
def _load_operator() -> Apply | str:
    """Return mmcv's autograd function, or the reason why there is none."""
    try:
        if importlib.util.find_spec("mmcv") is None:
            return "mmcv is not installed"
        if importlib.util.find_spec("mmcv._ext") is None:
            return "this mmcv has no compiled operators"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings of the packages that mmcv.ops imports
            module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
        apply: Apply = module.MultiScaleDeformableAttnFunction.apply
    except (ImportError, OSError, AttributeError) as error:  # built for another torch
        return f"mmcv's compiled operators do not load: {first_error_line(str(error))}"
    return apply


@cache
def problem(device: torch.device) -> str:
    """Return the reason in one line why the operator cannot run on a device; "" if it can.

    The first call tests it there.
    """
    if device.type != "cuda" or not torch.cuda.is_available():
        return f"{device} is no CUDA card that this torch can use"
    operator = _load_operator()
    return operator if isinstance(operator, str) else _verdict(device)


def _verdict(device: torch.device) -> str:
    """Return the operator's first error on a device in one line; "" if there is none."""
    inputs = cuda_selftest.make_inputs(((6, 9), (3, 5)), 7, 3, 32, 4)
    try:
        ours, exact = _outcome(inputs, device), cuda_selftest.expected(inputs, torch.float64)
    except RuntimeError as error:  # not built for this card
        return f"mmcv's compiled operator fails on this card: {first_error_line(str(error))}"
    for one, right in zip(ours, exact, strict=True):
        if not (one.double() - right).abs().max() <= CLOSE * right.abs().max():
            return "mmcv's compiled operator does not give what the reference gives"
    return ""


def _outcome(inputs: cuda_selftest.Inputs, device: torch.device) -> tuple[Tensor, ...]:
    """Return its result and its gradients by value, offsets and logits, on the CPU."""
    value, reference_Q2, offsets, logits, gradient = (tensor.to(device) for tensor in inputs[:5])
    leaves = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    out = msda(value, reference_Q2, offsets, logits, inputs.shapes)
    return tuple(tensor.detach().cpu() for tensor in (out, *torch.autograd.grad(out, leaves, gradient)))


def msda(
    value_BSHD: Tensor, reference_Q2: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor, shapes: Shapes
) -> Tensor:
    """Compute multi-scale deformable attention by mmcv's operator; see `unept.ops.reference.msda` for the arguments.

    Returns:
        (B, Q, H * D).

    Raises:
        ValueError: If mmcv's operator is not available.
    """
    if isinstance(operator := _load_operator(), str):
        raise ValueError(operator)
    wide = computed_in(value_BSHD.dtype)
    sizes_L2 = torch.tensor(shapes, device=value_BSHD.device)  # height, width
    tokens_L = sizes_L2.prod(1)
    locations, weights = reference.materialised(
        reference_Q2.to(wide), offsets_BQHLP2.to(wide), logits_BQHLP.to(wide), shapes
    )
    with torch.autocast(value_BSHD.device.type, enabled=False):
        arguments = (value_BSHD.to(wide), sizes_L2, tokens_L.cumsum(0) - tokens_L, locations, weights)
        return operator(*arguments, max(value_BSHD.shape[0], 1)).to(value_BSHD.dtype)  # all images at once
