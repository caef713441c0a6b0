"""Table 6: how many sampling points (N) on how many feature scales (L).

Every cell has the spatial branch, its queries and all four losses. The table's mIoU is that of the unrefined
prediction, as the caption says; where `refine_test` is on, the refined one is scored beside it. Table 5's
"+ spatial path" is the cell N=16 L=3 of this grid.
"""

from __future__ import annotations

from dataclasses import replace

from bench.config.grid import Variant
from bench.config.settings import Settings

POINTS = (4, 16, 64)
LEVELS = (1, 3)
CONTROL = "N=16 L=3"


def table6_variants(base: Settings) -> tuple[Variant, ...]:
    """Return the six cells in the table's order, on top of `base`."""
    return tuple(
        Variant(
            name=f"N={points} L={levels}",
            axes={"points": points, "levels": levels},
            settings=table6_cell(base, points=points, levels=levels),
        )
        for levels in LEVELS
        for points in POINTS
    )


def table6_cell(base: Settings, *, points: int, levels: int) -> Settings:
    """Return one cell's settings; `base` decides everything that the table does not.

    Raises:
        ValueError: `base` turns off what the table takes for granted: one of the four losses, or queries with the
            spatial feature.
    """
    for name in ("weight_ce", "weight_refined", "weight_boundary", "weight_direction"):
        if getattr(base.loss, name) <= 0:
            raise ValueError(
                f"{name}={getattr(base.loss, name)}: Tables 5 and 6 train with all four losses, use a value > 0"
            )
    if base.model.queries == "embed":
        raise ValueError("queries=embed: Tables 5 and 6 have spatial queries, use spatial or both")
    model = replace(base.model, points=points, levels=levels, spatial=True)
    return replace(base, model=model)
