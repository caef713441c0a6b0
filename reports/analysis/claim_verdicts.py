"""Verdicts on the paper's claims, from what a study measured: differences only, never a figure of ours beside one of
theirs.

A claim agrees or disagrees where Welch's test shows a difference of its sign or of the other one; p is adjusted by Holm
over the claims of the same table and column that could be tested. Where the study has a margin, a claim on mIoU may be
settled without either: both rows are the same within the margin, by two one-sided tests. Every other claim is
undetermined, and the difference that these seeds would have shown stands beside it. A claim whose two rows have no
values here is not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd

from bench.stats.equivalence import least_margin
from reports.analysis import study_rows
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.sample_comparison import (
    ALPHA,
    SampleComparison,
    compare_samples,
    holm_p_values,
    simultaneous_intervals,
)
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame
from reports.paper.claims import CLAIMS, STAND_INS, Claim

INSIDE, ABOVE, BELOW = "inside our interval", "above our interval", "below our interval"
AGREES, DISAGREES, UNDETERMINED, NOT_RUN = "agrees", "disagrees", "undetermined", "not run"
SAME_WITHIN_MARGIN = "the same within the margin"
MARGIN_COLUMN = "mIoU"  # of the claims that a margin can settle: it is one of mIoU
CLAIM_METRICS = {"mIoU": "miou", "pixAcc": "pixel_accuracy", "pAcc": "pixel_accuracy"}  # fractions here, percent there
CLAIM_COUNTS = {"#Params.": ("parameters", 1e-6), "GFLOPs": ("module_gmacs", 1.0)}  # GFLOPs: multiply-adds by its tool


T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Evidence:
    """Values that a study has for one claim.

    Attributes:
        contrast: Our values of both rows, compared.
        counted: The figures are exact and need no test.
        grouped: Seeds of a row fall in two groups, so that a mean has no interval.
    """

    contrast: SampleComparison
    counted: bool = False
    grouped: bool = False


def claims_frame(study: Study, number: int | None) -> pd.DataFrame:
    """Return a frame with a line per claim of all tables, judged by the study where it is of its table.

    Args:
        study: Rows of the study.
        number: The paper's table beside the study. Claims of other tables are "not run"; None leaves all of them so.

    Returns:
        `quoted` is the paper's difference and `difference` ours, both `better - worse` in `unit`, with Welch's interval
        `low`, `high`, which holds for all claims of the column at once; there is none where seeds fall in two groups.
        `size` says where the paper's difference lies beside it. `same_within` is the least margin of mIoU within which
        both rows are the same by two one-sided tests at 5 %, not adjusted. `n` is the smaller sample size. Operations
        and parameters are exact and need no test; operations are those of the paper's tool, for the networks as trained
        here. Memory is not judged: the paper's is a GPU's, which no row holds.
    """
    grouped = grouped_variants(study)
    evidence = [_find(study, claim, grouped) if claim.table == number else _nothing() for claim in CLAIMS]
    holm, ends = _by_family(evidence, holm_p_values), _by_family(evidence, simultaneous_intervals)
    lines = []
    for claim, one, p, (low, high) in zip(CLAIMS, evidence, holm, ends, strict=True):
        item = one.contrast
        line: dict[str, object] = {"table": claim.table, "column": claim.column, "claim": _words(claim)}
        line |= {"quoted": claim.quoted, "unit": claim.unit, "outcome": _outcome(claim, one, p)}
        if item.difference is not None:
            line |= {"n": min(item.n, item.n_other), "difference": item.difference}
        if item.welch is not None:
            line |= {"p": item.welch.p, "p_holm": p}
        if item.welch is not None and not one.grouped:
            line |= {"low": low, "high": high, "detectable": item.detectable()}
            line["size"] = _place_of_size(claim.quoted, low, high)
            if claim.column == MARGIN_COLUMN:
                least = least_margin(item.welch, ALPHA)
                line["same_within"] = least
                if line["outcome"] == UNDETERMINED and least <= study.margin:
                    line["outcome"] = SAME_WITHIN_MARGIN
        lines.append(line)
    numbers = ("difference", "low", "high", "p", "p_holm", "detectable", "same_within")
    columns = ["table", "column", "claim", "quoted", "unit", "n", *numbers, "outcome", "size"]
    return make_frame(lines, columns, whole=("table", "n"), text=("column", "claim", "unit", "outcome", "size"))


def settled_claims(frame: pd.DataFrame, margin: float) -> int:
    """Return how many claims of a `claims_frame` are settled with a margin: they agree, disagree, or are the same.

    Args:
        frame: The claims, of any margin.
        margin: Difference of mIoU that counts as none, percent points; 0 for none.
    """
    tested = frame["outcome"].isin((AGREES, DISAGREES))
    return int((tested | (frame["same_within"] <= margin)).sum())


def _find(study: Study, claim: Claim, grouped: frozenset[str]) -> _Evidence:
    """Our values of both rows, in the claim's unit: of the variants of these names, or `L=3 N=16` for `N=16 L=3`, or
    of those that stand in for them.
    """
    named = {frozenset(variant.split()): variant for variant in study.variants}

    def variant_of(row: str) -> str:
        return named.get(frozenset(row.split()), "")

    pair = [variant_of(row) or variant_of(STAND_INS.get(row, row)) for row in (claim.better, claim.worse)]
    if claim.column in CLAIM_METRICS:
        better, worse = (study_rows.percent_values(study, variant, CLAIM_METRICS[claim.column]) for variant in pair)
        return _Evidence(contrast=compare_samples(better, worse), grouped=not grouped.isdisjoint(pair))
    if claim.column in CLAIM_COUNTS:
        name, factor = CLAIM_COUNTS[claim.column]
        values = [study_rows.number_at(study.measures.get(variant, {}), "metrics", name) for variant in pair]
        better, worse = ([] if value is None else [factor * value] for value in values)
        return _Evidence(contrast=compare_samples(better, worse), counted=True)
    return _nothing()


def _nothing() -> _Evidence:
    return _Evidence(contrast=compare_samples([], []))


def _by_family(evidence: Iterable[_Evidence], adjust: Callable[[Sequence[SampleComparison]], Sequence[T]]) -> list[T]:
    """Return what `adjust` makes of each claim among the claims of its table and column."""
    families: dict[tuple[int, str], list[tuple[int, SampleComparison]]] = {}
    for index, (claim, one) in enumerate(zip(CLAIMS, evidence, strict=True)):
        families.setdefault((claim.table, claim.column), []).append((index, one.contrast))
    adjusted: dict[int, T] = {}
    for members in families.values():
        adjusted |= zip((index for index, _ in members), adjust([item for _, item in members]), strict=True)
    return [adjusted[index] for index in range(len(adjusted))]


def _place_of_size(quoted: float | None, low: float | None, high: float | None) -> str | None:
    """Return where the paper's difference lies beside our interval; None without either."""
    if quoted is None or low is None or high is None:
        return None
    if low <= quoted <= high:
        return INSIDE
    return ABOVE if quoted > high else BELOW


def _words(claim: Claim) -> str:
    return claim.text if claim.supported is not False else f"{claim.text} (its own figures do not bear it out)"


def _outcome(claim: Claim, evidence: _Evidence, p: float | None) -> str:
    difference = evidence.contrast.difference
    if difference is None:
        return NOT_RUN
    if evidence.counted:  # exact: no difference at all bears out no claim of one
        return AGREES if difference * claim.sign > 0 else DISAGREES
    if p is None or p > ALPHA:
        return UNDETERMINED
    return AGREES if difference * claim.sign > 0 else DISAGREES
