"""Operations in cells: marked where at least as many elements are computed one by one as multiply-adds are counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports.formats import numbers

MARK = "†"
NOTE = (
    f"{MARK} At least as many element-wise operations as counted ones: these GMACs understate the work. The "
    "element-wise operations, in 1e9 elements, are in the column beside."
)


def is_mostly_elementwise(counts: Mapping[str, Any] | pd.Series, suffix: str = "") -> bool:
    """Return True where `elementwise_gops` is at least `gmacs`, and not 0; False where either is unknown.

    Args:
        counts: Figures by name.
        suffix: What both names end in, such as `_derived`.
    """
    gmacs, elements = (counts.get(f"{name}{suffix}") for name in ("gmacs", "elementwise_gops"))
    return bool(pd.notna(gmacs) and pd.notna(elements) and 0 < elements >= gmacs)


def target_words(frame: pd.DataFrame) -> str:
    """Return the image size at which a frame of costs has predictions, as `480 px`."""
    sizes = frame["target_size_derived"].dropna().unique()
    return f"{sizes[0]:d} px" if len(sizes) == 1 else "the target size"


def format_gmacs(counts: Mapping[str, Any] | pd.Series, form: str, suffix: str = "", *, factor: int = 1) -> str:
    """Return `gmacs` times `factor` in this format, marked where element-wise operations are as many or more."""
    value = counts.get(f"gmacs{suffix}")
    text = numbers.format_number(value if pd.isna(value) else factor * value, form)
    return text + MARK * is_mostly_elementwise(counts, suffix)
