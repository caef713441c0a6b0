"""The control of a study: the variant that all others are compared with."""

from __future__ import annotations

from collections.abc import Mapping

from bench.config.fields import AXIS_LABELS
from reports.analysis import study_rows
from reports.analysis.study_rows import Study

GRID_CONTROL: Mapping[str, object] = {"points": 16, "levels": 3}


def control_variant(study: Study) -> str:
    """Return the variant that all others are compared with; "" where there are fewer than two.

    It is the declared one, else 16 points on 3 levels in a grid of those two, else the first.
    """
    if len(study.variants) < 2:
        return ""
    if study.control in study.variants:
        return study.control
    if set(study_rows.study_axes(study)) == set(GRID_CONTROL):
        wanted = {f"{AXIS_LABELS[name]}={value}" for name, value in GRID_CONTROL.items()}
        for variant in study.variants:
            if axes_of(study, variant) == GRID_CONTROL or set(variant.split()) == wanted:
                return variant
    return study.variants[0]


def axes_of(study: Study, variant: str) -> dict[str, object]:
    """Return a variant's value of each axis, by its rows; {} where it has none yet."""
    rows = [*study.runs_of(variant), *filter(None, [study.measures.get(variant)])]
    return next((dict(row["axes"]) for row in rows if row.get("axes")), {})
