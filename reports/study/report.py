"""Report of a study: the question and the verdict, the main table, then all results and the setup.

Everything is a function of the rows and of the pictures that the runs kept: the same store gives the same bytes.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping

import pandas as pd

from bench.config.fields import AXIS_LABELS
from bench.units import count_of
from reports.analysis import (
    audit,
    claim_verdicts,
    context,
    control,
    lr_sweep,
    protocol,
    rate_choice,
    study_rows,
    verdict_sentences,
)
from reports.analysis import frames as tables
from reports.analysis.analysis_frames import analysis_frames
from reports.analysis.probe_curves import probe_frame
from reports.analysis.study_rows import Study
from reports.formats import data_frames, html
from reports.formats.markdown import bullet_list, escape_cell, heading
from reports.paper import figures, printed_tables
from reports.plots import accuracy, complexity, cost, cue_distance, curves
from reports.study import context_section, receptive_field, result_sections, setup_sections
from reports.study.axis_section import axis_section
from reports.study.learning_section import learned_cue_section
from reports.study.qualitative import ExamplePictures
from reports.study.rate_section import rate_section

QUESTIONS = {
    "table 5": "What does each component add: pyramid features, the spatial path, a stronger backbone? (Table 5)",
    "table 6": "How many sampling points, on how many feature scales? (Table 6)",
    "table 7": "How do the published networks compare under one recipe, and what do they cost? (Table 7)",
    "table 8": "Which attention in the same slots, at what memory? (Table 8)",
    rate_choice.LR_SWEEP_KIND: "At which learning rate does each row do best?",
}
COMPLEXITY_TABLE = 7
PICTURES_FILE = "pictures.png"
COMPARISON_FILES = ("axes.csv", "comparisons.csv")
CONTEXT_FILES = ("cue_distance.csv", "context.csv")
MAX_DRAWN = 30  # variants in a plot
TABLE_6_AXES = {"points", "levels"}


def study_report_files(study: Study, drawn: ExamplePictures | None = None) -> dict[str, bytes]:
    """Return every file of the report by name: the page as Markdown and HTML, each table as CSV, plots and pictures."""
    number = quoted_table(study)
    curves_by_distance = context.cue_distance_frame(study)
    frames = {
        "accuracy.csv": tables.accuracy_frame(study),
        "rates.csv": lr_sweep.rate_frame(study),
        **analysis_frames(study),
        "cue_distance.csv": curves_by_distance,
        "context.csv": context.context_frame(study, curves_by_distance),
        "claims.csv": claim_verdicts.claims_frame(study, number),
        "seeds.csv": tables.seeds_frame(study),
        "boundaries.csv": tables.boundary_frame(study),
        "refinement.csv": tables.refinement_frame(study),
        "cost.csv": tables.cost_frame(study),
        "reach.csv": receptive_field.receptive_field_frame(study),
        "class_iou.csv": tables.class_iou_frame(study),
        "failures.csv": tables.failures_frame(study),
        "probes.csv": probe_frame(study),
    }
    if study.kind == rate_choice.LR_SWEEP_KIND:  # which compares no rows
        frames = {name: frame for name, frame in frames.items() if name not in COMPARISON_FILES}
    else:
        del frames["rates.csv"]
    if curves_by_distance.empty:  # of data whose look-alikes have no distance
        frames = {name: frame for name, frame in frames.items() if name not in CONTEXT_FILES}
    if number is not None:
        frames["quoted.csv"] = printed_tables.printed_frame(number)
    made = {name: data_frames.frame_to_csv(frame).encode() for name, frame in frames.items()}
    caption = f"measured: {protocol.protocol_summary(study)}"
    shown = study_rows.first_variants(study, MAX_DRAWN, control.control_variant(study))
    if shown is not study:
        caption += f"; {MAX_DRAWN} of {len(study.variants):,} variants are drawn"
    for name, draw in (("accuracy", accuracy.draw_accuracy), ("cost", cost.draw_cost), ("curves", curves.draw_curves)):
        made |= {f"{name}.{suffix}": data for suffix, data in draw(shown, caption).items()}
    drawn_curves = context.cue_distance_frame(shown)
    made |= {
        f"cue_distance.{suffix}": data for suffix, data in cue_distance.draw_cue_distance(drawn_curves, caption).items()
    }
    if number == COMPLEXITY_TABLE:
        counted = [
            complexity.complexity_mark(variant, study.measures[variant]["metrics"])
            for variant in shown.variants
            if study_rows.number_at(study.measures.get(variant, {}), "metrics", "gmacs") is not None
        ]
        made |= {f"complexity.{suffix}": data for suffix, data in complexity.draw_complexity(counted).items()}
    if drawn is not None:
        made[PICTURES_FILE] = drawn.png
    text = "\n".join(_sections(study, drawn, frames, set(made)))
    made["report.md"] = text.encode()
    made["report.html"] = html.html_page(text, made, title=study_question(study)).encode()
    return made


def study_question(study: Study) -> str:
    """Return the question of the study, in one line."""
    if study.kind in QUESTIONS:
        return QUESTIONS[study.kind]
    names = [AXIS_LABELS.get(name, name) for name in study_rows.study_axes(study)]
    return f"How do accuracy and cost change with {' and '.join(names) or 'the settings'}?"


def quoted_table(study: Study) -> int | None:
    """Return the number of the paper's table beside this study; None where there is none."""
    if study.kind.startswith("table "):
        number = study.kind.removeprefix("table ")
        return int(number) if number.isdigit() and int(number) in figures.TABLES else None
    names = set(study_rows.study_axes(study))
    return 6 if names and names <= TABLE_6_AXES else None


