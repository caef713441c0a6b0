"""Upper bounds of a ratio: the kernel itself as fast as the machine's probes, free, or without scratch memory.

A goal beyond such a bound cannot be reached on the machine at hand, whatever the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bench.microbench.operator.cases import OperatorCase
from bench.microbench.rows import RATIO_AT_MOST, BenchmarkRow, RowContext, Samples, paired_ratios
from unept.ops import Shapes

LINEAR_LAYERS = "linear layers"  # the side of a module whose operator takes no time
BYTES_PER_FLOAT = 4  # bytes


def operator_bound_rows(
    context: RowContext, samples: Samples, others: Sequence[str], tables: str
) -> Iterator[BenchmarkRow]:
    """Yield each other implementation's seconds over those of the probes' gathers and scatters of as many points, by
    round.

    A forward pass gathers; a backward pass gathers once more and scatters.

    Args:
        context: Columns that the rows share.
        samples: Seconds by (implementation or table, phase).
        others: Implementations to compare.
        tables: Name of the probe's tables in the samples.
    """
    gather, scatter = (samples.get((tables, phase), ()) for phase in ("gather", "scatter"))
    lower_bounds = {
        "forward": gather,
        "forward+backward": [2 * first + second for first, second in zip(gather, scatter, strict=True)],
    }
    yield from _over(context, samples, others, lower_bounds)


def module_bound_rows(context: RowContext, samples: Samples, others: Sequence[str]) -> Iterator[BenchmarkRow]:
    """Yield each other implementation's seconds over those of the linear layers alone, by round."""
    lower_bounds = {phase: seconds for (side, phase), seconds in samples.items() if side == LINEAR_LAYERS}
    yield from _over(context, samples, others, lower_bounds)


def _over(
    context: RowContext, samples: Samples, others: Sequence[str], lower_bounds: Mapping[str, Sequence[float]]
) -> Iterator[BenchmarkRow]:
    for side in others:
        for phase, seconds in lower_bounds.items():
            if seconds and (side, phase) in samples:
                yield context.row(side, phase, RATIO_AT_MOST, paired_ratios(samples[side, phase], seconds))


def min_bytes(case: OperatorCase) -> dict[str, int]:
    """Return the bytes that a call in single precision must take, by phase.

    They are its result, and for both passes the gradients that are its output.
    """
    queries = case.batch * case.queries
    result = queries * case.heads * case.channels * BYTES_PER_FLOAT
    value = case.batch * case.tokens * case.heads * case.channels * BYTES_PER_FLOAT
    offsets_and_logits = 3 * case.samples * BYTES_PER_FLOAT
    return {"forward": result, "held": result, "forward+backward": result + value + offsets_and_logits}


def zero_operator(value: Tensor, _reference: Tensor, offsets: Tensor, logits: Tensor, _shapes: Shapes) -> Tensor:
    """Return zeros in place of the operator's result, with zero gradients: nothing is computed."""
    result: Tensor = _Free.apply(value, offsets, logits)
    return result


class _Free(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, offsets: Tensor, logits: Tensor) -> Tensor:
        ctx.save_for_backward(value, offsets, logits)
        return value.new_zeros(*offsets.shape[:2], value.shape[2] * value.shape[3])

    @staticmethod
    def backward(ctx: Any, _upstream: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.zeros_like(tensor) for tensor in ctx.saved_tensors)
