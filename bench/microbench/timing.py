"""Tasks that time an operator or any call, forward and backward, for `bench.timing.run_in_turns`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from bench.microbench.operator.cases import OperatorCase
from bench.microbench.operator.implementations import OperatorCall
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.rows import Samples
from bench.timing import run_in_turns
from unept.ops import Shapes

TimedTask = Callable[[], Mapping[str, float]]  # seconds by phase
LONG_ENOUGH = 4.0  # seconds; a shape that takes less is timed in up to three times as many rounds
PHASES = ("forward", "forward+backward")


def time_interleaved(tasks: Mapping[str, TimedTask], repeats: int) -> Samples:
    """Return seconds by task and phase, tasks in turns after a warm-up round.

    Args:
        tasks: Each runs once a round and returns seconds by phase.
        repeats: Rounds at least; up to three times as many where a round is short (`round_count`).
    """
    return run_in_turns(tasks, lambda seconds: round_count(repeats, seconds))


def round_count(repeats: int, seconds: float) -> int:
    """Return the number of rounds of so many seconds each: `repeats`, or up to three times that where rounds are
    short.
    """
    return max(repeats, min(3 * repeats, int(LONG_ENOUGH / max(seconds, 1e-9))))


def operator_task(run: OperatorCall, case: OperatorCase) -> TimedTask:
    """Return a task that times an operator on the inputs of a case, in the two phases of PHASES."""
    *inputs, gradient = make_inputs(case, torch.float32)

    def call(tensors: list[Tensor]) -> Tensor:
        value, reference, offsets, logits = tensors
        return run(value, reference, offsets, logits, case.shapes)

    return call_task(call, inputs, gradient, fixed=1)


def call_task(
    run: Callable[[list[Tensor]], Tensor],
    inputs: list[Tensor],
    gradient: Tensor,
    *,
    fixed: int = -1,
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> TimedTask:
    """Return a task that times `run(inputs)`: a forward pass without gradients, then one forward and backward.

    Args:
        run: Takes the list of tensors and returns one.
        inputs: Its inputs; gradients go to all of them but the one at `fixed`.
        gradient: Gradient of the result.
        fixed: Index of the input without a gradient; -1 for none.
        around: Makes a context in which the task runs.
    """
    leaves = [tensor for index, tensor in enumerate(inputs) if index != fixed]

    def task() -> dict[str, float]:
        with around():
            for leaf in leaves:
                leaf.requires_grad_(False)
            with torch.no_grad():
                start = time.perf_counter()
                run(inputs)
                forward = time.perf_counter() - start
            for leaf in leaves:
                leaf.requires_grad_()
            start = time.perf_counter()
            torch.autograd.grad(run(inputs), leaves, gradient)
            return {"forward": forward, "forward+backward": time.perf_counter() - start}

    return task


def operator_disagreement(run: OperatorCall, other: OperatorCall, case: OperatorCase) -> float:
    """Return the largest difference of results and gradients of two operators, relative to the largest number of
    each.
    """
    one, two = (_derived(run, case.shapes, make_inputs(case, torch.float32)) for run in (run, other))
    largest = 0.0
    for left, right in zip(one, two, strict=True):
        largest = max(largest, ((left - right).abs().max() / right.abs().max()).item())
    return largest


def _derived(run: OperatorCall, shapes: Shapes, tensors: list[Tensor]) -> list[Tensor]:
    value, reference, offsets, logits, gradient = tensors
    leaves = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    out = run(value, reference, offsets, logits, shapes)
    return [out.detach(), *torch.autograd.grad(out, leaves, gradient)]