def _sections(
    study: Study, drawn: ExamplePictures | None, frames: Mapping[str, pd.DataFrame], made: set[str]
) -> Iterator[str]:
    number = quoted_table(study)
    yield heading(study_question(study), 1)
    yield f"Measured on: {escape_cell(protocol.protocol_headline(study))}.\n"
    yield bullet_list(summary_sentences(study, frames))
    yield from rate_section(study, frames.get("rates.csv", pd.DataFrame()))
    yield from result_sections.accuracy_section(study, frames["accuracy.csv"])
    if study.kind != rate_choice.LR_SWEEP_KIND:
        yield from axis_section(study, frames["axes.csv"])
        yield from result_sections.comparison_section(study, frames["comparisons.csv"])
    yield from learned_cue_section(study, frames)
    if CONTEXT_FILES[0] in made:
        yield from context_section.context_section(study, frames["context.csv"], frames["cue_distance.csv"])
    if "curves.png" in made:
        yield heading(f"Training, measured ({protocol.protocol_summary(study)})")
        yield "![each seed's scores during training, a panel a variant](curves.png)\n"
    yield from result_sections.claims_section(number, frames["claims.csv"], study.margin)
    yield from printed_tables.printed_section(number)
    yield from result_sections.seeds_section(study)
    yield from result_sections.boundary_section(study, frames["boundaries.csv"])
    yield from result_sections.refinement_section(study, frames["refinement.csv"])
    if drawn is not None:
        yield heading(f"Pictures, measured ({protocol.protocol_summary(study)})")
        yield f"![input, truth, prediction, errors and boundaries of the same pictures]({PICTURES_FILE})\n"
        yield f"{escape_cell(drawn.caption)}\n"
    yield from result_sections.cost_section(study, frames["cost.csv"])
    if "cost.png" in made:
        yield "![mIoU against memory, operations and step time; rings mark the front](cost.png)\n"
    if "complexity.png" in made:
        yield "![operations against parameters, of the networks as trained here](complexity.png)\n"
    yield from receptive_field.receptive_field_section(frames["reach.csv"])
    yield from result_sections.class_iou_section(study, frames["class_iou.csv"])
    yield from setup_sections.failures_section(frames["failures.csv"])
    yield from setup_sections.differences_section(study)
    yield from setup_sections.protocol_section(study)
    yield from setup_sections.environment_section(study)


def summary_sentences(study: Study, frames: Mapping[str, pd.DataFrame]) -> Iterator[str]:
    """Yield the findings of the study, a sentence each, in plain text.

    `frames` are the tables of the report by file name.
    """
    statuses = collections.Counter(str(run.get("status")) for run in study.runs)
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    yield from (f"Warning: {warning}." for warning in study.warnings)
    if study.runs:
        if study.kind == rate_choice.LR_SWEEP_KIND:
            yield from lr_sweep.best_lr_sentences(study)
        else:
            yield from verdict_sentences.comparison_sentences(study, frames)
        yield from verdict_sentences.refinement_sentences(frames["refinement.csv"])
    made = f"{count_of(len(study.runs), 'run')} of {count_of(len(study.variants), 'variant')}"
    yield f"{made}: {counts or 'none yet'}."
    due = sum(len(study.missing_seeds(variant)) for variant in study.variants)
    if due:
        yield f"Not all of the plan has been run, {count_of(due, 'run')} missing: these figures are not final."
    yield from (f"{line}." for line in (*study.problems, *audit.audit_sentences(study)))
