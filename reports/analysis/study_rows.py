"""Values of result rows: which rows count, and what stands for a value that is missing.

A row is the plain dictionary of one JSON file. It may lack any measure and may have unknown columns; neither is an
error. Fractions stay fractions until a table prints them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from bench.results.rows import nested_items
from bench.results.shapes import LARGEST_WHOLE

Row = Mapping[str, Any]
MAX_DISTINCT = 50  # values of one setting that are named


@dataclass(frozen=True, kw_only=True)
class Study:
    """Rows of one experiment, as a report uses them.

    Attributes:
        kind: Command that made it: "ablate" or "table 6".
        variants: All that were planned or have rows, in the table's order.
        runs: At most one row for each variant and seed, in that order.
        measures: Cost rows by variant.
        planned: Planned seeds by variant.
        commands: Command lines that made the rows.
        problems: Files that could not be read, a line each.
        warnings: What was found wrong with a user's attention before it trained, a line each.
        control: Variant that all others are compared with; "" where none was declared.
        margin: Difference of mIoU that counts as none, percent points; 0 where none was set.
        rate_split: Split that learning rates were chosen on; "" where they were not chosen.
    """

    kind: str  # the command that made it: "ablate" or "table 6"
    variants: tuple[str, ...]
    runs: tuple[Row, ...]
    measures: Mapping[str, Row]
    planned: Mapping[str, tuple[int, ...]]
    commands: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    control: str = ""
    margin: float = 0.0
    rate_split: str = ""

    def runs_of(self, variant: str) -> tuple[Row, ...]:
        """Return the runs of one variant, by seed."""
        return self._by_variant.get(variant, ())

    @cached_property
    def _by_variant(self) -> Mapping[str, tuple[Row, ...]]:
        by_variant: dict[str, list[Row]] = {}
        for run in self.runs:
            by_variant.setdefault(run["variant"], []).append(run)
        return {variant: tuple(runs) for variant, runs in by_variant.items()}

    def missing_seeds(self, variant: str) -> tuple[int, ...]:
        """Return the planned seeds of one variant that have no row."""
        done = {seed_of(run) for run in self.runs_of(variant)}
        return tuple(wanted for wanted in self.planned.get(variant, ()) if wanted not in done)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Every seed that was planned or has a row."""
        wanted = {seed for seeds in self.planned.values() for seed in seeds}
        return tuple(sorted(wanted | {seed_of(run) for run in self.runs}))


def assemble_study(
    kind: str,
    *,
    runs: Iterable[Row],
    measures: Iterable[Row] = (),
    planned: Iterable[Row] = (),
    commands: Iterable[str] = (),
    problems: Iterable[str] = (),
    warnings: Iterable[str] = (),
    control: str | None = "",
    margin: float | None = 0.0,
    rate_split: str | None = "",
) -> Study:
    """Return a study of these rows, in order.

    Args:
        kind: Command that made it.
        runs: Run rows. Of two rows of one variant and seed the newer counts.
        measures: Cost rows. Of two of one variant the newer that succeeded counts.
        planned: Entries with `variant` and `seed`; their order of variants is the table's. Variants that are not
            planned follow in the order of their rows.
        commands: Command lines that made the rows.
        problems: Files that could not be read, a line each.
        warnings: What was found wrong with a user's attention, a line each.
        control: Variant that all others are compared with.
        margin: Difference of mIoU that counts as none, percent points; 0 for no such.
        rate_split: Split that learning rates were chosen on.
    """
    runs, measures = list(runs), list(measures)
    wanted: dict[str, list[int]] = {}
    for entry in planned:
        wanted.setdefault(str(entry["variant"]), []).append(seed_of(entry))
    names = tuple(dict.fromkeys([*wanted, *(str(row["variant"]) for row in (*runs, *measures))]))
    index_of = {name: index for index, name in enumerate(names)}
    by_index = {(index_of[run["variant"]], seed_of(run)): run for run in sorted(runs, key=_age)}
    by_variant = {
        str(row["variant"]): row for row in sorted(measures, key=lambda row: (has_succeeded(row), *_age(row)))
    }
    return Study(
        kind=kind,
        variants=names,
        runs=tuple(by_index[position] for position in sorted(by_index)),
        measures=by_variant,
        planned={name: tuple(seeds) for name, seeds in wanted.items()},
        commands=tuple(dict.fromkeys(commands)),
        problems=tuple(problems),
        warnings=tuple(dict.fromkeys(warnings)),
        control=control or "",
        margin=margin or 0.0,
        rate_split=rate_split or "",
    )


