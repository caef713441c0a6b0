"""The work of Tables 5 to 8 at the paper's size: ADE20K, 150 classes, the published recipe and protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.profiling import gpu_hours
from experiments.tables import table5, table6, table7, table8

TABLES = {"Table 5": table5, "Table 6": table6, "Table 7": table7, "Table 8": table8}
CLASSES = 150


def counted(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """A record a row (`bench.profiling.gpu_hours.gpu_hours_records`), in the tables' order; most of a minute."""
    base = replace_fields(preset("paper"), {"classes": CLASSES})
    known: dict[str, Any] = {}
    found: list[dict[str, Any]] = []
    for name, table in TABLES.items():
        say(f"counting the rows of {name}")
        found += gpu_hours.gpu_hours_records(
            name, table.variants(base), pictures=gpu_hours.ADE20K_VALIDATION_IMAGES, known=known
        )
    return found
