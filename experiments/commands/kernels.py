"""`unept-bench kernels`: time the compiled attention kernel."""

from __future__ import annotations

from dataclasses import replace

from bench.microbench.operator.request import OperatorBenchRequest
from experiments.commands.console import DONE, Invocation, print_lines, print_progress
from experiments.commands.options import Verb


def kernels(options: OperatorBenchRequest, call: Invocation) -> int:
    """Time the compiled attention kernel against what else computes the same, and count its memory."""
    from bench.microbench.operator.run import run_operator_benchmark
    from reports.pages import kernels as pages

    run_operator_benchmark(replace(options, command=call.command), say=print_progress)
    page, *_ = pages.write_kernel_report(options.out)
    print_lines(pages.kernel_lines(pages.read_kernel_benchmark(options.out)))
    print(f"report: {page}")
    return DONE


VERB = Verb(
    name="kernels",
    run=kernels,
    options=OperatorBenchRequest,
    group="Cost",
    summary="Time the compiled attention kernel",
    example="kernels --shapes small,r50-encoder --threads 2",
)
