"""The paper's tables by number, each with its rows and what they are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.config.fields import did_you_mean, one_of
from bench.config.grid import Variant
from bench.config.settings import Settings
from bench.study.request import VariantFactory
from experiments.tables import table5, table6, table7, table8


@dataclass(frozen=True, kw_only=True)
class TrainedTable:
    """Table as runs: `variants` makes the rows on top of base settings, `control` is the row that others are compared
    with.
    """

    variants: VariantFactory
    control: str


TABLES = {
    5: TrainedTable(variants=table5.table5_variants, control=table5.CONTROL),
    6: TrainedTable(variants=table6.table6_variants, control=table6.CONTROL),
    7: TrainedTable(variants=table7.table7_variants, control=table7.CONTROL),
    8: TrainedTable(variants=table8.table8_variants, control=table8.CONTROL),
}


def trained_table(number: int) -> TrainedTable:
    """Return the table of this number.

    Raises:
        ValueError: There is none.
    """
    if number not in TABLES:
        raise ValueError(f"table {number}: expected {one_of(TABLES)}")
    return TABLES[number]


def only_rows(make: VariantFactory, names: Sequence[str]) -> VariantFactory:
    """Return the rows of `make` that are named, in its order; all of them where none is.

    Raises:
        ValueError: At the first use, for a name that no row has.
    """

    def made(base: Settings) -> tuple[Variant, ...]:
        rows = make(base)
        known = [row.name for row in rows]
        for name in names:
            if name not in known:
                raise ValueError(f"--row {name}: expected {one_of(known)}{did_you_mean(name, known)}")
        return tuple(row for row in rows if not names or row.name in names)

    return made
