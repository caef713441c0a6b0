"""`unept-bench attention`: time attention cores beside other packages."""

from __future__ import annotations

from bench.microbench.attention.request import AttentionBenchOptions
from experiments.attention.comparison_names import check_comparison_names
from experiments.commands.console import DONE, Invocation, print_lines, print_progress
from experiments.commands.options import Verb

QUICK_REPEATS = 2


def attention(options: AttentionBenchOptions, call: Invocation) -> int:
    """Time our attention cores beside what one would install for the same pattern, and count their memory.

    The same command again goes on where it was stopped.
    """
    check_comparison_names(options.only)

    from bench.microbench.attention.request import AttentionBenchRequest
    from bench.microbench.attention.run import run_attention_benchmark
    from experiments.attention.core_comparisons import COMPARISONS, attention_comparisons
    from reports.pages import attention as pages

    values = vars(options) | {
        "repeats": min(options.repeats, QUICK_REPEATS) if options.quick else options.repeats,
        "comparisons": COMPARISONS,
        "known": attention_comparisons(),
        "command": call.command,
    }
    run_attention_benchmark(AttentionBenchRequest(**values), say=print_progress)
    page, *_ = pages.write_attention_report(options.out)
    print_lines(pages.attention_lines(pages.read_attention_benchmark(options.out)))
    print(f"report: {page}")
    return DONE


VERB = Verb(
    name="attention",
    run=attention,
    options=AttentionBenchOptions,
    group="Cost",
    summary="Time attention cores beside other packages",
    example="attention --only reformer",
)
