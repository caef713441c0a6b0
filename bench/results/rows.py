"""Rows of the store: their key, their form as JSON text, and detection of damage."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from bench.results.shapes import ROW_SHAPES, check_shape, read_json
from unept.config import SLOTS

SCHEMA = 1
STATUSES = ("ok", "oom", "diverged", "unsupported", "failed", "skipped")
KINDS = ("run", "measure")
PROGRAM = "unept-bench"
REGION_METRICS = {"interior_miou": "interior_classes", "trimap": "trimap_classes", "size_iou": "size_classes"}

DEFAULT_TARGET = 480  # pixels; the paper's training crops of ADE20K
_RUN_KEY = ("settings", "preset", "seed", "backend", "threads", "sources")
_MEASURE_KEY = ("settings", "preset", "backend", "threads", "sources", "machine")

_COMMON = ("axes", "settings", "environment", "evaluation", "protocol")  # of a row, alike in many rows

Row = dict[str, Any]


def canonical_json(value: Any) -> str:
    """Return the canonical JSON text of `value`: keys sorted, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def content_key(value: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def row_key(kind: str, spec: Mapping[str, Any]) -> str:
    """Return the key of a run or measure: a hash of what decides its numbers, and of nothing else.

    Machine and versions are part of a measure's key, since time and memory depend on them; for a run they are columns.
    Of data in files the digest is part of the key, and the path is a column.

    Args:
        kind: `run` or `measure`.
        spec: Holds at least the fields of the key; `data` holds the data's `digest` where it is known, and a measure's
            `target` the size in pixels at which cost was predicted too.
    """
    assert kind in KINDS, kind
    values = {name: spec[name] for name in (_RUN_KEY if kind == "run" else _MEASURE_KEY)}
    if kind == "measure" and spec.get("target", DEFAULT_TARGET) != DEFAULT_TARGET:  # so that older keys stay
        values["target"] = spec["target"]
    digest = data_digest_of(spec)
    return content_key(values | {"settings": _with_data(spec["settings"], digest)} if digest else values)


def request_key(row: Mapping[str, Any]) -> str:
    """Return a key of the run that a row or spec is of, whatever its sources and data."""
    return row_key("run", {**row, "sources": "", "data": {}, "settings": _with_data(row["settings"], "")})


def data_digest_of(row: Mapping[str, Any]) -> str:
    """Return the digest of the data in files that a row was made of; "" where there is none, or none was recorded."""
    data = row.get("data")
    in_files = _in_files(row["settings"])
    return str(data.get("digest", "")) if in_files and isinstance(data, Mapping) else ""


def is_data_verified(row: Mapping[str, Any]) -> bool:
    """Return False for a row of data in files that does not say what these files were."""
    settings = row.get("settings")
    in_files = isinstance(settings, Mapping) and _in_files(settings)
    return not in_files or bool(data_digest_of(row))


def _with_data(settings: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """Return the settings with `digest` in place of the data's path; generated scenes have none."""
    if not _in_files(settings):
        return dict(settings)
    kind, colon, _ = str(settings.get("data", "")).partition(":")
    return {**settings, "data": f"{kind}{colon}{digest}"}


def _in_files(settings: Mapping[str, Any]) -> bool:
    """Return True for settings of data in files, False for generated scenes."""
    from unept.data.scene_spec import is_generated

    data = str(settings.get("data", ""))
    return ":" in data and not is_generated(data)


def release_of(row: Mapping[str, Any]) -> str:
    """Return the release of this program that made the row's numbers; "" where the row does not tell."""
    packages = (row.get("environment") or {}).get("packages") or {}
    return str(row.get("release") or packages.get(PROGRAM, ""))


def comparable_metrics(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row's metrics without those whose definition is another one today.

    A mean over a region comes with the number of classes that it goes over (`bench.evaluation.boundary_metrics`). Where
    that is missing, as in rows of release 0.1.0, classes without true pixels there were counted too.
    """
    metrics = row.get("metrics")
    if not isinstance(metrics, Mapping):
        return {}
    former = [name for name, classes in REGION_METRICS.items() if classes not in metrics]
    return {name: value for name, value in metrics.items() if name not in former}


def counts_all_products(row: Mapping[str, Any]) -> bool:
    """Return False for a measure of a user's attention whose operations were counted as release 0.1.0 did.

    That release missed products that are written as multiplications and sums, and had no figure for element-wise
    operations. Our own attentions have no such product.
    """
    settings, metrics = row.get("settings"), row.get("metrics")
    model = settings.get("model") if isinstance(settings, Mapping) else None
    if not isinstance(model, Mapping) or not isinstance(metrics, Mapping) or metrics.get("gmacs") is None:
        return True
    return "elementwise_gops" in metrics or not any(":" in str(model.get(slot, "")) for slot in SLOTS)


def json_value(value: Any) -> Any:
    """Return `value` as JSON can hold it: string keys, lists, and null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    if hasattr(value, "item") and not isinstance(value, str | bytes):  # a NumPy or torch scalar
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def nested_items(values: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield (path of names, value) for every value of nested mappings that is no mapping itself, in their order."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from nested_items(value, (*path, name))
        else:
            yield (*path, name), value


class SharedValues:
    """Lets rows that are held together hold once what they have in common: names, texts, settings, environments."""

    def __init__(self) -> None:
        self._whole: dict[str, Any] = {}

    def shared(self, row: Row) -> Row:
        """Return the row, equal to what it was, with what it has in common with earlier ones."""
        return {
            sys.intern(name): self._whole.setdefault(canonical_json(value), value)
            if name in _COMMON
            else _with_interned_texts(value)
            for name, value in row.items()
        }


def _with_interned_texts(value: Any) -> Any:
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        return {sys.intern(name): _with_interned_texts(inner) for name, inner in value.items()}
    return value


def row_to_text(row: Mapping[str, Any]) -> str:
    """Return the file text of a row, with a digest over its content by which damage is detected."""
    content = json_value({name: value for name, value in row.items() if name != "digest"})
    assert content["status"] in STATUSES, content["status"]
    assert content["kind"] in KINDS, content["kind"]
    return json.dumps(content | {"digest": content_key(content)}, indent=1, sort_keys=True, allow_nan=False) + "\n"


def row_from_text(text: str, kind: str, key: str) -> Row:
    """Return the row in `text`.

    Args:
        text: Content of the row's file.
        kind: The kind expected.
        key: The key expected.

    Raises:
        ValueError: Says what is wrong with the text.
    """
    if not text.strip():
        raise ValueError("empty")
    row = read_json(text)
    if not isinstance(row, dict) or "digest" not in row:
        raise ValueError("not a row of this program")
    content = {name: value for name, value in row.items() if name != "digest"}
    try:
        whole = row["digest"] == content_key(content)
    except ValueError:  # NaN or infinity, which rows never hold
        whole = False
    if not whole:
        raise ValueError("its content does not match its digest")
    if row.get("schema") != SCHEMA:
        raise ValueError(f"schema {row.get('schema')!r}, this program reads {SCHEMA}")
    if row.get("kind") != kind or row.get("key") != key:
        raise ValueError("the row of another file")
    check_shape(row, ROW_SHAPES[kind])
    if row["status"] not in STATUSES:
        raise ValueError(f"status: expected one of {', '.join(STATUSES)}, it is {json.dumps(row['status'])[:40]}")
    return row
