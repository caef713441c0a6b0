"""Section on the seeds that learned the distant cue: how many, how well, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd

from reports.analysis import protocol, study_rows
from reports.analysis.cue_groups import GROUP_GAP
from reports.analysis.learned_cue import least_accuracy
from reports.analysis.study_rows import Study
from reports.formats import numbers
from reports.formats.markdown import heading, markdown_table


def learned_cue_section(study: Study, frames: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield the probability of learning the distant cue, the scores of the seeds that did, and the time that it took.

    Args:
        study: Rows of the study.
        frames: Its `analysis_frames`.
    """
    learned, times = frames["learned.csv"], frames["time_to_learn.csv"]
    if learned.empty:
        return
    least = study_rows.distinct_text(f"{100 * least_accuracy(study, variant):g}" for variant in study.variants)
    yield heading(f"Seeds that learned the far cue, measured ({protocol.protocol_summary(study)})")
    yield (
        "Two pairs of classes look alike and differ only by a distant cue; guessing is right for half of their pixels. "
        f"A seed has learned the cue if at least {least} % are right at the end, and no gap of "
        f"{100 * GROUP_GAP:g} points parts it from the variant's best seeds. The probability has its 95 % Jeffreys "
        "interval; mIoU is of the seeds that learned, with their t-interval.\n"
    )
    titles = ["variant", "learned", "probability", "mIoU if learned, %", "95 % interval", "seed: step of the jump"]
    yield markdown_table([*titles, "known to within"], [_learned_cells(line) for _, line in learned.iterrows()])
    if times.empty:
        return
    yield (
        "Steps to learn: the jump is the first probe during training from which on every probe is past "
        f"{least} %. Geometric means, in which a run that did not learn counts with its last step "
        "(restricted means of a right-censored time). Welch's p on the logarithms, adjusted by Holm, decides; the "
        "log-rank p stands beside it. The intervals of the ratio hold all at once with 95 %; with fewer than two seeds "
        "that learned there is none.\n"
    )
    control = times["control"].iloc[0]
    titles = ["variant", "verdict", "steps", f"times {control}", "95 % interval, all at once"]
    titles += ["p", "p (Holm)", "p (log-rank)"]
    yield markdown_table(titles, [_time_cells(line) for _, line in times.iterrows()], left=2)


def _learned_cells(line: pd.Series) -> list[str]:
    low, high = line["probability_low"], line["probability_high"]
    return [
        line["variant"],
        f"{line['learned']} of {line['seeds']}",
        numbers.format_interval(low, high),
        numbers.mean_std(line, "learned_miou"),
        numbers.format_interval(line["learned_miou_low"], line["learned_miou_high"]),
        "" if pd.isna(line["jump_steps"]) else line["jump_steps"],
        "" if pd.isna(line["probe_gap"]) else f"{line['probe_gap']} steps",
    ]


def _time_cells(line: pd.Series) -> list[str]:
    return [
        line["variant"],
        line["verdict"],
        numbers.format_number(line["steps"], ".0f"),
        numbers.format_number(line["ratio"], ".2f"),
        numbers.format_interval(line["low"], line["high"]),
        *(numbers.format_p_value(line[name]) for name in ("p", "p_holm", "p_log_rank")),
    ]
