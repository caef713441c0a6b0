"""The paper's tables as printed: as a data frame and as a section of a report."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.formats.data_frames import make_frame
from reports.formats.markdown import bullet_list
from reports.formats.markdown import markdown_table as pipe_table
from reports.paper import figures


def printed_frame(table: int) -> pd.DataFrame:
    """Return a table of the paper as printed, every cell a string."""
    printed = figures.TABLES[table]
    lines: dict[str, dict[str, object]] = {row: {"row": row} for row in printed.rows}
    for figure in printed.figures:
        lines[figure.row][figure.column] = figure.printed
    columns = ["row", *printed.columns]
    return make_frame(list(lines.values()), columns, text=columns)


def printed_section(number: int | None) -> Iterator[str]:
    """Yield the paper's table as printed, and where the paper contradicts itself."""
    if number is None:
        return
    printed = figures.TABLES[number]
    yield f"## What the paper prints: Table {number}, *quoted*\n"
    yield f"{printed.caption}. Nothing in it was measured here; what differs from its setting is listed below.\n"
    units = {figure.column: figure.unit for figure in printed.figures}
    columns = ["row", *(f"{name}, {units[name]} (quoted)" for name in printed.columns)]
    yield pipe_table(columns, printed_frame(number).astype(str).to_numpy().tolist())
    yield "Where the paper disagrees with itself:\n"
    yield bullet_list(figures.notes_of_table(number))
