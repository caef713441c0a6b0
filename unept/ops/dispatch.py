"""Which implementation of an operator runs, and why."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from unept.ops import reference
from unept.ops.reference import Shapes

BACKENDS = ("auto", "reference")


class Backend(NamedTuple):
    """The implementation that runs, and the reason in one line."""

    name: str
    reason: str


def resolve(backend: str = "auto") -> Backend:
    """The implementation that ``backend`` stands for here. ValueError for an unknown name."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown backend {backend!r}; there are {', '.join(BACKENDS)}")
    if backend == "auto":
        return Backend("reference", "plain PyTorch; no other implementation is in this version")
    return Backend("reference", "asked for")


def msda(
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    shapes: Shapes,
    *,
    backend: str = "auto",
) -> Tensor:
    """Multi-scale deformable attention, (B, Q, H * D); see `unept.ops.reference.msda` for the arguments."""
    resolve(backend)
    return reference.msda(value_BSHD, reference_Q2, offsets_BQHLP2, logits_BQHLP, shapes)
