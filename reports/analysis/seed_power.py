"""Power of a study's seeds for a given difference, and the seeds that it would take."""

from __future__ import annotations

import pandas as pd

from bench.stats import seed_statistics, welch_power
from reports.analysis import study_rows
from reports.analysis.control import control_variant
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.sample_comparison import ALPHA, POWER, compare_samples
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame


def power_frame(study: Study, difference: float) -> pd.DataFrame:
    """Return a frame with a line per variant but the control: the power of its seeds for a given difference.

    Args:
        study: Rows of the study.
        difference: Difference of mIoU to show, in percent points, above 0.

    Returns:
        `seeds_needed` (per variant, for a probability of 80 %) and `power` are those of Welch's test for the spreads
        `sd` and `sd_control`, for one test at 5 %; the columns `_in_family` for 5 % over the number of comparisons.
        There are none where the seeds of either fall in two groups, whose spread plans nothing.

    Raises:
        ValueError: The difference is not above 0.
    """
    welch_power.check_difference(difference)  # even where nothing can be judged
    control = control_variant(study)
    others = [variant for variant in study.variants if variant != control] if control else []
    samples = {variant: study_rows.percent_values(study, variant, "miou") for variant in study.variants}
    contrasts = {variant: compare_samples(samples[variant], samples[control]) for variant in others}
    strictest = ALPHA / max(1, sum(item.welch is not None for item in contrasts.values()))
    grouped = grouped_variants(study)
    lines = []
    for variant, item in contrasts.items():
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {
            "sd": seed_statistics.summarize_sample(samples[variant]).sd,
            "sd_control": seed_statistics.summarize_sample(samples[control]).sd,
        }
        if item.sds is not None and item.design is not None and grouped.isdisjoint((variant, control)):
            for alpha, suffix in ((ALPHA, ""), (strictest, "_in_family")):
                line[f"seeds_needed{suffix}"] = welch_power.seeds_needed(difference, item.sds, POWER, alpha)
                line[f"power{suffix}"] = welch_power.achieved_power(difference, item.design, alpha)
                line[f"detectable{suffix}"] = item.detectable(alpha)
        lines.append(line)
    estimates = [f"{name}{suffix}" for suffix in ("", "_in_family") for name in ("seeds_needed", "power", "detectable")]
    columns = ["variant", "control", "n", "n_control", "sd", "sd_control", *estimates]
    whole = ("n", "n_control", "seeds_needed", "seeds_needed_in_family")
    return make_frame(lines, columns, whole=whole, text=("variant", "control"))
