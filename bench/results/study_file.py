"""study.json: its text with a digest, what it may say of a row, and a new one made from the rows.

The file lists for each experiment the keys of its rows and the names that it gives them. It decides no number: an entry
may give a row another name, axes and seed than the row has only where these agree with the row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from bench.config.fields import AXIS_ALIASES, format_value
from bench.results.csv_export import natural_sort_key
from bench.results.rows import KINDS, Row, content_key, nested_items
from bench.results.shapes import STUDY_SHAPE, check_shape

FORMAT = "unept-bench study"
STUDY_FILE = "study.json"
ROW_FOLDERS = {"run": "runs", "measure": "measures"}
ENTRY_NAMES = ("variant", "axes", "seed")  # what an entry may say of its row

Experiments = dict[str, dict[str, Any]]


def study_text(study: Mapping[str, Any]) -> bytes:
    """Return the text of study.json, with a digest over its content by which an edit is detected."""
    content = {name: value for name, value in study.items() if name != "digest"}
    return (json.dumps(content | {"digest": content_key(content)}, indent=1, allow_nan=False) + "\n").encode()


def is_intact(study: Mapping[str, Any]) -> bool:
    """Return True if the content matches its digest; a file of an older version has none and is taken as it is."""
    content = {name: value for name, value in study.items() if name != "digest"}
    try:
        return "digest" not in study or study["digest"] == content_key(content)
    except ValueError:  # NaN or infinity, which this program never writes
        return False


def has_shape(study: Mapping[str, Any]) -> bool:
    """Return True if a study.json has what a study writes: its preset and data, and experiments that list rows."""
    try:
        check_shape(study, STUDY_SHAPE)
    except ValueError:
        return False
    return True


def names_in(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an entry says of its row: variant, axes and seed, and nothing else."""
    return {name: entry[name] for name in ENTRY_NAMES if name in entry}


def agrees(entry: Mapping[str, Any], row: Row, experiment: str) -> bool:
    """Return True if the names that `experiment` gives a row can be those of the row.

    A row that was made for the experiment has them; one that was made for another has at least the settings that they
    name.
    """
    if row["kind"] == "run" and entry.get("seed", row["seed"]) != row["seed"]:
        return False
    if row.get("study") == experiment:
        return all(entry.get(name, row.get(name)) == row.get(name) for name in ("variant", "axes"))
    return _names_settings(entry, row["settings"])


def _names_settings(entry: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Return True if neither the axes nor words such as `N=4` of the variant's name contradict the settings."""
    values = {path[-1]: value for path, value in nested_items(settings)}  # options of a slot have names with a dot
    axes = entry.get("axes", {})
    words = [word.partition("=") for word in str(entry.get("variant", "")).split() if "=" in word]
    return all(values.get(name, value) == value for name, value in axes.items()) and all(
        format_value(_whole(values[name])) == text
        for label, _, text in words
        if (name := AXIS_ALIASES.get(label, label)) in values
    )


def _whole(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def disagreement(entry: Mapping[str, Any], row: Row) -> str:
    """Return what an entry says otherwise than its row, in a line."""
    return f"{STUDY_FILE} lists {_called({**entry, 'kind': row['kind']})} otherwise than its row, {_called(row)}"


def _called(row: Mapping[str, Any]) -> str:
    seed = f" seed {row.get('seed')}" if row["kind"] == "run" else ""
    return f"{row.get('variant')}{seed}"


def with_names_of_rows(experiments: Mapping[str, Mapping[str, Any]], rows: Iterable[Row]) -> Experiments:
    """Return the experiments with the rows' own names wherever an entry says otherwise than its row."""
    known = {(row["kind"], row["key"]): row for row in rows}

    def corrected(entry: Mapping[str, Any], kind: str, experiment: str) -> dict[str, Any]:
        row = known.get((kind, entry["key"]))
        names = names_in(entry)
        if row is not None and not agrees(entry, row, experiment):
            names = {name: row[name] for name in names}
        return {"key": entry["key"], **names}

    return {
        name: {**about}
        | {folder: [corrected(entry, kind, name) for entry in about[folder]] for kind, folder in ROW_FOLDERS.items()}
        for name, about in experiments.items()
    }


def experiments_of_rows(rows: Iterable[Row], created: str) -> Experiments:
    """Return the experiments that the rows were made for, each with its latest row of every variant and seed.

    Rows that an experiment shared with an earlier one are not among its own; its command lists them again.
    """
    latest: dict[str, dict[tuple[str, str, int], Row]] = {}
    for row in sorted(rows, key=lambda row: str(row.get("finished"))):
        if isinstance(row.get("study"), str):
            latest.setdefault(row["study"], {})[row["kind"], row["variant"], row.get("seed", 0)] = row
    return {name: _entry_of_rows(name, [*own.values()], created) for name, own in sorted(latest.items())}


def _entry_of_rows(name: str, rows: list[Row], created: str) -> dict[str, Any]:
    words = name.split()
    rows = sorted(rows, key=lambda row: (row.get("seed", 0), natural_sort_key(row["variant"])))
    listed = {
        ROW_FOLDERS[kind]: [{"key": row["key"], **names_in(row)} for row in rows if row["kind"] == kind]
        for kind in KINDS
    }
    return {
        "kind": " ".join(words[: 2 if words[:1] == ["table"] else 1]),
        "seeds": 1 + max(row.get("seed", 0) for row in rows),
        "variants": list(dict.fromkeys(row["variant"] for row in rows)),
        "control": "",
        "command": next((row["command"] for row in rows if row.get("command")), ""),
        **listed,
        "created": created,
    }
