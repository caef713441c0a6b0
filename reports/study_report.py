"""A study's report: the question, what was measured, the plot, what the paper prints, and under what it was measured.

Everything is a function of the rows: the same store gives the same bytes.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator

import pandas as pd

from experiments import paper
from reports import plots, rows, setting, tables
from reports.markdown import DASH, bullets, cell, code, table
from reports.rows import Study

QUESTIONS = {
    "table 5": "What does each component add: pyramid features, the spatial path, a stronger backbone? (Table 5)",
    "table 6": "How many sampling points, on how many feature scales? (Table 6)",
}
GRID_OF_TABLE_6 = {"points", "levels"}
ONE_SEED = "One seed has no spread to judge a difference by."
MOST_CLASSES = 24  # a longer list of classes is left to class_iou.csv


def files(study: Study) -> dict[str, bytes]:
    """Every file of the report by name: the page, each table as CSV, and the plot."""
    frames = {
        "accuracy.csv": tables.accuracy(study),
        "seeds.csv": tables.seeds(study),
        "cost.csv": tables.cost(study),
        "class_iou.csv": tables.class_iou(study),
        "failures.csv": tables.failures(study),
    }
    number = quoted_table(study)
    if number is not None:
        frames["quoted.csv"] = tables.quoted(number)
    made = {name: tables.csv(frame).encode() for name, frame in frames.items()}
    made |= {
        f"accuracy.{suffix}": data for suffix, data in plots.draw(study, f"measured: {setting.short(study)}").items()
    }
    made["report.md"] = page(study).encode()
    return made


def page(study: Study) -> str:
    """The report in Markdown."""
    sections: list[Callable[[Study], Iterator[str]]] = [
        _opening,
        _accuracy,
        _plot,
        _every_seed,
        _cost,
        _quoted,
        _classes,
        _failures,
        _differences,
        _protocol,
        _environment,
    ]
    return "\n".join(part for section in sections for part in section(study))


def question(study: Study) -> str:
    """What the study asks, in one line."""
    if study.kind in QUESTIONS:
        return QUESTIONS[study.kind]
    names = [rows.LABELS.get(name, name) for name in rows.axes(study)]
    return f"How do accuracy and cost change with {' and '.join(names) or 'the settings'}?"


def quoted_table(study: Study) -> int | None:
    """The paper's table that belongs beside this study, if there is one."""
    if study.kind.startswith("table "):
        number = study.kind.removeprefix("table ")
        return int(number) if number.isdigit() and int(number) in paper.TABLES else None
    names = set(rows.axes(study))
    return 6 if names and names <= GRID_OF_TABLE_6 else None


def _opening(study: Study) -> Iterator[str]:
    yield f"# {question(study)}\n"
    yield f"Measured on: {cell(setting.headline(study))}.\n"
    yield bullets(_in_short(study))


def _in_short(study: Study) -> Iterator[str]:
    statuses = collections.Counter(str(run.get("status")) for run in study.runs)
    counts = ", ".join(f"{count} {cell(status)}" for status, count in sorted(statuses.items()))
    yield f"{_count(len(study.runs), 'run')} of {_count(len(study.variants), 'variant')}: {counts or 'none yet'}."
    frame = tables.accuracy(study).dropna(subset=["miou_mean"])
    if len(frame) > 1:
        ordered = frame.sort_values("miou_mean", ascending=False, kind="stable")
        best, worst = ordered.iloc[0], ordered.iloc[-1]
        yield (
            f"Highest mean mIoU: {cell(best['variant'])}, {_spread(best, 'miou')} (n = {best['n']}); "
            f"lowest: {cell(worst['variant'])}, {_spread(worst, 'miou')} (n = {worst['n']}). "
            + (
                "No difference has been tested here: read the intervals."
                if min(best["n"], worst["n"]) > 1
                else ONE_SEED
            )
        )
    due = sum(len(study.missing(variant)) for variant in study.variants)
    if due:
        yield f"Not all of the plan has been run, {_count(due, 'run')} missing: these figures are not final."
    yield from (f"{cell(problem)}." for problem in study.problems)


def _accuracy(study: Study) -> Iterator[str]:
    frame = tables.accuracy(study)
    shown = {"miou": "mIoU", "pixel_accuracy": "pixel accuracy", "miou_refined": "mIoU, refined"}
    present = {name: title for name, title in shown.items() if f"{name}_mean" in frame}
    columns = ["variant", "n"]
    for title in present.values():
        columns += [f"{title}, %", "95 % interval"]
    unfinished = bool((frame["runs"] != frame["n"]).any())
    columns += ["runs without a value"] * unfinished
    lines = []
    for _, line in frame.iterrows():
        cells = [line["variant"], str(line["n"])]
        for name in present:
            cells += [_spread(line, name), _interval(line, name)]
        lines.append(cells + [str(line["runs"] - line["n"])] * unfinished)
    refined = " Refined: after boundary refinement at test." * ("miou_refined" in present)
    yield f"## Accuracy, measured ({_short(study)})\n"
    yield (
        "Percent points: mean ± sample standard deviation over n seeds, and Student's t interval of the mean. "
        f"One seed has neither.{refined}\n"
    )
    yield table(columns, lines)
    backbones = setting.backbones(study)
    if len(backbones) > 1:
        yield "Backbones differ, and so may what they start from:\n"
        yield bullets(f"{cell(backbone)}: {cell(', '.join(names))}" for backbone, names in backbones.items())


def _plot(study: Study) -> Iterator[str]:
    against = "N" if plots.point_series(study) else "variant"
    yield f"![mIoU against {against}; a dot a seed, mean and 95 % interval](accuracy.png)\n"
    yield "A dot is a seed, a bar the 95 % interval of the mean (cut at the frame), × a run without a value.\n"


