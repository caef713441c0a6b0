"""The report's section on the choice of learning rates."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.analysis import protocol, study_rows
from reports.analysis.study_rows import Study
from reports.formats import numbers
from reports.formats.markdown import DASH, heading, markdown_table


def rate_section(study: Study, frame: pd.DataFrame) -> Iterator[str]:
    """Yield a line per row: the rates that were tried, the choice, and whether it is interior.

    Args:
        study: A study that chooses rates, or any other.
        frame: Its `rate_frame`.
    """
    if frame.empty:
        return
    yield heading(f"Choice of learning rates, measured ({protocol.protocol_summary(study)})")
    yield (
        "For each rate the mean mIoU in percent of the seeds that learned to tell look-alikes apart, of all where none "
        "did, and in brackets how many of how many learned. One threshold holds for a row at all of its rates; on data "
        "without look-alikes all seeds count. A rate is out if a run did not end well. The chosen rate is interior if "
        "a lower and a higher one were tried.\n"
    )
    lines = []
    for row, tried in frame.groupby("row", sort=False):
        chosen = tried[tried["outcome"] == "chosen"]
        rate, position = (chosen["rate"].iloc[0], chosen["position"].iloc[0]) if len(chosen) else (None, DASH)
        lines.append([str(row), DASH if rate is None else study_rows.value_text(float(rate)), position, _tried(tried)])
    yield markdown_table(["row", "chosen rate", "the chosen one is", "tried"], lines, left=4)


def _tried(lines: pd.DataFrame) -> str:
    cells = []
    for _, line in lines.iterrows():
        rate = study_rows.value_text(float(line["rate"]))
        is_out = pd.isna(line["miou"])
        mean = line["outcome"] if is_out else numbers.format_number(line["miou"], ".2f")
        cells.append(f"{rate}: {mean}" + f" ({line['learned']} of {line['seeds']})" * (not is_out))
    return "; ".join(cells)
