"""Data frames made from lines of values, and their CSV text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.results.csv_text import csv_cell, text_of_cell

TEXT_COLUMNS = ("variant", "control", "class", "attention", "status", "verdict", "message", "jump_steps")


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


def frame_from_csv(path: Path, *, text: Iterable[str] = ()) -> pd.DataFrame:
    """Return the frame in a file that `frame_to_csv` made. A variant called `NA` or `0017` keeps its name.

    Args:
        path: The file.
        text: Further columns that stay text where all of it are numbers.
    """
    texts = dict.fromkeys((*TEXT_COLUMNS, *text), str)
    frame = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=[""])
    return frame.rename(columns=text_of_cell).map(text_of_cell)


def frame_to_csv(made: pd.DataFrame) -> str:
    """Return the frame as CSV with six significant digits, which depend on nothing but its numbers."""
    shown = made.rename(columns=csv_cell)
    for name in shown.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in shown.dtypes]]:
        shown[name] = shown[name].map(csv_cell, na_action="ignore")
    return shown.to_csv(index=False, float_format="%.6g", lineterminator="\n")
