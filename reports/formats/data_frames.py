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
    """Lines as a frame: numbers that may be missing, whole numbers in the columns `whole`, words in `text`."""
    kinds = dict.fromkeys(columns, "Float64") | dict.fromkeys(whole, "Int64") | dict.fromkeys(text, "string")
    return pd.DataFrame(list(lines), columns=list(columns), dtype=object).astype(kinds)


def frame_to_csv(made: pd.DataFrame) -> str:
    """The frame as CSV with six significant digits, which depend on nothing but its numbers."""
    return made.to_csv(index=False, float_format="%.6g", lineterminator="\n")