def first_variants(study: Study, most: int, *always: str) -> Study:
    """Return the study with its first `most` variants alone, among them those of `always` that it has."""
    if len(study.variants) <= most:
        return study
    wanted = [variant for variant in always if variant in study.variants][:most]
    others = [variant for variant in study.variants if variant not in wanted][: most - len(wanted)]
    kept = {*wanted, *others}
    return replace(
        study,
        variants=tuple(variant for variant in study.variants if variant in kept),
        runs=tuple(run for run in study.runs if run["variant"] in kept),
        measures={variant: row for variant, row in study.measures.items() if variant in kept},
        planned={variant: seeds for variant, seeds in study.planned.items() if variant in kept},
    )


def number_at(row: Row, *path: str) -> float | None:
    """Return the finite number at `path` inside the row; None where it is absent, null, NaN, infinite or no number."""
    return finite_number(value_at(row, *path))


def finite_number(value: Any) -> float | None:
    """Return the value if it is a finite number that tables hold; None for anything else, such as True and False."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < LARGEST_WHOLE else None  # NaN is not


def value_at(row: Row, *path: str) -> Any:
    """Return the value at `path` inside the row; None where any part of the path is absent."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def metric_values(runs: Iterable[Row], metric: str) -> list[float]:
    """Return a metric of the runs that succeeded and have it."""
    values = (number_at(run, "metrics", metric) for run in runs if has_succeeded(run))
    return [value for value in values if value is not None]


def percent_values(study: Study, variant: str, metric: str) -> list[float]:
    """Return a metric of a variant's runs that succeeded and have it, a fraction in the rows, in percent points."""
    return [100 * value for value in metric_values(study.runs_of(variant), metric)]


def has_succeeded(row: Row) -> bool:
    """Return True for a row with the status "ok"."""
    return row.get("status") == "ok"


def seed_of(run: Row) -> int:
    """Return the seed of a run."""
    return int(run["seed"])


def study_axes(study: Study) -> tuple[str, ...]:
    """Return the configuration fields in which the study's variants differ, in the order in which rows name them."""
    rows = [*study.runs, *study.measures.values()]
    names = dict.fromkeys(name for row in rows for name in row.get("axes") or {})
    return tuple(names)


def field_values(settings: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return nested settings by field name alone; names are unique over the parts."""
    return {path[-1]: value for path, value in nested_items(settings or {})}


def value_text(value: Any) -> str:
    """Return a configuration value as text: `on`, `0.5, 1`, `16`, `none`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None or value == "" or value == []:
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(value_text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {value_text(inner)}" for name, inner in sorted(value.items()))
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def distinct_text(values: Iterable[Any]) -> str:
    """Return the distinct values as text in their first order, joined by " | "; "" where there are none.

    Of more than MAX_DISTINCT values the others are counted.
    """
    texts = list(dict.fromkeys(value_text(value) for value in values))
    more = len(texts) - MAX_DISTINCT
    return " | ".join(texts[:MAX_DISTINCT]) + (f" | and {more} more" if more > 0 else "")


def _age(row: Row) -> tuple[str, str]:
    return str(row.get("finished") or row.get("started") or ""), str(row.get("key", ""))
