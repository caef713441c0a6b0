"""The verdict of a study in a few plain sentences without markup."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pandas as pd

from reports.analysis.axis_effects import axis_sentences
from reports.analysis.control import control_variant
from reports.analysis.sample_comparison import ALPHA, CANNOT_BE_JUDGED, HIGHER, LOWER, NO_DIFFERENCE_SEEN, POWER, SAME
from reports.analysis.study_rows import Study
from reports.analysis.time_to_learn import time_sentences
from reports.formats.markdown import DASH

IN_GROUPS = "means of two groups of seeds"
FEWER = ("fewer", "more")
MAX_NAMED = 6  # variants in one sentence; the table has them all


def comparison_sentences(study: Study, frames: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the comparisons of a study in a few plain sentences without markup.

    Args:
        study: Rows of the study.
        frames: Its `analysis_frames`.
    """
    compared = frames["comparisons.csv"]
    control = control_variant(study)
    if not control:
        return ["There is no second variant to compare with."]
    sentences = [
        *axis_sentences(frames["axes.csv"]),
        *outcome_sentences(compared, control),
        *_method_sentences(compared),
        *split_seeds(frames["learned.csv"]),
        *time_sentences(frames["time_to_learn.csv"]),
    ]
    return sentences or [f"There is nothing to compare with {control}."]


def refinement_sentences(refined: pd.DataFrame) -> list[str]:
    """Return one sentence on how boundary refinement at test changes mIoU; [] where no run was refined.

    `refined` is the study's `refinement_frame`.
    """
    compared = refined.dropna(subset=["miou_change"])
    if compared.empty:
        return []
    changes = compared["miou_change"]
    span = " to ".join(dict.fromkeys(f"{value:+.2f}" for value in (changes.min(), changes.max())))
    lower, higher = (compared["miou_high"] < 0).fillna(False).sum(), (compared["miou_low"] > 0).fillna(False).sum()
    return [
        f"Boundary refinement at test changes mIoU by {span} points (paired): lower in {lower} and higher in {higher} "
        f"of {_variants(len(compared))}, going by 95 % intervals."
    ]


def outcome_sentences(compared: pd.DataFrame, control: str) -> Iterator[str]:
    """Yield sentences: variants that differ from the control, that do not, and that cannot be judged.

    Variants that are higher or lower are named by the size of the difference, the others by the difference, best first.

    Args:
        compared: a table of `compare`, or its CSV file read again.
        control: the variant that all others are compared with.
    """
    one_size = len(_sizes(compared)) == 1
    compared = compared.sort_values("difference", ascending=False, kind="stable")
    same = compared[compared["verdict"] == SAME]
    by = {name: compared[compared["verdict"] == name] for name in (HIGHER, LOWER, NO_DIFFERENCE_SEEN, CANNOT_BE_JUDGED)}
    by[LOWER] = by[LOWER].iloc[::-1]
    differ = [
        f"{name} in {_named(by[name], lambda line: _differs(line, one_size))}"
        for name in (HIGHER, LOWER)
        if len(by[name])
    ]
    if differ:
        yield f"Compared with {control}, mIoU is {', and '.join(differ)}."
    if len(same):
        yield f"The same as {control} within the margin, by two one-sided tests: {_named(same, _same)}."
    if len(by[NO_DIFFERENCE_SEEN]):
        yield f"No difference from {control} is seen in {_all_unseen(by[NO_DIFFERENCE_SEEN], one_size)}."
    if len(by[CANNOT_BE_JUDGED]):
        sides = _named(
            by[CANNOT_BE_JUDGED], lambda line: f"{line['variant']} (n = {line['n']} against {line['n_control']})"
        )
        yield f"Not to be judged against {control} without two values a side that differ: {sides}."


def _same(line: pd.Series) -> str:
    change = line["operations_change"]
    cost = "" if pd.isna(change) or abs(change) < 0.5 else f", {abs(change):.0f} % {FEWER[bool(change > 0)]} operations"
    return f"{line['variant']} (within {line['same_within']:.2f} points{cost})"


def _differs(line: pd.Series, one_size: bool) -> str:
    size = "" if one_size else f"; n = {line['n']} against {line['n_control']}"
    ends = sorted(abs(line[end]) for end in ("low", "high") if not pd.isna(line[end]))
    interval = f"{ends[0]:.2f} to {ends[1]:.2f}" if ends else IN_GROUPS
    return f"{line['variant']} by {abs(line['difference']):.2f} points ({interval}{size})"


