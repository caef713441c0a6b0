"""`unept-bench scaling`: how one layer of each attention grows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import option
from experiments.commands.console import DONE, Invocation, print_lines, print_progress
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class ScalingOptions:
    """Size of the sweep, and the folder of its report."""

    quick: bool = option(False, help="Tiny sizes, to see that it works.")
    out: Path = option(
        Path("study/scaling"), help="Folder of the report.", metavar="FOLDER", completes="files", writes="folder"
    )


def scaling(options: ScalingOptions, call: Invocation) -> int:
    """Measure how memory, operations and time of one layer of each attention grow with tokens, N, L and batch."""
    from bench.attention_layer import scaling as sweeps
    from bench.environment import raise_malloc_thresholds
    from experiments.attention.layer_scaling import attentions_to_scale
    from reports import writable_folder, write_files
    from reports.pages import scaling as pages

    writable_folder(options.out)
    raise_malloc_thresholds()
    effort = sweeps.QUICK_SWEEP if options.quick else sweeps.ScalingSweep()
    layers = attentions_to_scale()
    records = sweeps.measure_layer_scaling(layers, effort, say=print_progress)
    exponents = sweeps.fit_exponents(records)
    protocol = sweeps.scaling_protocol(effort, next(iter(layers.values())))
    page, *_ = write_files(options.out, pages.scaling_report_files(records, exponents, protocol, call.command))
    print_lines(pages.scaling_lines(exponents))
    print(f"report: {page}")
    return DONE


VERB = Verb(
    name="scaling",
    run=scaling,
    options=ScalingOptions,
    group="Cost",
    summary="Measure how one attention layer grows",
    example="scaling --quick",
)
