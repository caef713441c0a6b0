"""A study's report: the question and the verdict, the table, then the evidence and what it stands on.

Everything is a function of the rows and of the pictures that the runs kept: the same store gives the same bytes.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator

from reports.analysis import claim_verdicts, comparisons, lr_sweep, protocol, study_rows
from reports.analysis import frames as tables
from reports.analysis.study_rows import Study
from reports.formats import data_frames, html, numbers
from reports.formats.markdown import bullets, cell
from reports.paper import figures, printed_tables
from reports.plots import accuracy, complexity, cost, curves
from reports.study import receptive_field, result_sections, setup_sections
from reports.study.qualitative import Drawn

QUESTIONS = {
    "table 5": "What does each component add: pyramid features, the spatial path, a stronger backbone? (Table 5)",
    "table 6": "How many sampling points, on how many feature scales? (Table 6)",
    "table 7": "How do the rivals compare under one recipe, and what do they cost? (Table 7)",
    "table 8": "Which attention in the same slots, at what memory? (Table 8)",
    "rates": "At which learning rate does each row of a table do best? (chosen on the validation split)",
}
RIVALS_TABLE = 7
PICTURES = "pictures.png"
GRID_OF_TABLE_6 = {"points", "levels"}


def files(study: Study, drawn: Drawn | None = None) -> dict[str, bytes]:
    """Every file of the report by name: the page as Markdown and HTML, each table as CSV, plots and pictures."""
    number = quoted_table(study)
    frames = {
        "accuracy.csv": tables.accuracy(study),
        "comparisons.csv": comparisons.compare(study),
        "learned.csv": comparisons.learned(study),
        "claims.csv": claim_verdicts.judge(study, number),
        "seeds.csv": tables.seeds(study),
        "boundaries.csv": tables.boundaries(study),
        "refinement.csv": tables.refinement(study),
        "cost.csv": tables.cost(study),
        "reach.csv": receptive_field.reach(study),
        "class_iou.csv": tables.class_iou(study),
        "failures.csv": tables.failures(study),
    }
    if number is not None:
        frames["quoted.csv"] = printed_tables.quoted_frame(number)
    made = {name: data_frames.csv(frame).encode() for name, frame in frames.items()}
    caption = f"measured: {protocol.short(study)}"
    for name, draw in (("accuracy", accuracy.draw), ("cost", cost.draw), ("curves", curves.draw)):
        made |= {f"{name}.{suffix}": data for suffix, data in draw(study, caption).items()}
    if number == RIVALS_TABLE:
        counted = [
            complexity.mark(variant, study.measures[variant]["metrics"])
            for variant in study.variants
            if study_rows.number(study.measures.get(variant, {}), "metrics", "gmacs") is not None
        ]
        made |= {f"complexity.{suffix}": data for suffix, data in complexity.draw(counted).items()}
    if drawn is not None:
        made[PICTURES] = drawn.png
    text = "\n".join(_sections(study, drawn, set(made)))
    made["report.md"] = text.encode()
    made["report.html"] = html.page(text, made, title=question(study)).encode()
    return made


def question(study: Study) -> str:
    """What the study asks, in one line."""
    if study.kind in QUESTIONS:
        return QUESTIONS[study.kind]
    names = [study_rows.LABELS.get(name, name) for name in study_rows.axes(study)]
    return f"How do accuracy and cost change with {' and '.join(names) or 'the settings'}?"


def quoted_table(study: Study) -> int | None:
    """The paper's table that belongs beside this study, if there is one."""
    if study.kind.startswith("table "):
        number = study.kind.removeprefix("table ")
        return int(number) if number.isdigit() and int(number) in figures.TABLES else None
    names = set(study_rows.axes(study))
    return 6 if names and names <= GRID_OF_TABLE_6 else None


def _sections(study: Study, drawn: Drawn | None, made: set[str]) -> Iterator[str]:
    number = quoted_table(study)
    yield f"# {question(study)}\n"
    yield f"Measured on: {cell(protocol.headline(study))}.\n"
    yield bullets(verdict(study))
    yield from result_sections.accuracy(study)
    yield from result_sections.compared(study)
    yield from result_sections.learned(study)
    if "curves.png" in made:
        yield f"## Training, measured ({cell(protocol.short(study))})\n"
        yield "![each seed's scores during training, a panel a variant](curves.png)\n"
    yield from result_sections.judged(study, number)
    yield from printed_tables.quoted_section(number)
    yield from result_sections.every_seed(study)
    yield from result_sections.boundaries(study)
    yield from result_sections.refinement(study)
    if drawn is not None:
        yield f"## Pictures, measured ({cell(protocol.short(study))})\n"
        yield f"![input, truth, prediction, errors and boundaries of the same pictures]({PICTURES})\n"
        yield f"{cell(drawn.caption)}\n"
    yield from result_sections.cost(study)
    if "cost.png" in made:
        yield "![mIoU against operations and against memory](cost.png)\n"
    if "complexity.png" in made:
        yield "![operations against parameters, of the networks as trained here](complexity.png)\n"
    yield from receptive_field.section(study)
    yield from result_sections.classes(study)
    yield from setup_sections.failures(study)
    yield from setup_sections.differences(study)
    yield from setup_sections.protocol(study)
    yield from setup_sections.environment(study)


def verdict(study: Study) -> Iterator[str]:
    """What the study found, a sentence each, for the first screen: escaped for Markdown."""
    statuses = collections.Counter(str(run.get("status")) for run in study.runs)
    counts = ", ".join(f"{count} {cell(status)}" for status, count in sorted(statuses.items()))
    if study.runs:
        yield from map(cell, (*lr_sweep.verdict(study), *comparisons.verdict(study), *comparisons.refined(study)))
    made = f"{numbers.count(len(study.runs), 'run')} of {numbers.count(len(study.variants), 'variant')}"
    yield f"{made}: {counts or 'none yet'}."
    due = sum(len(study.missing(variant)) for variant in study.variants)
    if due:
        yield f"Not all of the plan has been run, {numbers.count(due, 'run')} missing: these figures are not final."
    yield from (f"{cell(problem)}." for problem in study.problems)
