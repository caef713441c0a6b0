"""Tables of a study as data frames of numbers: accuracy, seeds, cost, class IoU, failures, and the paper's figures.

Accuracies are in percent points. Missing numbers are missing cells. Every frame depends on the rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from bench.statistics import Summary, summarise
from experiments import paper
from reports import rows
from reports.rows import Study

ACCURACIES = ("miou", "pixel_accuracy", "miou_refined", "pixel_accuracy_refined")
REFINED = ("miou_refined", "pixel_accuracy_refined")
COSTS = {
    "parameters": ("parameters",),
    "gmacs": ("gmacs",),
    "gflops": ("gflops",),
    "peak_rss_gib": ("peak_rss_gib",),
    **{
        f"{phase}_images_per_second_{part}": (f"{phase}_images_per_second", part)
        for phase in ("train", "inference")
        for part in ("median", "q1", "q3", "n")
    },
}
PROVENANCE = {"parameters": "derived", "gmacs": "derived", "gflops": "derived"}
WHOLE = ("parameters", "train_images_per_second_n", "inference_images_per_second_n")


def accuracy(study: Study) -> pd.DataFrame:
    """A line a variant: runs, runs with a value, and mean, sd and 95 % t-interval of each accuracy that any run has."""
    names = [name for name in ACCURACIES if name not in REFINED or rows.values(study.runs, name)]
    lines = []
    for variant in study.variants:
        runs = study.of(variant)
        line: dict[str, object] = {"variant": variant, "runs": len(runs), "n": len(rows.values(runs, "miou"))}
        for name in names:
            line |= _columns(name, summarise([100 * value for value in rows.values(runs, name)]))
        lines.append(line)
    columns = ["variant", "runs", "n", *(column for name in names for column in _columns(name, summarise([])))]
    return _frame(lines, columns, whole=("runs", "n"))


def seeds(study: Study) -> pd.DataFrame:
    """A line a run: its axes, status and accuracies."""
    fields = rows.axes(study)
    lines = [
        {
            "variant": run["variant"],
            **{field: rows.plain(rows.lookup(run, "axes", field)) for field in fields},
            "seed": rows.seed(run),
            "status": str(run.get("status")),
            **{name: _percent(rows.number(run, "metrics", name)) for name in ACCURACIES},
        }
        for run in study.runs
    ]
    text = ("variant", *fields, "status")
    return _frame(lines, ["variant", *fields, "seed", "status", *ACCURACIES], whole=("seed",), text=text)


def cost(study: Study) -> pd.DataFrame:
    """A line a variant; each column's name ends in where it comes from: counted (`derived`) or `measured`."""
    lines = []
    for variant in study.variants:
        row = study.measures.get(variant, {})
        line: dict[str, object] = {"variant": variant, "status": str(row.get("status", "not run"))}
        for name, path in COSTS.items():
            line[_sourced(name)] = rows.number(row, "metrics", *path)
        lines.append(line)
    columns = ["variant", "status", *map(_sourced, COSTS)]
    return _frame(lines, columns, whole=tuple(map(_sourced, WHOLE)), text=("variant", "status"))


def class_iou(study: Study) -> pd.DataFrame:
    """A line a class, a column a variant: mean IoU over the seeds in which the class has one."""
    names = dict.fromkeys(name for run in study.runs for name in rows.lookup(run, "metrics", "iou") or {})
    lines = []
    for name in names:
        line: dict[str, object] = {"class": name}
        for variant in study.variants:
            found = [rows.number(run, "metrics", "iou", name) for run in study.of(variant) if rows.succeeded(run)]
            line[variant] = summarise([100 * value for value in found if value is not None]).mean
        lines.append(line)
    return _frame(lines, ["class", *study.variants], text=("class",))


def failures(study: Study) -> pd.DataFrame:
    """What has no value, and why: runs that did not end well or were never made, and measures that failed."""
    lines = []
    for variant in study.variants:
        lines += [
            _failure(variant, str(rows.seed(run)), run) for run in study.of(variant) if not rows.values([run], "miou")
        ]
        missing = study.missing(variant)
        if missing:
            absent = {"status": "not run", "message": "asked for, and no row is here"}
            lines.append(_failure(variant, ", ".join(map(str, missing)), absent))
        measure = study.measures.get(variant)
        if measure is not None and not rows.succeeded(measure):
            lines.append(_failure(variant, "cost", measure))
    columns = ["variant", "seed", "status", "message"]
    return _frame(lines, columns, text=columns)


def quoted(table: int) -> pd.DataFrame:
    """A table of the paper as printed: a line a row, a column a column, every cell a string."""
    printed = paper.TABLES[table]
    lines: dict[str, dict[str, object]] = {row: {"row": row} for row in printed.rows}
    for figure in printed.figures:
        lines[figure.row][figure.column] = figure.printed
    columns = ["row", *printed.columns]
    return _frame(list(lines.values()), columns, text=columns)


def csv(frame: pd.DataFrame) -> str:
    """The frame as CSV with six significant digits, which depend on nothing but its numbers."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _columns(name: str, summary: Summary) -> dict[str, float | None]:
    return {
        f"{name}_mean": summary.mean,
        f"{name}_sd": summary.sd,
        f"{name}_low": summary.low,
        f"{name}_high": summary.high,
    }


def _failure(variant: str, which: str, row: rows.Row) -> dict[str, object]:
    status = str(row.get("status"))
    message = str(row.get("message") or "") or ("ended without an mIoU" if status == "ok" else "no message")
    return {"variant": variant, "seed": which, "status": status, "message": message}


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _sourced(name: str) -> str:
    return f"{name}_{PROVENANCE.get(name, 'measured')}"


def _frame(
    lines: Sequence[dict[str, object]],
    columns: Sequence[str],
    *,
    whole: Iterable[str] = (),
    text: Iterable[str] = ("variant",),
) -> pd.DataFrame:
    kinds = dict.fromkeys(columns, "Float64") | dict.fromkeys(whole, "Int64") | dict.fromkeys(text, "string")
    frame = pd.DataFrame(list(lines), columns=list(columns), dtype=object)
    return frame.astype(kinds)
