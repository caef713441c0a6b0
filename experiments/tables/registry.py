"""The paper's tables by number, each with its rows and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.config.fields import did_you_mean, one_of
from bench.config.grid import Variant
from bench.config.settings import Settings
from bench.study.request import VariantFactory
from experiments.tables import table5, table6, table7, table8


@dataclass(frozen=True, kw_only=True)
class TrainedTable:
    """Table as runs.

    Attributes:
        variants: Makes the rows on top of base settings.
        control: The row that others are compared with.
        own_variant: Makes the row of a user's `module:Class` on top of base settings; None for a table without such.
    """

    variants: VariantFactory
    control: str
    own_variant: Callable[[Settings, str], Variant] | None = None


TABLES = {
    5: TrainedTable(variants=table5.table5_variants, control=table5.CONTROL),
    6: TrainedTable(variants=table6.table6_variants, control=table6.CONTROL),
    7: TrainedTable(variants=table7.table7_variants, control=table7.CONTROL),
    8: TrainedTable(variants=table8.table8_variants, control=table8.CONTROL, own_variant=table8.own_attention_variant),
}


def trained_table(number: int) -> TrainedTable:
    """Return the table of this number.

    Raises:
        ValueError: There is none.
    """
    if number not in TABLES:
        raise ValueError(f"table {number}: expected {one_of(TABLES)}")
    return TABLES[number]


def only_rows(table: TrainedTable, names: Sequence[str]) -> VariantFactory:
    """Return the rows of `table` that are named, in its order; all of them where none is.

    A row that is named `module:Class` follows them, in a table that takes a user's attention.

    Raises:
        ValueError: At the first use, for a name that no row has, and for a class that cannot be a row.
    """

    def made(base: Settings) -> tuple[Variant, ...]:
        rows = table.variants(base)
        known = [row.name for row in rows]
        own = [name for name in dict.fromkeys(names) if ":" in name and name not in known and table.own_variant]
        for name in names:
            if name not in (*known, *own):
                others = ["module:Class"] * (table.own_variant is not None)
                raise ValueError(f"--row {name}: expected {one_of([*known, *others])}{did_you_mean(name, known)}")
        chosen = [row for row in rows if not names or row.name in names]
        return (*chosen, *(table.own_variant(base, name) for name in own if table.own_variant))

    return made
