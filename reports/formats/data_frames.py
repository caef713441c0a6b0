"""Data frames made from lines of values, and their CSV text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd


def make_frame(
    lines: Sequence[dict[str, object]],
    columns: Sequence[str],
    *,
    whole: Iterable[str] = (),
    text: Iterable[str] = ("variant",),
) -> pd.DataFrame:
    """Return lines of values as a data frame with nullable columns.

    Args:
        lines: A dictionary for each line; absent keys are missing cells.
        columns: Names in order. A column is of numbers unless it is named below.
        whole: Columns of whole numbers.
        text: Columns of strings.
    """
    kinds = dict.fromkeys(columns, "Float64") | dict.fromkeys(whole, "Int64") | dict.fromkeys(text, "string")
    return pd.DataFrame(list(lines), columns=list(columns), dtype=object).astype(kinds)


def frame_to_csv(made: pd.DataFrame) -> str:
    """Return the frame as CSV with six significant digits, which depend on nothing but its numbers."""
    return made.to_csv(index=False, float_format="%.6g", lineterminator="\n")
