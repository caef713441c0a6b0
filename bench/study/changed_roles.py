"""Why runs that have a row are due again: which part of the sources is another than the one that made the row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.results.rows import Row, release_of, row_key

_ANY = {"sources": ""}


def changed_lines(due: Sequence[Mapping[str, Any]], rows: Iterable[Row]) -> list[str]:
    """Return a line for each group of runs that are due again though a row of other sources is there.

    Args:
        due: the specs of the runs that are due.
        rows: the rows of the study's runs, of any sources.
    """
    latest: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: str(row["finished"])):
        latest[row_key("run", row | _ANY)] = row
    counts: Counter[tuple[str, str]] = Counter()
    for spec in due:
        before = latest.get(row_key("run", {**spec, **_ANY}))
        if before and before["sources"] != spec["sources"]:
            counts[_changed(before.get("roles", {}), spec["roles"]), release_of(before)] += 1
    return [
        f"{count} {'run is' if count == 1 else 'runs are'} due again: changed since their rows were made"
        f"{f' by release {release}' * bool(release)}: {names}"
        for (names, release), count in counts.items()
    ]


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> str:
    names = [role for role in sorted({*before, *after}) if before.get(role) != after.get(role)]
    return ", ".join(names) if before else "the sources"