def detectable_text(line: pd.Series) -> str:
    """Return the detectable differences of one line as `1.10 to 1.52`; none where mIoU cannot differ by so much."""
    if pd.isna(line["low"]):
        return DASH
    shown = ("none" if pd.isna(line[name]) else f"{line[name]:.2f}" for name in ("detectable", "detectable_in_family"))
    return " to ".join(dict.fromkeys(shown))


def _all_unseen(lines: pd.DataFrame, one_size: bool) -> str:
    """One or two variants with their figures, more by name with the range of the figures."""
    if len(lines) < 3:
        return _named(lines, lambda line: _unseen(line, one_size))
    least, most = lines["difference"].min(), lines["difference"].max()
    text = f"{_named(lines, lambda line: str(line['variant']))}: differences of {least:+.2f} to {most:+.2f} points"
    whole = lines.dropna(subset=["detectable_in_family"])
    if whole.empty:
        return f"{text}, {IN_GROUPS if lines['low'].isna().all() else 'and no possible one is detectable'}"
    shown, strictest = whole["detectable"].min(), whole["detectable_in_family"].max()
    which = "these seeds" if len(whole) == len(lines) else f"the seeds of {_named(whole, lambda line: line['variant'])}"
    return f"{text}, where {which} would show {shown:.2f} to {strictest:.2f} with {100 * POWER:g} % probability"


def _unseen(line: pd.Series, one_size: bool) -> str:
    if pd.isna(line["low"]):
        return f"{line['variant']} ({line['difference']:+.2f} points; {IN_GROUPS})"
    size = "" if one_size else f"; n = {line['n']} against {line['n_control']}"
    return (
        f"{line['variant']} ({line['difference']:+.2f} points, {line['low']:.2f} to {line['high']:.2f}{size}; "
        f"detectable at {100 * POWER:g} % power: {detectable_text(line)})"
    )


def split_seeds(learned_seeds: pd.DataFrame) -> Iterator[str]:
    """Yield one sentence that names the variants of which only some seeds learned the cue, if there are any.

    Args:
        learned_seeds: a table of `learned`, or its CSV file read again.
    """
    split = learned_seeds[learned_seeds["groups"] == "two"]
    if len(split):
        names = _named(split, lambda line: f"{line['variant']} ({line['learned']} of {line['seeds']})")
        yield (
            "Seeds fall in two groups, those that learned the far cue and those that did not, so that a mean "
            f"describes no seed: {names}."
        )


def _sizes(compared: pd.DataFrame) -> set[int]:
    """Return the numbers of seeds of the variants that were tested, and of the control."""
    tested = compared[compared["verdict"] != CANNOT_BE_JUDGED]
    return {int(n) for column in ("n", "n_control") for n in tested[column]}


def _method_sentences(compared: pd.DataFrame) -> Iterator[str]:
    """Yield how the variants were judged, and that a permutation test could not have decided, where that is so."""
    sizes, tested = _sizes(compared), int((compared["verdict"] != CANNOT_BE_JUDGED).sum())
    if tested:
        size = f", n = {min(sizes)} each" if len(sizes) == 1 else ""
        yield (
            f"Judged by Welch's t test at {ALPHA:g}, Holm-adjusted over {_comparisons(tested)}{size}; "
            "the intervals hold all at once with 95 %."
        )
    smallest = compared["p_permutation_smallest"].dropna()
    family = len(smallest)
    if family and smallest.min() * family > ALPHA:
        yield (
            f"The exact permutation test could never reach {ALPHA:g} here: its smallest p, {smallest.min():.2g}, "
            f"times {_comparisons(family)} is {smallest.min() * family:.2g}."
        )


def _named(lines: pd.DataFrame, words: Callable[[pd.Series], str]) -> str:
    """The lines in words, one after another; the later ones of many only by their number."""
    said = [words(line) for _, line in lines.head(MAX_NAMED).iterrows()]
    more = len(lines) - len(said)
    return "; ".join(said) + (f"; and {more} more" if more else "")


def _variants(count: int) -> str:
    return f"{count} variant" if count == 1 else f"{count} variants"


def _comparisons(count: int) -> str:
    return f"{count} comparison" if count == 1 else f"{count} comparisons"
