"""The four terms of the training loss by the compiled CPU library: sums and gradients in one pass (`cuda/loss.h`).

It computes what `unept.losses.total_loss.terms` does, to rounding, in about a third of the time. A batch takes it where
the attention takes the native kernel too, in float32 on a CPU, and a picture's logits at the label's size fit a cache.
So the backend of a run, which its key and its row name, says which one made its numbers.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from unept.config import LossConfig
from unept.losses.banded_cross_entropy import STRIDE, WHOLE
from unept.ops import cpu_build, dispatch

AREAS = {"predicted": 0, "truth": 1, "both": 2}
WRONG_LABEL, NO_MEMORY = 4, 2  # codes that the library returns

_SUMS = ("plain", "refined", "boundary", "direction", "valid", "boundary_norm", "direction_norm", "wrong")


class Output(Protocol):
    """Result of a model in training: logits at 1/8 of the image's size."""

    @property
    def logits(self) -> Tensor: ...  # noqa: D102
    @property
    def boundary(self) -> Tensor | None: ...  # noqa: D102
    @property
    def direction(self) -> Tensor | None: ...  # noqa: D102


class LossCall(ctypes.Structure):
    """Argument of the library's function, `UneptLoss` of cuda/loss.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "classes", "edge_channels", "rows", "columns")),
        *((name, ctypes.c_int64) for name in ("height", "width", "stride", "edge_by_logit", "area")),
        *((name, ctypes.c_void_p) for name in ("logits", "boundary", "direction")),
        *((name, ctypes.c_void_p) for name in ("label", "boundary_target", "direction_target")),
        *((f"{name}_gradient", ctypes.c_void_p) for name in ("plain", "refined", "boundary", "direction")),
        ("sums", ctypes.c_void_p),
    )


def suits(output: Output, label_BHW: Tensor, config: LossConfig) -> bool:
    """Return True if the library computes this batch's loss here."""
    maps = [tensor for tensor in (output.logits, output.boundary, output.direction) if tensor is not None]
    return (
        config.bounded
        and all(type(tensor) is Tensor and tensor.dtype == torch.float32 for tensor in maps)
        and all(tensor.device.type == "cpu" for tensor in (*maps, label_BHW))
        and label_BHW.shape[1] * label_BHW.shape[2] * output.logits.shape[1] <= WHOLE
        and dispatch.resolve(device="cpu").name == "native"
    )


