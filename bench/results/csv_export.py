"""Rows to CSV text: pure functions, and the same rows always give the same bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bench.results.rows import Row

_RUN_HEAD = ("variant", "seed", "status", "miou", "pixel_accuracy", "miou_refined", "pixel_accuracy_refined")
_RUN_TAIL = ("message", "preset", "data", "steps", "backend", "threads", "sources", "key", "experiments")
_MEASURE_HEAD = ("variant", "status", "parameters", "gmacs", "gflops", "peak_rss_gib")
_MEASURE_TAIL = ("message", "preset", "data", "backend", "threads", "sources", "machine", "key", "experiments")
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
    """One line per run: scores and everything that decides them, nothing that depends on when it ran."""
    lines = [_common(row, experiments, "runs") | _flat(row["metrics"]) | {"seed": row["seed"]} for row in rows]
    return _csv(lines, _RUN_HEAD, _RUN_TAIL)


def measures_csv(rows: Sequence[Row], experiments: Experiments) -> str:
    """One line per measured variant: its costs and the protocol they were taken under."""
    lines = [
        _common(row, experiments, "measures")
        | _flat(row["metrics"])
        | _flat(row.get("protocol", {}), "protocol")
        | {"machine": row.get("machine")}
        for row in rows
    ]
    return _csv(lines, _MEASURE_HEAD, _MEASURE_TAIL)


def provenance_csv(rows: Sequence[Row]) -> str:
    """One line per row: when it was made, how long it took, on what."""
    lines = []
    for row in rows:
        training = {k: v for k, v in row.get("training", {}).items() if not isinstance(v, list | dict)}
        facts = {
            name: row.get(name)
            for name in ("kind", "variant", "seed", "status", "started", "finished", "key", "command")
        }
        lines.append(facts | training | _flat(row["environment"], "environment"))
    return _csv(lines, _PROVENANCE, ("command", "key"))


def _common(row: Row, experiments: Experiments, place: str) -> dict[str, Any]:
    names = [name for name, entry in experiments.items() if any(e["key"] == row["key"] for e in entry[place])]
    settings = row["settings"]
    return {
        **{
            name: row.get(name)
            for name in ("variant", "status", "message", "preset", "backend", "threads", "sources", "key")
        },
        "data": settings["data"],
        "steps": settings["train"]["steps"],
        "experiments": "; ".join(sorted(names)),
        **_flat(row["axes"], "axis"),
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings to one level, `iou:sky`; lists become text joined by plus signs."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        full = f"{prefix}:{name}" if prefix else name
        if isinstance(value, Mapping):
            flat |= _flat(value, full)
        else:
            flat[full] = "+".join(map(str, value)) if isinstance(value, list) else value
    return flat


def _csv(lines: list[dict[str, Any]], head: Iterable[str], tail: Iterable[str]) -> str:
    """Columns: `head`, then the others by name, then `tail`. Lines by variant (numbers as numbers), seed and key."""
    others = sorted({name for line in lines for name in line} - {*head, *tail})
    columns = [*head, *others, *tail]
    lines.sort(key=lambda line: (natural_sort_key(str(line["variant"])), line.get("seed") or 0, line["key"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in line.items()} for line in lines)
    return text.getvalue()


def natural_sort_key(text: str) -> list[tuple[int, float, str]]:
    """A sort key in which N=4 comes before N=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(1, float(part), "") if index % 2 else (0, 0.0, part) for index, part in enumerate(parts)]
