"""Each variant against one control: what the seeds show, what they cannot show, and how many would be needed.

The comparisons of a study are one family: Welch's test decides, its p adjusted by Holm. Beside it stands the exact
unpaired permutation p with the least value it can take. Accuracies are in percent points, and differences are
`variant - control`. A difference that was not seen is never called equality: the least one that these sizes would have
shown stands beside it.
"""

from __future__ import annotations

import pandas as pd

from bench.stats import equivalence, seed_statistics
from bench.stats.seed_statistics import WelchResult
from reports.analysis import study_rows
from reports.analysis.control import control_variant
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.sample_comparison import (
    ALPHA,
    NO_DIFFERENCE_SEEN,
    SAME,
    SampleComparison,
    compare_samples,
    holm_p_values,
    judge_difference,
    simultaneous_intervals,
)
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

COMPARED_COLUMNS = (
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "p_permutation",
    "p_permutation_smallest",
    "detectable",
    "detectable_in_family",
)
EQUIVALENCE_COLUMNS = ("margin", "same_within", "p_same", "operations_change")


def comparison_frame(study: Study, metric: str = "miou") -> pd.DataFrame:
    """Return a frame with a line per variant but the control, compared with it.

    Args:
        study: Rows of the study.
        metric: Name of a metric of a run, a fraction.

    Returns:
        Differences in percent points, with intervals that hold all at once. `detectable` is for one test at 5 %;
        `detectable_in_family` for Holm's strictest step, 5 % over the size of the family; missing where mIoU cannot
        differ by so much. `permutation_can_reach` says whether the permutation p could pass that step. `groups` is
        "two" where the seeds of either fall in two groups: a t-interval of such means covers too seldom (66 % for five
        seeds of which each learns with probability .8), and neither it nor a detectable difference is there.
        `margin` is the study's, missing where it has none. `same_within` is the least margin within which variant and
        control are the same by two one-sided tests at 5 %, and `p_same` their p for the study's margin; neither is
        adjusted. `operations_change` is in percent.
    """
    control = control_variant(study)
    others = [variant for variant in study.variants if variant != control] if control else []
    contrasts = [
        compare_samples(
            study_rows.percent_values(study, variant, metric), study_rows.percent_values(study, control, metric)
        )
        for variant in others
    ]
    family = sum(item.welch is not None for item in contrasts)
    grouped = grouped_variants(study)
    lines = []
    adjusted = zip(holm_p_values(contrasts), simultaneous_intervals(contrasts), strict=True)
    for variant, item, (p_holm, ends) in zip(others, contrasts, adjusted, strict=True):
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {"difference": item.difference, "operations_change": _operations_change(study, variant, control)}
        line |= {"p_holm": p_holm, "verdict": judge_difference(item.difference, p_holm)}
        apart = not grouped.isdisjoint((variant, control))
        line |= {"groups": "two" if apart else "one", "margin": study.margin or None}
        if item.welch is not None:
            line |= _tests(item, item.welch, family)
        if item.welch is not None and not apart:
            line |= {"low": ends[0], "high": ends[1], **_equivalence(item.welch, study.margin)}
            line |= {"detectable": item.detectable(), "detectable_in_family": item.detectable(ALPHA / family)}
        if line["verdict"] == NO_DIFFERENCE_SEEN and _at_most(line.get("p_same"), ALPHA):
            line["verdict"] = SAME
        lines.append(line)
    text = ("variant", "control", "groups", "permutation_can_reach", "verdict")
    columns = [
        "variant",
        "control",
        "n",
        "n_control",
        *COMPARED_COLUMNS,
        *EQUIVALENCE_COLUMNS,
        "permutation_can_reach",
        "groups",
        "verdict",
    ]
    return make_frame(lines, columns, whole=("n", "n_control"), text=text)


def _tests(item: SampleComparison, welch: WelchResult, family: int) -> dict[str, object]:
    """Return the p of both tests, and whether the permutation test could pass Holm's strictest step."""
    smallest = seed_statistics.smallest_permutation_p(item.n, item.n_other)
    return {
        "p": welch.p,
        "p_permutation": item.permutation and item.permutation.p,
        "p_permutation_smallest": smallest,
        "permutation_can_reach": "yes" if smallest * family <= ALPHA else "no",
    }


def _equivalence(welch: WelchResult, margin: float) -> dict[str, float | None]:
    """Return the least margin of equivalence, and p for the margin that was set, if one was."""
    p = equivalence.equivalence_p(welch, margin) if margin else None
    return {"same_within": equivalence.least_margin(welch, ALPHA), "p_same": p}


def _at_most(value: object, limit: float) -> bool:
    return isinstance(value, float) and value <= limit


def _operations_change(study: Study, variant: str, control: str) -> float | None:
    """Return how many percent more multiply-adds than the control a variant takes; None where either is not counted."""
    counts = [study_rows.number_at(study.measures.get(name, {}), "metrics", "gmacs") for name in (variant, control)]
    own, base = counts
    return None if own is None or not base else 100 * (own / base - 1)
