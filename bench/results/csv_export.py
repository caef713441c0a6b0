"""CSV text from rows: pure functions; the same rows always give the same bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.results.rows import Row, nested_items, release_of

_RUN_HEAD = ("variant", "seed", "status", "miou", "pixel_accuracy", "miou_refined", "pixel_accuracy_refined")
_SOURCES = ("release", "sources", "roles")
_RUN_TAIL = ("message", "preset", "data", "steps", "backend", "threads", *_SOURCES, "key", "experiments")
_MEASURE_HEAD = ("variant", "status", "parameters", "gmacs", "gflops", "peak_rss_gib")
_MEASURE_TAIL = ("message", "preset", "data", "backend", "threads", *_SOURCES, "machine", "key", "experiments")
_PROVENANCE = (
    "kind",
    "variant",
    "seed",
    "status",
    "started",
    "finished",
    "seconds",
    "evaluation_seconds",
    "resumed_at",
)

Experiments = Mapping[str, Mapping[str, Any]]


def results_csv(rows: Sequence[Row], experiments: Experiments) -> str:
    """Return one line per run: its scores and everything that decides them, nothing that depends on when it ran.

    Args:
        rows: Rows of kind `run`.
        experiments: The entries of study.json, by name.
    """
    lines = [_common(row, experiments, "runs") | _columns(row["metrics"]) | {"seed": row["seed"]} for row in rows]
    return _csv(lines, _RUN_HEAD, _RUN_TAIL)


def measures_csv(rows: Sequence[Row], experiments: Experiments) -> str:
    """Return one line per measured variant: its costs and the protocol they were taken under.

    Args:
        rows: Rows of kind `measure`.
        experiments: The entries of study.json, by name.
    """
    lines = [
        _common(row, experiments, "measures")
        | _columns(row["metrics"])
        | _columns(row.get("protocol", {}), "protocol")
        | {"machine": row.get("machine")}
        for row in rows
    ]
    return _csv(lines, _MEASURE_HEAD, _MEASURE_TAIL)


def provenance_csv(rows: Sequence[Row]) -> str:
    """Return one line per row of either kind: when it was made, how long it took, on what."""
    lines = []
    for row in rows:
        training = {k: v for k, v in row.get("training", {}).items() if not isinstance(v, list | dict)}
        facts = {
            name: row.get(name)
            for name in ("kind", "variant", "seed", "status", "started", "finished", "key", "command")
        }
        lines.append(facts | training | _columns(row["environment"], "environment"))
    return _csv(lines, _PROVENANCE, ("command", "key"))


def _common(row: Row, experiments: Experiments, kind_folder: str) -> dict[str, Any]:
    names = [name for name, entry in experiments.items() if any(e["key"] == row["key"] for e in entry[kind_folder])]
    settings = row["settings"]
    return {
        **{
            name: row.get(name)
            for name in ("variant", "status", "message", "preset", "backend", "threads", "sources", "key")
        },
        "release": release_of(row),
        "roles": " ".join(f"{role}={digest}" for role, digest in sorted(row.get("roles", {}).items())),
        "data": settings["data"],
        "steps": settings["train"]["steps"],
        "experiments": "; ".join(sorted(names)),
        **_columns(row["axes"], "axis"),
    }


def _columns(values: Mapping[str, Any], *prefix: str) -> dict[str, Any]:
    """Return nested values by column name, such as `iou:sky`; a list becomes text joined by plus signs."""
    return {
        ":".join(path): "+".join(map(str, value)) if isinstance(value, list) else value
        for path, value in nested_items(values, prefix)
    }


def _csv(lines: list[dict[str, Any]], head: Iterable[str], tail: Iterable[str]) -> str:
    """Return CSV text with the columns `head`, then the others by name, then `tail`.

    Lines are sorted by variant (numbers as numbers), seed and key.
    """
    others = sorted({name for line in lines for name in line} - {*head, *tail})
    columns = [*head, *others, *tail]
    lines.sort(key=lambda line: (natural_sort_key(str(line["variant"])), line.get("seed") or 0, line["key"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in line.items()} for line in lines)
    return text.getvalue()


def natural_sort_key(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key in which N=4 comes before N=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(1, float(part), "") if index % 2 else (0, 0.0, part) for index, part in enumerate(parts)]
