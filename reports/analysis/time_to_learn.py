"""Time to learn the distant cue: each variant against the control, on the scale of log steps.

A run that did not learn is censored at its last step. Of two groups of seeds the time says what a mean score cannot.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from bench.stats.learning_time import LearningTime, compare_times, geometric_mean
from bench.stats.seed_statistics import holm_adjust
from reports.analysis import study_rows
from reports.analysis.control import control_variant
from reports.analysis.learned_cue import learning_frame
from reports.analysis.sample_comparison import ALPHA, CANNOT_BE_JUDGED, NO_DIFFERENCE_SEEN, interval_of_verdict
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

SOONER, LATER = "sooner", "later"
MAX_NAMED = 6  # variants in one sentence
TEXT = ("variant", "control", "verdict")
WHOLE = ("n", "n_control", "learned", "learned_control")


def time_to_learn_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant but the control: its time to learn the cue, compared with the control's.

    Returns:
        `steps` and `steps_control` are restricted geometric means: of the step of the jump, or of the last step of a
        run that did not learn. `ratio` is of these, with the interval that holds for all variants at once; p is Welch's
        on the logarithms, adjusted by Holm, and `p_log_rank` the log-rank test's. Empty where no run was probed.
    """
    control = control_variant(study)
    times = _times(study)
    others = [variant for variant in study.variants if variant != control] if times.get(control) else []
    confidence = 1 - ALPHA / max(1, sum(_ratio(times, variant, control) is not None for variant in others))
    results = {variant: compare_times(times[variant], times[control], confidence) for variant in others}
    adjusted = iter(holm_adjust([result.p for result in results.values() if result is not None]))
    lines = []
    for variant, result in results.items():
        line: dict[str, object] = {"variant": variant, "control": control, "verdict": CANNOT_BE_JUDGED}
        for name, own in (("", times[variant]), ("_control", times[control])):
            line |= {f"n{name}": len(own), f"learned{name}": sum(time.learned for time in own)}
            line[f"steps{name}"] = geometric_mean(own) if own else None
        if result is not None:
            p_holm = next(adjusted)
            low, high = interval_of_verdict(result.ratio, result.low, result.high, p_holm, null=1.0)
            line |= {"ratio": result.ratio, "low": low, "high": high, "p": result.p, "p_holm": p_holm}
            line |= {"p_log_rank": result.p_log_rank, "verdict": _verdict(result.ratio, p_holm)}
        lines.append(line)
    numbers = ("steps", "steps_control", "ratio", "low", "high", "p", "p_holm", "p_log_rank")
    return make_frame(lines, ["variant", "control", *WHOLE, *numbers, "verdict"], whole=WHOLE, text=TEXT)


def time_sentences(times: pd.DataFrame) -> Iterator[str]:
    """Yield the variants that learn sooner or later than the control, if there are any.

    Args:
        times: The study's `time_to_learn_frame`, or its CSV file read again.
    """
    seen = [
        f"{name} in {_named(times[times['verdict'] == name])}"
        for name in (SOONER, LATER)
        if (times["verdict"] == name).any()
    ]
    if seen:
        control = times["control"].iloc[0]
        yield f"The far cue is learned {', and '.join(seen)} (steps to learn it, times those of {control})."


def _named(lines: pd.DataFrame) -> str:
    said = [
        f"{line['variant']} (x {line['ratio']:.2f}"
        + ("" if pd.isna(line["low"]) else f", {line['low']:.2f} to {line['high']:.2f}")
        + ")"
        for _, line in lines.head(MAX_NAMED).iterrows()
    ]
    more = len(lines) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _verdict(ratio: float, p: float) -> str:
    if p > ALPHA:
        return NO_DIFFERENCE_SEEN
    return SOONER if ratio < 1 else LATER


def _ratio(times: dict[str, list[LearningTime]], variant: str, control: str) -> object:
    return compare_times(times[variant], times[control])


def _times(study: Study) -> dict[str, list[LearningTime]]:
    """Return the times of the runs that were probed, by variant; {} where there is none."""
    learning = learning_frame(study).dropna(subset=["probe_gap"])
    times: dict[str, list[LearningTime]] = {variant: [] for variant in study.variants}
    steps = {
        (run["variant"], study_rows.seed_of(run)): study_rows.number_at(run, "settings", "train", "steps")
        for run in study.runs
    }
    for _, line in learning.iterrows():
        last, learned = steps[line["variant"], line["seed"]], line["learned"] == "yes"
        step = line["jump_step"] if learned and not pd.isna(line["jump_step"]) else last
        if step is not None:
            times[line["variant"]].append(LearningTime(step=float(step), learned=learned))
    return times if len(learning) else {}
