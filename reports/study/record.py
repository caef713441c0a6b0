"""A committed record of a study: rows from its CSV files, and the parts of its page that depend on these alone.

A record keeps no JSON rows. What its page says of the setting, of cost, boundaries and pictures stays as it was written
with the rows; the verdict, and every table that compares variants, are made again from results.csv.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bench.config.fields import AXIS_LABELS
from bench.results.csv_export import MEASURE_TAIL, RUN_TAIL
from bench.results.csv_text import text_of_cell
from reports.analysis import claim_verdicts, frames, protocol, study_rows, verdict_sentences
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.control import control_variant
from reports.analysis.study_rows import Study, assemble_study
from reports.formats import data_frames
from reports.formats.markdown import bullet_list
from reports.plots import accuracy
from reports.study import report, result_sections
from reports.study.axis_section import axis_section
from reports.study.learning_section import learned_cue_section

PAGE = "report.md"
NO_METRIC = {"variant", "seed", "status", *RUN_TAIL, *MEASURE_TAIL}
KEPT_TAIL = re.compile(r"\n(?:Learning rates differ:|Backbones differ, )")  # of the section on accuracy
KEPT_SENTENCES = re.compile(r"- (?:Boundary refinement at test|\d+ runs? of \d+ variants?:)")
RENEWED = ("Accuracy,", "By axis,", "Compared with ", "Seeds that learned ", "The paper's claims")


def read_record(folder: Path) -> Study:
    """Return the study of a record: scores, axes, seeds, costs and control, without the other settings of its runs.

    Args:
        folder: Folder with results.csv, measures.csv, accuracy.csv, comparisons.csv, learning.csv and report.md.
    """
    measures = [_measure(line) for line in _lines(folder / "measures.csv")]
    sizes = {size for line in _lines(folder / "measures.csv") if (size := line.get("protocol:size", ""))}
    side = int(next(iter(sizes)).split("+")[0]) if len(sizes) == 1 else None
    page = (folder / PAGE).read_text(encoding="utf-8")
    asked = page.splitlines()[0].removeprefix("# ")
    table = re.search(r"\((Table \d)\)", asked)
    kind = table[1].lower() if table else "ablate"
    compared = _lines(folder / "comparisons.csv")
    (control,) = {line["control"] for line in compared}
    margin = float(compared[0].get("margin") or 0)
    order = [line["variant"] for line in _lines(folder / "accuracy.csv")]
    learning = {(line["variant"], line["seed"]): line for line in _lines(folder / "learning.csv")}
    runs = [_run(line, side, learning) for line in _lines(folder / "results.csv")]
    planned = [run for variant in order for run in runs if run["variant"] == variant]
    return assemble_study(kind, runs=runs, measures=measures, planned=planned, control=control, margin=margin)


def record_files(folder: Path) -> dict[str, bytes]:
    """Return the files of a record that its rows decide, made again: tables and the page.

    Raises:
        ValueError: The page has another protocol in its headings than the rows.
    """
    study = read_record(folder)
    made = {
        "accuracy.csv": frames.accuracy_frame(study),
        **analysis_frames(study),
        "claims.csv": claim_verdicts.claims_frame(study, report.quoted_table(study)),
    }
    page = _renewed_page((folder / PAGE).read_text(encoding="utf-8"), study, made)
    return {name: data_frames.frame_to_csv(frame).encode() for name, frame in made.items()} | {PAGE: page.encode()}


def accuracy_plot(folder: Path) -> bytes:
    """Return the plot of a record's accuracies, a PNG, made again from its rows."""
    study = read_record(folder)
    shown = study_rows.first_variants(study, report.MAX_DRAWN, control_variant(study))
    return accuracy.draw_accuracy(shown, f"measured: {protocol.protocol_summary(study)}")["png"]


def _renewed_page(page: str, study: Study, made: Mapping[str, pd.DataFrame]) -> str:
    """Return the page with its verdict and its tables of comparisons made again."""
    first, *others = page.split("\n## ")
    if (title := others[0].splitlines()[0]) != (wanted := _accuracy(study, made, others[0]).splitlines()[0]):
        raise ValueError(f"{title!r} of the page is {wanted!r} by its rows")
    kept = [section for section in others if not section.startswith(RENEWED)]
    makers: list[Callable[[], str]] = [
        lambda: _accuracy(study, made, others[0]),
        lambda: _section(axis_section(study, made["axes.csv"])),
        lambda: _section(result_sections.comparison_section(study, made["comparisons.csv"])),
        lambda: _section(learned_cue_section(study, made)),
    ]
    claims = _section(result_sections.claims_section(report.quoted_table(study), made["claims.csv"], study.margin))
    before_claims = [section for section in kept if section.startswith(("Context recovered,", "Training,"))]
    rest = [section for section in kept if section not in before_claims]
    sections = [*(make() for make in makers), *before_claims, claims, *rest]
    return "\n## ".join([_summary(first, study, made), *filter(None, sections)])