def terms(
    output: Output,
    targets_BHW: tuple[Tensor, Tensor, Tensor],
    config: LossConfig,
    edge_threshold: Literal["probability", "logit"],
    *,
    library: ctypes.CDLL | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the terms of segmentation, refined segmentation, boundary and direction.

    Args:
        output: Logits, float32.
        targets_BHW: Label, boundary and direction, int64, 255 = ignore.
        config: Supervision.
        edge_threshold: Which predicted pixels the refined term moves.
        library: A library that is `declared`; default: the usual one.

    Raises:
        IndexError: A target that is no class and not 255.
        MemoryError: The library has none.
    """
    boundary, direction = (
        (None, None) if output.boundary is None or output.direction is None else (output.boundary, output.direction)
    )
    made: tuple[Tensor, Tensor, Tensor, Tensor] = _Terms.apply(
        output.logits, boundary, direction, targets_BHW, config, edge_threshold, library or _library()
    )
    return made


@cache
def _library() -> ctypes.CDLL:
    """Return the library that the attention kernel is in too. `cpu_build.Unavailable` if there is none."""
    return declared(cpu_build.load().library)


def declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the argument types of the function to ctypes, and return the library."""
    library.unept_loss.argtypes = [ctypes.POINTER(LossCall), ctypes.c_int]
    return library


class _Terms(torch.autograd.Function):
    """The terms, whose gradients are made together with them and scaled in the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        boundary: Tensor | None,
        direction: Tensor | None,
        targets_BHW: tuple[Tensor, Tensor, Tensor],
        config: LossConfig,
        edge_threshold: str,
        library: ctypes.CDLL,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        maps = [None if tensor is None else tensor.contiguous() for tensor in (logits, boundary, direction)]
        sums, gradients = _call(library, maps, targets_BHW, config, edge_threshold)
        pixels = targets_BHW[0].numel() if config.ce_average == "all" else max(sums["valid"], 1.0)
        least = 1.0 if boundary is not None and boundary.shape[1] == 1 else 0.0  # a mean is over one pixel at least
        norms = (max(sums["boundary_norm"], least), sums["direction_norm"])
        divisors = (pixels, pixels, *(norm if norm > 0 else float("inf") for norm in norms))
        ctx.scales = tuple(1 / divisor for divisor in divisors)
        ctx.save_for_backward(*gradients)
        ctx.set_materialize_grads(False)
        finite = [True if tensor is None else bool(tensor.isfinite().all()) for tensor in maps]
        values = [
            sums[name] * scale if kept else float("nan")
            for name, scale, kept in zip(_SUMS[:4], ctx.scales, (finite[0], *finite), strict=True)
        ]
        if boundary is None:
            values[1:] = 0.0, 0.0, 0.0
        return tuple(logits.new_tensor(values).unbind())  # type: ignore[return-value]

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise NotImplementedError("the native loss is differentiable once: no create_graph=True through it")
        scaled = [
            None if above is None else gradient * (float(above) * scale)
            for above, gradient, scale in zip(upstream, ctx.saved_tensors, ctx.scales, strict=False)
        ]
        plain, refined, boundary, direction = (*scaled, None, None, None)[:4]
        by_logits = plain if refined is None else refined if plain is None else plain.add_(refined)
        return by_logits, boundary, direction, None, None, None, None


def _call(
    library: ctypes.CDLL,
    maps: list[Tensor | None],
    targets_BHW: tuple[Tensor, Tensor, Tensor],
    config: LossConfig,
    edge_threshold: str,
) -> tuple[dict[str, float], list[Tensor]]:
    """Return the library's sums by name, and the gradients of the sums: plain, and with the heads the other three."""
    logits, boundary, direction = maps
    assert logits is not None
    label, *others = (target.contiguous() for target in targets_BHW)
    assert all(target.dtype == torch.int64 and target.shape == label.shape for target in (label, *others))
    B, K, h, w = logits.shape
    _, H, W = label.shape
    assert (h, w) == (-(-H // STRIDE), -(-W // STRIDE)), f"logits must be at 1/{STRIDE} of the label"
    E = 0 if boundary is None else boundary.shape[1]
    for head, channels in ((boundary, (1, 2)), (direction, (8,))):
        fits = head is None or (head.shape[0] == B and head.shape[1] in channels and head.shape[2:] == (h, w))
        assert fits, "the heads' logits must be as large as the segmentation's"
    gradients = [torch.empty_like(tensor) for tensor in ((logits, logits, boundary, direction) if E else (logits,))]  # type: ignore[arg-type]
    sums = torch.zeros(len(_SUMS), dtype=torch.float64)
    call = LossCall(
        B, K, E, h, w, H, W, STRIDE, edge_threshold == "logit", AREAS[config.direction_area],
        *(_pointer(tensor) for tensor in (logits, boundary, direction)),
        *(_pointer(target) for target in (label, *others)),
        *(_pointer(gradients[index] if index < len(gradients) else None) for index in range(4)),
        sums.data_ptr(),
    )  # fmt: skip
    code = library.unept_loss(ctypes.byref(call), torch.get_num_threads())
    values = dict(zip(_SUMS, sums.tolist(), strict=True))
    if code == WRONG_LABEL:
        raise IndexError(f"Target {values['wrong']:.0f} is out of bounds.")
    if code == NO_MEMORY:
        raise MemoryError("the native loss found no memory for its maps")
    if code:
        raise RuntimeError(f"the native loss ended with code {code}")
    return values, gradients


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
