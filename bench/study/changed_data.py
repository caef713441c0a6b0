"""Runs that have a row are due again where their data have changed: how many, and which files are others now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.results.data_digest import data_digest, describe_difference
from bench.results.rows import Row, data_digest_of, is_data_verified, request_key
from bench.results.store import Store


def changed_data_lines(store: Store, due: Sequence[Mapping[str, Any]], rows: Iterable[Row]) -> list[str]:
    """Return a line for each state of the data that rows of due runs were made of, and one for rows that do not tell.

    Args:
        store: The study, which keeps the digests of files.
        due: The specs of the runs that are due.
        rows: The rows of the study's runs, of any data.
    """
    latest = {request_key(row): row for row in sorted(rows, key=lambda row: str(row["finished"]))}
    changed: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    untold = 0
    for spec in due:
        before = latest.get(request_key(spec))
        if before is None or not data_digest_of(spec):
            continue
        if not is_data_verified(before):
            untold += 1
        elif data_digest_of(before) != data_digest_of(spec):
            changed.setdefault((data_digest_of(before), data_digest_of(spec)), []).append(spec)
    lines = [_line(store, before, specs) for (before, _), specs in changed.items()]
    if untold:
        lines.append(
            f"{untold} {_are(untold)} due again: data not verified, their rows were made before a study recorded a "
            "digest of its data"
        )
    return lines


def _line(store: Store, before: str, specs: Sequence[Mapping[str, Any]]) -> str:
    spec, count = specs[0], len(specs)
    now = data_digest(spec["settings"]["data"], spec["data"]["splits"]).files
    differ = describe_difference(store.data_files(before), now)
    return (
        f"the data at {spec['settings']['data']} have changed since {count} {'run was' if count == 1 else 'runs were'} "
        f"made: {differ}; {'it is' if count == 1 else 'they are'} due again"
    )


def _are(count: int) -> str:
    return "run is" if count == 1 else "runs are"
