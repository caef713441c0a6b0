"""CSV text from rows: pure functions; the same rows always give the same bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bench.results.csv_text import csv_text
from bench.results.rows import Row, comparable_metrics, data_digest_of, nested_items, release_of

RUN_HEAD = ("variant", "seed", "status", "miou", "pixel_accuracy", "miou_refined", "pixel_accuracy_refined")
_DATA = ("data", "data_digest")
_SOURCES = ("release", "sources", "roles")
RUN_TAIL = ("message", "preset", *_DATA, "split", "steps", "lr", "backend", "threads", *_SOURCES, "key", "experiments")
MEASURE_HEAD = (
    *("variant", "status", "parameters", "gmacs", "gflops"),
    *("step_memory_gib", "target_size", "target_memory_gib", "target_gmacs"),
)
MEASURE_TAIL = ("message", "preset", *_DATA, "backend", "threads", *_SOURCES, "machine", "key", "experiments")
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
    names = _names_by_key(experiments, "runs")
    return _csv(
        rows,
        lambda row: _common(row, names) | _columns(comparable_metrics(row)) | _run_columns(row),
        RUN_HEAD,
        RUN_TAIL,
    )


def _run_columns(row: Row) -> dict[str, Any]:
    settings = row["settings"]
    split = settings.get("evaluation", {}).get("split")
    return {"seed": row["seed"], "split": split, "lr": settings["train"].get("lr")}


def measures_csv(rows: Sequence[Row], experiments: Experiments) -> str:
    """Return one line per measured variant: its costs and the protocol they were taken under.

    Args:
        rows: Rows of kind `measure`.
        experiments: The entries of study.json, by name.
    """
    names = _names_by_key(experiments, "measures")

    def line_of(row: Row) -> dict[str, Any]:
        protocol = _columns(row.get("protocol", {}), "protocol")
        return _common(row, names) | _columns(row["metrics"]) | protocol | {"machine": row.get("machine")}

    return _csv(rows, line_of, MEASURE_HEAD, MEASURE_TAIL)


def provenance_csv(rows: Sequence[Row]) -> str:
    """Return one line per row of either kind: when it was made, how long it took, on what."""
    own = ("kind", "variant", "seed", "status", "started", "finished", "key", "command")

    def line_of(row: Row) -> dict[str, Any]:
        training = {k: v for k, v in row.get("training", {}).items() if not isinstance(v, list | dict)}
        return {name: row.get(name) for name in own} | training | _columns(row["environment"], "environment")

    return _csv(rows, line_of, _PROVENANCE, ("command", "key"))


def _names_by_key(experiments: Experiments, kind_folder: str) -> dict[str, str]:
    """Return the names of the experiments that list each key, sorted and joined."""
    names: dict[str, list[str]] = {}
    for name in sorted(experiments):
        for key in dict.fromkeys(entry["key"] for entry in experiments[name][kind_folder]):
            names.setdefault(key, []).append(name)
    return {key: "; ".join(listing) for key, listing in names.items()}


def _common(row: Row, names: Mapping[str, str]) -> dict[str, Any]:
    settings = row["settings"]
    return {
        **{
            name: row.get(name)
            for name in ("variant", "status", "message", "preset", "backend", "threads", "sources", "key")
        },
        "release": release_of(row),
        "roles": " ".join(f"{role}={digest}" for role, digest in sorted(row.get("roles", {}).items())),
        "data": settings["data"],
        "data_digest": data_digest_of(row),
        "steps": settings["train"]["steps"],
        "experiments": names.get(row["key"], ""),
        **_columns(row["axes"], "axis"),
    }


def _columns(values: Mapping[str, Any], *prefix: str) -> dict[str, Any]:
    """Return nested values by column name, such as `iou:sky`; a list becomes text joined by plus signs."""
    return {
        ":".join(path): "+".join(map(str, value)) if isinstance(value, list) else value
        for path, value in nested_items(values, prefix)
    }


def _csv(
    rows: Sequence[Row], line_of: Callable[[Row], dict[str, Any]], head: Iterable[str], tail: Iterable[str]
) -> str:
    """Return CSV text with the columns `head`, then the others by name, then `tail`.

    Lines are sorted by variant (numbers as numbers), seed and key. They are made twice, for the names of the columns
    and for the text, so that they need not be kept.
    """
    others = sorted({name for row in rows for name in line_of(row)} - {*head, *tail})
    ordered = sorted(rows, key=lambda row: (natural_sort_key(str(row["variant"])), row.get("seed") or 0, row["key"]))
    return csv_text([*head, *others, *tail], map(line_of, ordered))


def natural_sort_key(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key in which N=4 comes before N=16."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text)
    return [(1, float(part), "") if index % 2 else (0, 0.0, part) for index, part in enumerate(parts)]
