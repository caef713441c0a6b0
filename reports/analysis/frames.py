"""Tables of a study as data frames of numbers: accuracy, seeds, cost, class IoU, failures, and the paper's figures.

Accuracies are in percent points. Missing numbers are missing cells. Every frame depends on the rows alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pandas as pd

from bench.results.rows import REGION_METRICS, comparable_metrics
from bench.stats.seed_statistics import SampleSummary, summarize_sample
from reports.analysis import study_rows
from reports.analysis.learned_cue import grouped_variants, lookalike_scores
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

BOUNDARY_METRICS = (
    "boundary_iou",
    "boundary_f",
    "interior_miou",
    "error_near_boundary",
    "boundary_iou_refined",
    "boundary_f_refined",
)
REFINABLE_METRICS = ("miou", "boundary_iou", "boundary_f")
OBJECT_SIZES = ("small", "medium", "large")
ACCURACY_METRICS = ("miou", "pixel_accuracy", "miou_refined", "pixel_accuracy_refined")
REFINED_METRICS = ("miou_refined", "pixel_accuracy_refined")
COST_PATHS = {
    "parameters": ("parameters",),
    "gmacs": ("gmacs",),
    "gflops": ("gflops",),
    "module_gmacs": ("module_gmacs",),
    "elementwise_gops": ("elementwise_gops",),
    "inside_share": ("inside_share",),
    **{name: (name,) for name in ("step_memory_gib", "target_size", "target_memory_gib", "target_gmacs")},
    **{
        f"{phase}_images_per_second_{part}": (f"{phase}_images_per_second", part)
        for phase in ("train", "inference")
        for part in ("median", "q1", "q3", "n")
    },
}
PROVENANCE = {
    **dict.fromkeys(("parameters", "gmacs", "gflops", "module_gmacs", "elementwise_gops"), "derived"),
    **dict.fromkeys(("target_gmacs", "target_size"), "derived"),
    **dict.fromkeys(("step_memory_gib", "target_memory_gib"), "predicted"),
}
WHOLE_COLUMNS = ("parameters", "target_size", "train_images_per_second_n", "inference_images_per_second_n")


def accuracy_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: runs, runs with a value, and each accuracy's mean, sd and 95 %
    t-interval.

    Accuracies are in percent points. Refined ones have columns only where a run has a value. There is no t-interval
    where seeds fall in two groups: it covers the mean too seldom. `lookalike_low` and `lookalike_high` are the least
    and the most of the pixels of look-alike classes that a seed has right, where any run was scored on them.
    """
    names = [
        name for name in ACCURACY_METRICS if name not in REFINED_METRICS or study_rows.metric_values(study.runs, name)
    ]
    grouped = grouped_variants(study)
    lines = []
    for variant in study.variants:
        runs = study.runs_of(variant)
        line: dict[str, object] = {
            "variant": variant,
            "runs": len(runs),
            "n": len(study_rows.metric_values(runs, "miou")),
        }
        for name in names:
            summary = summarize_sample([100 * value for value in study_rows.metric_values(runs, name)])
            line |= _columns(name, replace(summary, low=None, high=None) if variant in grouped else summary)
        scores = [100 * score for score in lookalike_scores(study, variant)]
        line |= {"lookalike_low": min(scores, default=None), "lookalike_high": max(scores, default=None)}
        lines.append(line)
    columns = ["variant", "runs", "n", *(column for name in names for column in _columns(name, summarize_sample([])))]
    columns += ["lookalike_low", "lookalike_high"] * any(line["lookalike_low"] is not None for line in lines)
    return make_frame(lines, columns, whole=("runs", "n"))


def seeds_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per run: its axes, status and accuracies in percent points."""
    own = ("variant", "seed", "status", *ACCURACY_METRICS)
    fields = [name for name in study_rows.study_axes(study) if name not in own]
    lines = [
        {
            "variant": run["variant"],
            **{field: study_rows.value_text(study_rows.value_at(run, "axes", field)) for field in fields},
            "seed": study_rows.seed_of(run),
            "status": str(run.get("status")),
            **{name: _percent(study_rows.number_at(run, "metrics", name)) for name in ACCURACY_METRICS},
        }
        for run in study.runs
    ]
    text = ("variant", *fields, "status")
    return make_frame(lines, ["variant", *fields, "seed", "status", *ACCURACY_METRICS], whole=("seed",), text=text)


def cost_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant; a column's name ends in its source: `derived` (counted), `predicted` or
    `measured`.
    """
    lines = []
    for variant in study.variants:
        row = study.measures.get(variant, {})
        line: dict[str, object] = {"variant": variant, "status": str(row.get("status", "not run"))}
        for name, path in COST_PATHS.items():
            line[_sourced(name)] = study_rows.number_at(row, "metrics", *path)
        lines.append(line)
    columns = ["variant", "status", *map(_sourced, COST_PATHS)]
    return make_frame(lines, columns, whole=tuple(map(_sourced, WHOLE_COLUMNS)), text=("variant", "status"))


