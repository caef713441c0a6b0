"""Deformable attention for pytest-benchmark: every side that is installed, at every shape, on the command's own inputs.

    pytest tests/benchmarks/bench_msda.py -o python_files='bench_*.py' --benchmark-group-by=param:shape,param:phase

`unept-bench kernels` times the sides in turn, which is what ratios should be taken from; these are for one side at a
time, and for comparing commits.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.microbench.operator.cases import CASES
from bench.microbench.operator.implementations import OperatorImplementation, operator_implementations
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.timing import PHASES

SIDES = operator_implementations()


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("shape", CASES)
@pytest.mark.parametrize("side", SIDES, ids=[side.name for side in SIDES])
def test_msda(benchmark: Any, side: OperatorImplementation, shape: str, phase: str) -> None:
    if side.run is None:
        pytest.skip(side.missing)
    run, case = side.run, CASES[shape]
    value, place, offsets, logits, gradient = make_inputs(case, torch.float32)
    if phase == "forward":
        with torch.no_grad():
            result = benchmark(run, value, place, offsets, logits, case.shapes)
        assert result.shape == gradient.shape
        return
    leaves = [tensor.requires_grad_() for tensor in (value, offsets, logits)]

    def both() -> tuple[torch.Tensor, ...]:
        return torch.autograd.grad(run(value, place, offsets, logits, case.shapes), leaves, gradient)

    assert [found.shape for found in benchmark(both)] == [leaf.shape for leaf in leaves]
