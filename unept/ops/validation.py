"""Checks of the arguments that every implementation of multi-scale deformable attention takes.

Shape legend: see `unept.ops.reference`. ``shapes`` is flat here: height and width of each level in turn.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

VALUE_TYPES = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}


class Axes(NamedTuple):
    """Lengths of all axes, in the order of ``UneptSizes``."""

    batch: int
    tokens: int
    heads: int
    channels: int
    levels: int
    points: int
    queries: int


class Sizes(ctypes.Structure):
    """``UneptSizes`` of cuda/interface.h."""

    _fields_ = tuple((name, ctypes.c_int64) for name in Axes._fields)


def computed_in(value_type: torch.dtype) -> torch.dtype:
    """Return the type that values of ``value_type`` are computed in.

    Double for double values, else single precision.
    """
    return torch.promote_types(value_type, torch.float32)


def axes_of(
    value_BSHD: Tensor, reference_Q2: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor, shapes: Sequence[int]
) -> Axes:
    """Return the lengths of all axes.

    Args:
        value_BSHD: Values, of a type in VALUE_TYPES.
        reference_Q2: Reference points.
        offsets_BQHLP2: Offsets.
        logits_BQHLP: Attention logits.
        shapes: Height and width of each level in turn.

    Raises:
        ValueError: In one line, unless the four tensors fit each other and the levels.
    """
    if value_BSHD.dim() != 4 or logits_BQHLP.dim() != 5:
        raise ValueError(f"value must have 4 axes and logits 5, not {value_BSHD.dim()} and {logits_BQHLP.dim()}")
    if value_BSHD.dtype not in VALUE_TYPES:
        raise ValueError(f"value must be float32, float64, bfloat16 or float16, not {value_BSHD.dtype}")
    (B, S, H, D), (_, Q, _, L, P) = value_BSHD.shape, logits_BQHLP.shape
    if min(H, D, L, P) < 1:
        raise ValueError(f"there must be heads, channels, levels and points, not {H}, {D}, {L} and {P}")
    if len(shapes) != 2 * L or min(shapes) < 0:
        raise ValueError(f"shapes must be a height and a width for each of {L} levels, not {tuple(shapes)}")
    tokens = sum(height * width for height, width in zip(shapes[::2], shapes[1::2], strict=True))
    if tokens != S:
        raise ValueError(f"{S} tokens do not fill the levels, which have {tokens}")
    axes = Axes(B, S, H, D, L, P, Q)
    for name, tensor, shape in (
        ("value", value_BSHD, (B, S, H, D)),
        ("reference", reference_Q2, (Q, 2)),
        ("offsets", offsets_BQHLP2, (B, Q, H, L, P, 2)),
        ("logits", logits_BQHLP, (B, Q, H, L, P)),
    ):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} must be of floating-point numbers, not {tensor.dtype}")
        check_tensor(name, tensor, shape, device=value_BSHD.device)
    return axes


def sizes_of(
    device: torch.device,
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    shapes: Sequence[int],
) -> Sizes:
    """Return the lengths of all axes for a kernel.

    Args:
        device: Device that all tensors must be on.
        value_BSHD: Values, of a type in VALUE_TYPES.
        reference_Q2: Reference points, in the type of the computation like all that follow.
        offsets_BQHLP2: Offsets.
        logits_BQHLP: Attention logits.
        shapes: Height and width of each level in turn.

    Raises:
        ValueError: As in `axes_of`, and for another device or type.
    """
    check_tensor("value", value_BSHD, tuple(value_BSHD.shape), device=device)
    axes = axes_of(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
    wide = computed_in(value_BSHD.dtype)
    for name, tensor in (("reference", reference_Q2), ("offsets", offsets_BQHLP2), ("logits", logits_BQHLP)):
        check_tensor(name, tensor, tuple(tensor.shape), device=device, dtype=wide)
    return Sizes(*axes)


def check_tensor(
    name: str, tensor: Tensor, shape: tuple[int, ...], *, device: torch.device, dtype: torch.dtype | None = None
) -> None:
    """Check the device, shape and type of a tensor.

    Args:
        name: Name of the tensor in messages.
        tensor: The tensor.
        shape: Expected shape.
        device: Expected device.
        dtype: Expected type; None for any.

    Raises:
        ValueError: In one line, for the first that differs.
    """
    if tensor.device != device:
        raise ValueError(f"{name} must be on {device}, not on {tensor.device}")
    if dtype not in (None, tensor.dtype):
        raise ValueError(f"{name} must be {dtype} beside these values, not {tensor.dtype}")
    if tensor.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, not {tensor.layout}")
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{name} must be {shape}, not {tuple(tensor.shape)}")
