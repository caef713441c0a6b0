"""Each variant against one control: what the seeds show, what they cannot show, and how many would be needed.

The comparisons of a study are one family: Welch's test decides, its p adjusted by Holm. Beside it stands the exact
unpaired permutation p with the least value it can take. Accuracies are in percent points, and differences are
`variant - control`. A difference that was not seen is never called equality: the least one that these sizes would have
shown stands beside it.
"""

from __future__ import annotations

import pandas as pd

from bench.stats import seed_statistics
from reports.analysis import study_rows
from reports.analysis.control import control_variant
from reports.analysis.sample_comparison import ALPHA, compare_samples, holm_p_values, judge_difference
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


def comparison_frame(study: Study, metric: str = "miou") -> pd.DataFrame:
    """Return a frame with a line per variant but the control, compared with it.

    Args:
        study: Rows of the study.
        metric: Name of a metric of a run, a fraction.

    Returns:
        Differences in percent points. `detectable` is for one test at 5 %; `detectable_in_family` for Holm's
        strictest step, 5 % over the size of the family. `permutation_can_reach` says whether the permutation p
        could pass that step.
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
    lines = []
    for variant, item, holm in zip(others, contrasts, holm_p_values(contrasts), strict=True):
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {"difference": item.difference, "p_holm": holm, "verdict": judge_difference(item.difference, holm)}
        if item.welch is not None:
            smallest = seed_statistics.smallest_permutation_p(item.n, item.n_other)
            line |= {"low": item.welch.low, "high": item.welch.high, "p": item.welch.p}
            line |= {
                "p_permutation": item.permutation and item.permutation.p,
                "p_permutation_smallest": smallest,
                "permutation_can_reach": "yes" if smallest * family <= ALPHA else "no",
                "detectable": item.detectable(),
                "detectable_in_family": item.detectable(ALPHA / family),
            }
        lines.append(line)
    text = ("variant", "control", "permutation_can_reach", "verdict")
    columns = ["variant", "control", "n", "n_control", *COMPARED_COLUMNS, "permutation_can_reach", "verdict"]
    return make_frame(lines, columns, whole=("n", "n_control"), text=text)
