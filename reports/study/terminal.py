"""A study in a few lines of plain text, for the end of a command."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.units import count_of
from reports.analysis import audit, frames, lr_sweep, protocol, rate_choice, seed_power, verdict_sentences
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.study_rows import Study
from reports.formats import numbers, operation_counts, plain_text
from unept.utils.visible_text import single_line


def study_lines(study: Study) -> Iterator[str]:
    """Yield under what the study was measured, the main table, then the verdict."""
    frame = frames.accuracy_frame(study).merge(frames.cost_frame(study), on="variant")
    if study.runs:
        yield f"measured on: {single_line(protocol.protocol_headline(study))}"
    target = operation_counts.target_words(frame)
    columns = ["variant", "n", "mIoU, %", "GMACs", f"at {target}", "memory, GiB", f"at {target}"]
    yield from plain_text.right_aligned_rows([columns, *(_cells(line) for _, line in frame.iterrows())])
    if any(operation_counts.is_mostly_elementwise(line, "_derived") for _, line in frame.iterrows()):
        yield f"{operation_counts.MARK} at least as many element-wise operations as counted ones"
    yield from (f"warning: {single_line(warning)}" for warning in study.warnings)
    if study.runs:
        if study.kind == rate_choice.LR_SWEEP_KIND:
            yield from map(single_line, lr_sweep.best_lr_sentences(study))
        else:
            yield from map(single_line, verdict_sentences.comparison_sentences(study, analysis_frames(study)))


def audit_lines(study: Study, *, always: bool) -> Iterator[str]:
    """Yield what the rows show of earlier versions' faults, and entries of study.json that contradict rows.

    `always` yields a line where there is nothing.
    """
    sentences = [*audit.audit_sentences(study), *(problem for problem in study.problems if "otherwise than" in problem)]
    yield from (f"audit: {single_line(sentence)}" for sentence in sentences)
    if always and not sentences:
        yield f"audit: nothing found in {count_of(len(study.runs), 'run')}"


def power_lines(study: Study, difference: float) -> Iterator[str]:
    """Yield the power of the study's seeds for a difference of mIoU in percent points, and the seeds that it would
    take.
    """
    power = seed_power.power_frame(study, difference)
    if power.empty:
        yield "There is no second variant to compare with."
        return
    control = power["control"].iloc[0]
    which = f"Differences of {difference:g} points of mIoU from {single_line(control)}"
    yield f"{which}, Welch's test at 0.05, 80 % probability."
    yield "In brackets: at the strictest step of Holm's correction over these comparisons."
    for _, line in power.iterrows():
        if pd.isna(line["power"]):
            unsaid = "cannot be said without two values a side that differ, of one group of seeds"
            yield f"{single_line(line['variant'])}: {unsaid}"
            continue
        pairs = [
            (numbers.format_number(line[name], form), numbers.format_number(line[f"{name}_in_family"], form))
            for name, form in (("seeds_needed", "d"), ("power", ".0%"), ("detectable", ".2f"))
        ]
        seeds, shown, least = (f"{one} ({other})" for one, other in pairs)
        yield single_line(
            f"{line['variant']}: sd {line['sd']:.2f} against {line['sd_control']:.2f}; {seeds} seeds needed; "
            f"{line['n']} seeds show it "
            f"with {shown} probability and could show {least} points"
        )


def _cells(line: pd.Series) -> list[str]:
    return [
        str(line["variant"]),
        str(line["n"]),
        numbers.mean_std(line, "miou"),
        operation_counts.format_gmacs(line, ".4g", "_derived"),
        numbers.format_number(line["target_gmacs_derived"], ".4g"),
        numbers.format_number(line["step_memory_gib_predicted"], ".3g"),
        numbers.format_number(line["target_memory_gib_predicted"], ".3g"),
    ]