def _summary(first: str, study: Study, made: Mapping[str, pd.DataFrame]) -> str:
    """Return the page up to its first section: the sentences on refinement and on the runs stay."""
    head, _, bullets = first.partition("\n- ")
    lines = f"- {bullets}".splitlines()
    stays = [line.removeprefix("- ") for line in lines if KEPT_SENTENCES.match(line)]
    marker = "\0"  # sentences that stay have their escapes already
    said = [*verdict_sentences.comparison_sentences(study, made), *(f"{marker}{i}" for i in range(len(stays)))]
    text = bullet_list(said)
    for i, sentence in enumerate(stays):
        shown = f"- {sentence}".replace("\\", r"\\")
        text = re.sub(rf"- \S*{i}$", shown, text, flags=re.MULTILINE)
    return f"{head}\n{text}"


def _accuracy(study: Study, made: Mapping[str, pd.DataFrame], before: str) -> str:
    """Return the section on accuracy; which rates and backbones the rows have is not in the CSV files and stays."""
    text = _section(result_sections.accuracy_section(study, made["accuracy.csv"]))
    made_again, kept = KEPT_TAIL.search(text), KEPT_TAIL.search(before)
    text = text[: made_again.start()] if made_again else text
    return text + (before[kept.start() :] if kept else "")


def _section(parts: Iterator[str]) -> str:
    return "\n".join(parts).removeprefix("## ")


def _run(
    line: Mapping[str, str], side: int | None, learning: Mapping[tuple[str, str], Mapping[str, str]]
) -> dict[str, Any]:
    """Return a run's row, with the settings that headings name and what its probes said."""
    values = {name: _value(cell) for name, cell in line.items() if cell != ""}
    metrics = {name: value for name, value in values.items() if name not in NO_METRIC and not name.startswith("axis:")}
    train = {name: _value(cell) for name in ("steps", "lr") if (cell := line.get(name, ""))}
    settings = {"data": line["data"], "model": {"size": side}, "train": train}
    if line.get("split"):
        settings["evaluation"] = {"split": line["split"]}
    learned = learning.get((line["variant"], line["seed"]), {})
    training = {name: _value(cell) for name in ("jump_step", "probe_gap") if (cell := learned.get(name, ""))}
    return _common(values) | {
        "kind": "run",
        "training": training,
        "seed": int(line["seed"]),
        "metrics": _nested(metrics),
        "settings": settings,
    }


def _measure(line: Mapping[str, str]) -> dict[str, Any]:
    """Return a variant's cost row."""
    values = {name: _value(cell) for name, cell in line.items() if cell != ""}
    metrics = {name: value for name, value in values.items() if name not in NO_METRIC and not name.startswith("axis:")}
    return _common(values) | {"kind": "measure", "metrics": _nested(metrics)}


def _common(values: Mapping[str, Any]) -> dict[str, Any]:
    axes = {name.removeprefix("axis:"): value for name, value in values.items() if name.startswith("axis:")}
    variant = str(values["variant"])  # its name has the axes in their order, the columns have not
    axes = dict(sorted(axes.items(), key=lambda axis: f" {variant}".find(f" {AXIS_LABELS.get(axis[0], axis[0])}=")))
    return {"variant": variant, "status": values["status"], "key": values["key"], "axes": axes}


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with names such as `iou:sky` as nested mappings."""
    nested: dict[str, Any] = {}
    for name, value in values.items():
        inner = nested
        *parents, last = name.split(":")
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[last] = value
    return nested


def _value(cell: str) -> Any:
    """Return a cell as a number or a truth value, where it is one."""
    if cell in ("True", "False"):
        return cell == "True"
    try:
        number = float(cell)
    except ValueError:
        return cell
    return int(cell) if cell.lstrip("-").isdecimal() else number


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {text_of_cell(name): text_of_cell(cell) for name, cell in line.items()} for line in csv.DictReader(file)
        ]
