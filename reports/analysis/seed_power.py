"""Power of a study's seeds for a given difference, and the seeds that it would take."""

from __future__ import annotations

import pandas as pd

from bench.stats import seed_statistics
from reports.analysis import study_rows
from reports.analysis.control import control_variant
from reports.analysis.sample_comparison import ALPHA, POWER, compare_samples
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame


def power_frame(study: Study, difference: float) -> pd.DataFrame:
    """Return a frame with a line per variant but the control: the power of its seeds for a given difference.

    Args:
        study: Rows of the study.
        difference: Difference of mIoU to show, in percent points, above 0.

    Returns:
        `sd_pooled` is that of variant and control together. `seeds_needed` (per variant, for a probability of 80 %) and
        `power` are for one test at 5 %; the columns `_in_family` for 5 % over the number of comparisons.

    Raises:
        ValueError: The difference is not above 0.
    """
    seed_statistics.achieved_power(
        difference, 1, 2
    )  # refuses an impossible difference even where nothing can be judged
    control = control_variant(study)
    others = [variant for variant in study.variants if variant != control] if control else []
    samples = {variant: study_rows.percent_values(study, variant, "miou") for variant in study.variants}
    contrasts = {variant: compare_samples(samples[variant], samples[control]) for variant in others}
    strictest = ALPHA / max(1, sum(item.welch is not None for item in contrasts.values()))
    lines = []
    for variant, item in contrasts.items():
        line: dict[str, object] = {"variant": variant, "control": control, "n": item.n, "n_control": item.n_other}
        line |= {
            "sd": seed_statistics.summarize_sample(samples[variant]).sd,
            "sd_control": seed_statistics.summarize_sample(samples[control]).sd,
        }
        if item.welch is not None and item.sd is not None:
            n, sd = min(item.n, item.n_other), item.sd
            line["sd_pooled"] = sd
            for alpha, suffix in ((ALPHA, ""), (strictest, "_in_family")):
                line[f"seeds_needed{suffix}"] = seed_statistics.seeds_needed(difference, sd, POWER, alpha)
                line[f"power{suffix}"] = seed_statistics.achieved_power(difference, sd, n, alpha)
                line[f"detectable{suffix}"] = seed_statistics.detectable_difference(sd, n, POWER, alpha)
        lines.append(line)
    estimates = [f"{name}{suffix}" for suffix in ("", "_in_family") for name in ("seeds_needed", "power", "detectable")]
    columns = ["variant", "control", "n", "n_control", "sd", "sd_control", "sd_pooled", *estimates]
    whole = ("n", "n_control", "seeds_needed", "seeds_needed_in_family")
    return make_frame(lines, columns, whole=whole, text=("variant", "control"))
