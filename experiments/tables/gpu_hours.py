"""The work of Tables 5 to 8 at the paper's size: ADE20K, 150 classes, the published recipe and protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.profiling import gpu_hours
from experiments.tables.registry import TABLES

CLASSES = 150


def count_table_hours(say: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a record for each row of Tables 5 to 8 (`bench.profiling.gpu_hours`), in the tables' order; takes about a
    minute.
    """
    base = replace_fields(preset("paper"), {"classes": CLASSES})
    known: dict[str, Any] = {}
    records: list[dict[str, Any]] = []
    for number, table in TABLES.items():
        name = f"Table {number}"
        say(f"counting the rows of {name}")
        records += gpu_hours.gpu_hours_records(
            name, table.variants(base), pictures=gpu_hours.ADE20K_VALIDATION_IMAGES, known=known
        )
    return records
