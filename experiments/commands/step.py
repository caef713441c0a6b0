"""`unept-bench step`: time a training step by its parts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.fields import did_you_mean, one_of
from bench.config.grid import with_field_values
from bench.config.option_fields import argument, nested_options, option
from bench.config.presets import preset
from bench.profiling.step_options import StepTiming
from experiments.commands.console import DONE, Invocation, print_progress
from experiments.commands.options import Verb, own_slots
from unept.config import BACKENDS


@dataclass(frozen=True, kw_only=True)
class StepOptions:
    """Training steps to time, and the protocol of their times."""

    cases: tuple[str, ...] = argument(
        (),
        help="A preset, and fields: small, 'paper backbone=resnet50'.",
        metavar="CASE",
        default_text="quick, small, and paper with both backbones",
    )
    backends: str = option(
        "",
        help="Backends to compare; the first is the baseline.",
        metavar="NAMES",
        default_text="the fastest here and reference",
        completes="backends",
    )
    timing: StepTiming = nested_options(StepTiming)
    out: Path | None = option(
        None,
        help="Write the page to this file too.",
        metavar="FILE",
        default_text="none",
        completes="files",
        writes="file",
    )


def step(options: StepOptions, call: Invocation) -> int:
    """Time a training step of UN-EPT by its parts: the compiled attention kernel against plain PyTorch."""
    for case in options.cases:
        _check_case(case)
    for backend in filter(None, options.backends.split(",")):
        if backend not in BACKENDS:
            raise ValueError(f"--backends {backend}: expected {one_of(BACKENDS)}{did_you_mean(backend, BACKENDS)}")

    from bench.environment import raise_malloc_thresholds
    from bench.profiling import step_breakdown
    from reports.pages import step_breakdown as pages

    protocol = step_breakdown.BreakdownProtocol(
        cases=tuple(step_breakdown.parse_case(words) for words in options.cases or step_breakdown.DEFAULT_CASES),
        backends=tuple(filter(None, options.backends.split(","))) or step_breakdown.default_backends(),
        timing=options.timing,
        malloc=raise_malloc_thresholds(),
    )
    times = step_breakdown.time_cases(protocol, say=print_progress)
    page = pages.step_breakdown_markdown(times, step_breakdown.breakdown_setting_lines(protocol))
    print(page)
    if options.out is not None:
        options.out.write_text(page, encoding="utf-8")
    return DONE


def _check_case(case: str) -> None:
    """Raise ValueError for a preset or field that is not known, and for a value that it cannot have."""
    name, *fields = case.split() or [""]
    if name:
        with_field_values(preset(name), fields)


VERB = Verb(
    name="step",
    run=step,
    options=StepOptions,
    group="Cost",
    summary="Time a training step by its parts",
    example="step quick 'paper backbone=resnet50' --rounds 3",
    user_code=lambda options: own_slots(options.cases),
)
