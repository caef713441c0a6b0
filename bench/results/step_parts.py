"""Parts of a training step by name, and the time of one of them; no torch, so that reports can read them."""

from __future__ import annotations

from dataclasses import dataclass

WHOLE_STEP = "whole step"
BACKBONE, SPATIAL, CONTEXT, ATTENTION = "backbone", "spatial branch and heads", "context branch", "its attention"
LOSS, OPTIMIZER = "loss", "optimizer"
DATA_GENERATED, DATA_CACHED = "a batch of data, made", "a batch of data, kept"
PARTS = (WHOLE_STEP, BACKBONE, SPATIAL, CONTEXT, ATTENTION, LOSS, OPTIMIZER)
SUMMED_PARTS = (BACKBONE, SPATIAL, CONTEXT, LOSS, OPTIMIZER)  # disjoint parts of the whole step


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """Seconds of one part under one backend: the median over the rounds, and the quartiles `low` and `high`."""

    part: str
    backend: str
    seconds: float
    low: float
    high: float
