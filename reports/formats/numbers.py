"""Numbers as text for the cells and sentences of reports."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.formats.markdown import DASH


def format_number(value: Any, form: str) -> str:
    """Return the value in this format; a dash for a missing value."""
    return DASH if pd.isna(value) else format(value, form)


def three_significant_digits(value: float) -> str:
    """Return the value to three significant digits, without an exponent below a million."""
    return f"{float(f'{value:.3g}'):g}"


def mean_std(line: pd.Series, name: str) -> str:
    """Return mean ± standard deviation from the columns `NAME_mean` and `NAME_sd`."""
    mean, sd = line[f"{name}_mean"], line[f"{name}_sd"]
    if pd.isna(mean):
        return DASH
    return f"{mean:.2f}" if pd.isna(sd) else f"{mean:.2f} ± {sd:.2f}"


def format_interval(low: Any, high: Any) -> str:
    """Return an interval as `1.00 to 2.00`; a dash for a missing one."""
    return DASH if pd.isna(low) or pd.isna(high) else f"{low:.2f} to {high:.2f}"


def format_p_value(value: Any) -> str:
    """Return p with three digits after the point, and `< .001` below that."""
    if pd.isna(value):
        return DASH
    return "< .001" if value < 0.001 else f"{value:.3f}"


def images_per_second(line: pd.Series, phase: str) -> str:
    """Return the throughput of a phase ("train" or "inference"), images per second: median (quartiles)."""
    prefix = f"{phase}_images_per_second"
    median, q1, q3 = (line[f"{prefix}_{part}_measured"] for part in ("median", "q1", "q3"))
    if pd.isna(median):
        return DASH
    return f"{median:.4g}" if pd.isna(q1) or pd.isna(q3) else f"{median:.4g} ({q1:.4g} to {q3:.4g})"
