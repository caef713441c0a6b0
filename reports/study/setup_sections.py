"""The report's sections on what the numbers stand on: the paper's own figures, setting, commands, failures."""

from __future__ import annotations

from collections.abc import Iterator

from reports.analysis import frames
from reports.analysis import protocol as setting
from reports.analysis.study_rows import Study
from reports.formats.markdown import bullets, code, table
from reports.paper import figures


def quoted(number: int | None) -> Iterator[str]:
    """The paper's table as printed, and where the paper disagrees with itself."""
    if number is None:
        return
    printed = figures.TABLES[number]
    yield f"## What the paper prints: Table {number}, *quoted*\n"
    yield f"{printed.caption}. Nothing in it was measured here; what differs from its setting is listed below.\n"
    units = {figure.column: figure.unit for figure in printed.figures}
    columns = ["row", *(f"{name}, {units[name]} (quoted)" for name in printed.columns)]
    yield table(columns, frames.quoted(number).astype(str).to_numpy().tolist())
    yield "Where the paper disagrees with itself:\n"
    yield bullets(figures.notes(number))


def failures(study: Study) -> Iterator[str]:
    """What has no value, and why."""
    found = frames.failures(study)
    yield "## Failures and missing runs\n"
    if found.empty:
        yield "None: every run has a value.\n"
        return
    yield table(list(found.columns), found.astype(str).to_numpy().tolist(), left=4)


def differences(study: Study) -> Iterator[str]:
    """Where the setting departs from the paper's."""
    yield "## What differs from the paper's setting\n"
    lines = setting.differences(study)
    yield (
        table(["what", "paper", "here"], [list(line) for line in lines], left=3)
        if lines
        else "Nothing that rows record.\n"
    )


def protocol(study: Study) -> Iterator[str]:
    """What decides the numbers, and the commands."""
    yield "## Protocol\n"
    yield "Where variants differ, their values stand side by side, in the order of the tables above.\n"
    yield table(["what", "value"], [list(pair) for pair in setting.protocol(study)], left=2)
    if study.commands:
        yield "## Command\n"
        yield code("\n".join(study.commands))


def environment(study: Study) -> Iterator[str]:
    """Where the rows were made."""
    facts = setting.environment(study)
    if facts:
        yield "## Environment\n"
        yield table(["what", "value"], [list(pair) for pair in facts], left=2)