def _every_seed(study: Study) -> Iterator[str]:
    yield f"## Every seed, measured ({_short(study)})\n"
    yield "mIoU / pixel accuracy in percent points, or what became of the run.\n"
    lines = []
    for variant in study.variants:
        by_seed = {rows.seed(run): _outcome(run) for run in study.of(variant)}
        lines.append([variant, *(by_seed.get(seed, DASH) for seed in study.seeds)])
    yield table(["variant", *(f"seed {seed}" for seed in study.seeds)], lines)


def _cost(study: Study) -> Iterator[str]:
    yield "## Cost\n"
    if not study.measures:
        yield "Not measured yet.\n"
        return
    yield (
        "Parameters and operations are derived by counting (GFLOPs = 2 × GMACs). Memory is the peak resident set of "
        "the whole process, libraries included. Speed is the median (quartiles) over repetitions. "
        "Each variant alone on the machine, under the protocol below the table.\n"
    )
    columns = [
        "variant",
        "parameters (derived)",
        "GMACs (derived)",
        "GFLOPs (derived)",
        "peak RSS, GiB (measured)",
        "training, images/s (measured)",
        "inference, images/s (measured)",
    ]
    lines = []
    for _, line in tables.cost(study).iterrows():
        cells = [
            line["variant"],
            _number(line["parameters_derived"], ",d"),
            _number(line["gmacs_derived"], ".4g"),
            _number(line["gflops_derived"], ".4g"),
            _number(line["peak_rss_gib_measured"], ".2f"),
            _rate(line, "train"),
            _rate(line, "inference"),
        ]
        lines.append(cells)
    yield table(columns, lines)
    how = [(name, text) for name, text in setting.measuring(study) if text]
    if how:
        yield table(["how cost was measured", "value"], [list(pair) for pair in how], left=2)


def _quoted(study: Study) -> Iterator[str]:
    number = quoted_table(study)
    if number is None:
        return
    printed = paper.TABLES[number]
    yield f"## What the paper prints: Table {number}, *quoted*\n"
    yield f"{printed.caption}. Nothing in it was measured here; what differs from its setting is listed below.\n"
    frame = tables.quoted(number)
    units = {figure.column: figure.unit for figure in printed.figures}
    columns = ["row", *(f"{name}, {units[name]} (quoted)" for name in printed.columns)]
    yield table(columns, frame.astype(str).to_numpy().tolist())
    yield "Where the paper disagrees with itself:\n"
    yield bullets(paper.notes(number))


def _classes(study: Study) -> Iterator[str]:
    frame = tables.class_iou(study)
    if frame.empty:
        return
    yield f"## IoU by class, measured ({_short(study)})\n"
    if len(frame) > MOST_CLASSES:
        yield f"{len(frame)} classes: see class_iou.csv.\n"
        return
    yield f"Percent points, mean over the seeds in which the class has an IoU; {DASH} where none has.\n"
    lines = [
        [line["class"], *(_number(line[variant], ".1f") for variant in study.variants)] for _, line in frame.iterrows()
    ]
    yield table(["class", *study.variants], lines)


def _failures(study: Study) -> Iterator[str]:
    frame = tables.failures(study)
    yield "## Failures\n"
    if frame.empty:
        yield "None: every run has a value.\n"
        return
    yield table(list(frame.columns), frame.astype(str).to_numpy().tolist(), left=4)


def _differences(study: Study) -> Iterator[str]:
    yield "## What differs from the paper's setting\n"
    lines = setting.differences(study)
    yield (
        table(["what", "paper", "here"], [list(line) for line in lines], left=3)
        if lines
        else "Nothing that rows record.\n"
    )


def _protocol(study: Study) -> Iterator[str]:
    yield "## Protocol\n"
    yield "Where variants differ, their values stand side by side, in the order of the tables above.\n"
    yield table(["what", "value"], [list(pair) for pair in setting.protocol(study)], left=2)
    if study.commands:
        yield "## Command\n"
        yield code("\n".join(study.commands))


def _environment(study: Study) -> Iterator[str]:
    facts = setting.environment(study)
    if facts:
        yield "## Environment\n"
        yield table(["what", "value"], [list(pair) for pair in facts], left=2)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _short(study: Study) -> str:
    return cell(setting.short(study))


def _spread(line: pd.Series, name: str) -> str:
    mean, sd = line[f"{name}_mean"], line[f"{name}_sd"]
    if pd.isna(mean):
        return DASH
    return f"{mean:.2f}" if pd.isna(sd) else f"{mean:.2f} ± {sd:.2f}"


def _interval(line: pd.Series, name: str) -> str:
    low, high = line[f"{name}_low"], line[f"{name}_high"]
    return DASH if pd.isna(low) else f"{low:.2f} to {high:.2f}"


def _outcome(run: rows.Row) -> str:
    status = str(run.get("status"))
    if status != "ok":
        return status
    found = [rows.number(run, "metrics", name) for name in ("miou", "pixel_accuracy")]
    return " / ".join(DASH if value is None else f"{100 * value:.2f}" for value in found)


def _rate(line: pd.Series, phase: str) -> str:
    prefix = f"{phase}_images_per_second"
    median, q1, q3 = (line[f"{prefix}_{part}_measured"] for part in ("median", "q1", "q3"))
    if pd.isna(median):
        return DASH
    return f"{median:.4g}" if pd.isna(q1) or pd.isna(q3) else f"{median:.4g} ({q1:.4g} to {q3:.4g})"


def _number(value: object, form: str) -> str:
    return DASH if pd.isna(value) else format(value, form)  # type: ignore[call-overload]