def class_iou_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per class: by variant, the mean IoU in percent over the seeds in which it has one."""
    names = dict.fromkeys(name for run in study.runs for name in study_rows.value_at(run, "metrics", "iou") or {})
    lines = []
    for name in names:
        line: dict[str, object] = {"class": name}
        for variant in study.variants:
            ious = [
                study_rows.number_at(run, "metrics", "iou", name)
                for run in study.runs_of(variant)
                if study_rows.has_succeeded(run)
            ]
            line[variant] = summarize_sample([100 * value for value in ious if value is not None]).mean
        lines.append(line)
    return make_frame(lines, ["class", *study.variants], text=("class",))


def boundary_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: mean, sd and n of the metrics of boundaries and object sizes.

    Percent points. Object sizes are named `size:small`, radii of the trimap curve `trimap:3`. A mean over a region has
    a column `_classes` too: the number of classes that it goes over, the least of the runs. Empty where no run has any.
    """
    runs = [{**run, "metrics": comparable_metrics(run)} for run in study.runs]
    by_variant: dict[str, list[study_rows.Row]] = {}
    for run in runs:
        by_variant.setdefault(str(run["variant"]), []).append(run)
    paths: list[tuple[str, ...]] = [(name,) for name in BOUNDARY_METRICS]
    for name in ("size_iou", "trimap"):
        inner = dict.fromkeys(key for run in runs for key in study_rows.value_at(run, "metrics", name) or {})
        paths += [(name, key) for key in sorted(inner, key=_size)]
    names = {":".join(path).replace("size_iou", "size"): path for path in paths if _points(runs, *path)}
    regions = {name: (REGION_METRICS[path[0]], *path[1:]) for name, path in names.items() if path[0] in REGION_METRICS}
    lines = []
    for variant in study.variants if names else ():
        own = by_variant.get(variant, [])
        line: dict[str, object] = {"variant": variant}
        for name, path in names.items():
            summary = summarize_sample(_points(own, *path))
            line |= {f"{name}_mean": summary.mean, f"{name}_sd": summary.sd, f"{name}_n": summary.n}
            if name in regions:
                line[f"{name}_classes"] = min(_values(own, *regions[name]), default=None)
        lines.append(line)
    columns = [f"{name}_{part}" for name in names for part in ("mean", "sd", "n", *["classes"] * (name in regions))]
    whole = [column for column in columns if column.endswith(("_n", "_classes"))]
    return make_frame(lines, ["variant", *columns], whole=whole)


def refinement_frame(study: Study) -> pd.DataFrame:
    """Return a frame with a line per variant: mIoU after boundary refinement, and the change of each metric by it.

    Percent points. Changes are taken within each run, so they are paired: mean and 95 % t-interval over the seeds.
    Empty where no run was refined.
    """
    lines = []
    for variant in study.variants if study_rows.metric_values(study.runs, "miou_refined") else ():
        runs = [run for run in study.runs_of(variant) if study_rows.has_succeeded(run)]
        refined = summarize_sample(_points(runs, "miou_refined"))
        line: dict[str, object] = {"variant": variant, "n": refined.n}
        line |= {"miou_refined_mean": refined.mean, "miou_refined_sd": refined.sd}
        for name in REFINABLE_METRICS:
            summary = summarize_sample([change for run in runs if (change := _change(run, name)) is not None])
            line |= {f"{name}_change": summary.mean, f"{name}_low": summary.low, f"{name}_high": summary.high}
        lines.append(line)
    changes = [f"{name}_{part}" for name in REFINABLE_METRICS for part in ("change", "low", "high")]
    return make_frame(lines, ["variant", "n", "miou_refined_mean", "miou_refined_sd", *changes], whole=("n",))


def failures_frame(study: Study) -> pd.DataFrame:
    """Return a frame of what has no value, with the reason: failed runs, planned runs without a row, failed
    measurements.
    """
    lines = []
    for variant in study.variants:
        lines += [
            _failure(variant, str(study_rows.seed_of(run)), run)
            for run in study.runs_of(variant)
            if not study_rows.metric_values([run], "miou")
        ]
        missing = study.missing_seeds(variant)
        if missing:
            absent = {"status": "not run", "message": "asked for, and no row is here"}
            lines.append(_failure(variant, ", ".join(map(str, missing)), absent))
        measure = study.measures.get(variant)
        if measure is not None and not study_rows.has_succeeded(measure):
            lines.append(_failure(variant, "cost", measure))
    columns = ["variant", "seed", "status", "message"]
    return make_frame(lines, columns, text=columns)


def _points(runs: Iterable[study_rows.Row], *path: str) -> list[float]:
    """A fraction of the runs that ended well and have it, in percent points."""
    return [100 * value for value in _values(runs, *path)]


def _values(runs: Iterable[study_rows.Row], *path: str) -> list[float]:
    """A metric of the runs that ended well and have it."""
    values = (study_rows.number_at(run, "metrics", *path) for run in runs if study_rows.has_succeeded(run))
    return [value for value in values if value is not None]


def _change(run: study_rows.Row, name: str) -> float | None:
    """Change of this metric by refinement in one run, percent points."""
    after, before = (study_rows.number_at(run, "metrics", key) for key in (f"{name}_refined", name))
    return None if after is None or before is None else 100 * (after - before)


def _size(key: str) -> tuple[float, str]:
    """Return a sorting key of a size's or radius's name, by its meaning; rows hold them in alphabetical order."""
    if key in OBJECT_SIZES:
        return OBJECT_SIZES.index(key), key
    return float(key) if key.isdecimal() else math.inf, key


def _columns(name: str, summary: SampleSummary) -> dict[str, float | None]:
    return {
        f"{name}_mean": summary.mean,
        f"{name}_sd": summary.sd,
        f"{name}_low": summary.low,
        f"{name}_high": summary.high,
    }


def _failure(variant: str, which: str, row: study_rows.Row) -> dict[str, object]:
    status = str(row.get("status"))
    message = str(row.get("message") or "") or ("ended without an mIoU" if status == "ok" else "no message")
    return {"variant": variant, "seed": which, "status": status, "message": message}


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _sourced(name: str) -> str:
    return f"{name}_{PROVENANCE.get(name, 'measured')}"
