"""Result of the check of a data set, in plain text and as CSV files.

A record is the plain dictionary of a `bench.dataset_check.Verification`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from reports.formats import data_frames, plain_text
from reports.formats.markdown import DASH
from unept.utils.visible_text import visible_line

Record = Mapping[str, Any]
COLUMNS = ("split", "pictures", "owners'", "width", "height", "values", "unlabelled", "classes seen")
CLASSES_SHOWN = 5  # classes with the most and with the fewest pixels


def dataset_check_lines(record: Record) -> Iterator[str]:
    """Yield a table of the splits, the most and least frequent classes, and a line for each finding with its remedy."""
    return map(visible_line, _lines(record))


def _lines(record: Record) -> Iterator[str]:
    yield f"{record['name']}, {record['spec']}"
    yield from plain_text.right_aligned_rows([COLUMNS, *(_cells(split) for split in record["splits"])])
    for split in record["splits"]:
        yield from _shares(split["split"], [line for line in record["classes"] if line["split"] == split["split"]])
    for finding in record["findings"]:
        mark = "WRONG" if finding["wrong"] else "note "
        yield f"{mark} {finding['split']}: {finding['what']}. To do: {finding['fix']}."
    wrong = sum(finding["wrong"] for finding in record["findings"])
    yield f"{wrong} wrong, {len(record['findings']) - wrong} to note"


def dataset_check_files(record: Record) -> dict[str, bytes]:
    """Return `splits.csv`, `classes.csv` (the histogram) and `findings.csv` (a line for each file of a finding)."""
    findings = [
        {**{name: finding[name] for name in ("check", "split", "wrong")}, "file": file, "what": finding["what"]}
        | {"fix": finding["fix"]}
        for finding in record["findings"]
        for file in finding["files"] or ("",)
    ]
    made = {
        "splits.csv": pd.DataFrame(record["splits"]),
        "classes.csv": pd.DataFrame(record["classes"]),
        "findings.csv": pd.DataFrame(findings, columns=["check", "split", "wrong", "file", "what", "fix"]),
    }
    return {name: data_frames.frame_to_csv(frame).encode() for name, frame in made.items()}


def _cells(split: Record) -> list[str]:
    unlabelled = split["unlabelled"]
    return [
        split["split"],
        f"{split['pictures']:,}",
        DASH if split["owners"] is None else f"{split['owners']:,}",
        _range(split["width_min"], split["width_max"]),
        _range(split["height_min"], split["height_max"]),
        _range(split["value_min"], split["value_max"]),
        DASH if unlabelled is None else f"{unlabelled:.2%}",
        f"{split['classes_seen']}/{split['classes']}" if split["labels"] else DASH,
    ]


def _range(least: int | None, greatest: int | None) -> str:
    if least is None:
        return DASH
    return str(least) if least == greatest else f"{least} to {greatest}"


def _shares(split: str, classes: list[Record]) -> Iterator[str]:
    """The classes of a split by their share of the labelled pixels."""
    there = sorted((line for line in classes if line["pixels"]), key=lambda line: -line["pixels"])
    if not there:
        return
    if len(there) <= 2 * CLASSES_SHOWN:
        yield f"{split}: {_listed(there)}"
    else:
        yield f"{split}: {_listed(there[:CLASSES_SHOWN])}, ... {_listed(there[-CLASSES_SHOWN:])}"


def _listed(classes: list[Record]) -> str:
    return ", ".join(f"{line['name']} {line['share']:.2%}" for line in classes)
