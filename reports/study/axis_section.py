"""Section on the axes of a grid: what each does, averaged over the cells of the others."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.analysis import protocol
from reports.analysis.axis_effects import ALL_CELLS
from reports.analysis.study_rows import Study
from reports.formats import numbers
from reports.formats.markdown import heading, markdown_table


def axis_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield the effect of each axis; `frame` is the study's `axis_effects_frame`."""
    if frame.empty:
        return
    yield heading(f"By axis, measured ({protocol.protocol_summary(study)})")
    yield (
        "Do any cells differ at all? Friedman's test asks it, with the seeds as blocks (p by permutation). "
        "Then each axis: a level against another, averaged over the cells of the other axes, in percentage points of "
        "mIoU. Its p permutes the two levels within these cells and is adjusted by Holm over the lines of the table; "
        "the intervals hold all at once with 95 %.\n"
    )
    lines = []
    for _, line in frame.iterrows():
        every = line["axis"] == ALL_CELLS
        contrast = ALL_CELLS if every else f"{line['axis']}={line['level']} against {line['base']}"
        n = f"{line['n']} seeds" if every else f"{line['n']} and {line['n_base']}"
        cells = [contrast, line["verdict"], n, numbers.format_number(line["difference"], "+.2f")]
        cells += [numbers.format_interval(line["low"], line["high"])]
        lines.append([*cells, *(numbers.format_p_value(line[name]) for name in ("p", "p_holm"))])
    columns = ["axis", "verdict", "n", "difference", "95 % interval, all at once", "p", "p (Holm)"]
    yield markdown_table(columns, lines, left=2)
