"""How much of the context each variant recovers, and from how far: look-alike accuracy by distance of the cue.

Rows of `scenes:v2` carry the counts (`bench.evaluation.cue_metrics`). With two seeds or more an interval is Student's,
of the mean over seeds; with one it is of the choice of pictures, 1.96 standard errors to each side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from bench.evaluation.cue_metrics import BIN_PX, CHANCE, TOLD
from bench.stats.half_range import half_range
from bench.stats.seed_statistics import summarize_sample
from reports.analysis import study_rows
from reports.analysis.study_rows import Row, Study
from reports.formats.data_frames import make_frame

LEAST_PIXELS = 0.02  # share of a variant's pixels that a class of distance needs to count for the half-range
NORMAL_95 = 1.96  # standard errors on either side
REFERENCES = {  # row -> metric of `references` that is its accuracy, and its mIoU where it has one
    "blind": ("blind_accuracy", "blind_miou"),
    "unplaced": ("unplaced_accuracy", ""),
    "told": ("told_accuracy", "told_miou"),
}
CURVE_COLUMNS = ("distance_from_px", "distance_below_px", "n", "accuracy", "low", "high", "pixels")


def cue_distance_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant and class of distance: look-alike accuracy in percent, and its interval.

    It is empty where no run was scored by distance.
    """
    lines = []
    for variant in study.variants:
        runs = _scored(study, variant)
        starts = sorted({int(name) for run in runs for name in _by_distance(run, "cue_accuracy")})
        for start in starts:
            seen = [run for run in runs if str(start) in _by_distance(run, "cue_accuracy")]
            low, high, mean = _interval(seen, str(start))
            pixels = sum(int(_by_distance(run, "cue_pixels").get(str(start), 0)) for run in seen)
            lines.append(
                {
                    "variant": variant,
                    "distance_from_px": start,
                    "distance_below_px": start + BIN_PX,
                    "n": len(seen),
                    "accuracy": mean,
                    "low": low,
                    "high": high,
                    "pixels": pixels,
                }
            )
    whole = ("distance_from_px", "distance_below_px", "n", "pixels")
    return make_frame(lines, ["variant", *CURVE_COLUMNS], whole=whole)


def context_frame(study: Study, curves: pd.DataFrame) -> pd.DataFrame:
    """Return a frame with a line per variant, then one per reference row; empty where no run was scored by distance.

    `share` is the share of the context that is recovered, (row - blind) / (told - blind) of look-alike accuracy, in
    percent, with mean, sd and interval over seeds. `half_range_px` is where the mean accuracy has fallen half the way
    from its highest value to chance: 0 where it is not above chance, missing where it never falls so low, which
    `half_range_above_px` then says up to where.

    Args:
        study: Rows of the study.
        curves: Its `cue_distance_frame`.
    """
    lines: list[dict[str, object]] = []
    for variant in study.variants:
        runs = _scored(study, variant)
        if not runs:
            continue
        share = summarize_sample([100 * value for value in study_rows.metric_values(runs, "context_share")])
        accuracy = summarize_sample([100 * value for value in study_rows.metric_values(runs, "lookalike_accuracy")])
        miou = summarize_sample([100 * value for value in study_rows.metric_values(runs, "miou")])
        line: dict[str, object] = {"row": variant, "kind": "measured", "n": len(runs), "miou": miou.mean}
        line |= {"accuracy": accuracy.mean, "share": share.mean, "share_sd": share.sd}
        lines.append(line | {"share_low": share.low, "share_high": share.high} | _half_range(curves, variant))
    runs = [run for variant in study.variants for run in _scored(study, variant)]
    for name, (accuracy_of, miou_of) in REFERENCES.items() if runs else ():
        accuracy_value = study_rows.number_at(runs[0], "metrics", "references", accuracy_of)
        miou_value = study_rows.number_at(runs[0], "metrics", "references", miou_of) if miou_of else None
        share_value = None if accuracy_value is None else 100 * (accuracy_value - CHANCE) / (TOLD - CHANCE)
        lines.append(
            {
                "row": name,
                "kind": "derived",
                "miou": _percent(miou_value),
                "accuracy": _percent(accuracy_value),
                "share": share_value,
            }
        )
    numbers = ("miou", "accuracy", "share", "share_sd", "share_low", "share_high", "half_range_px")
    columns = ["row", "kind", "n", *numbers, "half_range_above_px"]
    return make_frame(lines, columns, whole=("n",), text=("row", "kind"))


def _scored(study: Study, variant: str) -> list[Row]:
    return [
        run for run in study.runs_of(variant) if study_rows.has_succeeded(run) and _by_distance(run, "cue_accuracy")
    ]


def _by_distance(run: Row, metric: str) -> dict[str, float]:
    """Return a metric's finite values by the first pixel of the class of distance; what is malformed is left out."""
    values = study_rows.value_at(run, "metrics", metric)
    items = values.items() if isinstance(values, Mapping) else ()
    numbers = {str(name): study_rows.finite_number(value) for name, value in items if str(name).isdecimal()}
    return {name: number for name, number in numbers.items() if number is not None}


def _interval(runs: Sequence[Row], name: str) -> tuple[float | None, float | None, float | None]:
    """Return low, high and mean in percent."""
    values = [100 * _by_distance(run, "cue_accuracy")[name] for run in runs]
    if len(values) > 1:
        summary = summarize_sample(values)
        return summary.low, summary.high, summary.mean
    error = _by_distance(runs[0], "cue_error").get(name)
    if error is None:
        return None, None, values[0]
    return max(0.0, values[0] - 100 * NORMAL_95 * error), min(100.0, values[0] + 100 * NORMAL_95 * error), values[0]


def _half_range(curves: pd.DataFrame, variant: str) -> dict[str, object]:
    own = curves[curves["variant"] == variant]
    own = own[own["pixels"] >= LEAST_PIXELS * own["pixels"].sum()]
    middles = [float(value) for value in (own["distance_from_px"] + own["distance_below_px"]) / 2]
    accuracies, lows = ([float(value) / 100 for value in own[name].fillna(0)] for name in ("accuracy", "low"))
    distance = half_range(middles, accuracies, lows, chance=CHANCE)
    if math.isinf(distance):
        return {"half_range_above_px": middles[-1]}
    return {"half_range_px": distance}


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value
