"""The report of a side-by-side run, from rows that are made up."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from golden_pages import assert_golden

from bench.microbench.rows import ROW_COLUMNS
from reports.pages import attention

SETTING = {
    "processor": "a processor",
    "cores": 2,
    "threads": 2,
    "system": "a system",
    "packages": {"torch": "2", "local-attention": "1"},
    "commit": "abc",
    "repeats": 3,
    "quick": False,
}
JOBS = {"one": {"kind": "time", "malloc": "mallopt X", "load": 0.5}, "two": {"kind": "memory", "malloc": "", "load": 2}}


def row(side: str, quantity: str, value: float, **more: Any) -> dict[str, Any]:
    facts = {"part": "longformer", "malloc": "tuned", "shape": "3600 tokens", "side": side, "phase": "forward"}
    facts |= {"quantity": quantity, "value": value, "q1": value, "q3": value, "n": 3, "threads": 2, "status": "ok"}
    facts |= {"message": "", "disagreement": 0.0, "difference": "", "ours": side in ("ours", "also ours")} | more
    return facts | {"key": "/".join(map(str, facts.values()))}


ROWS = [
    row("ours", "seconds", 0.01, q1=0.009, q3=0.011),
    row("package", "seconds", 0.02, difference="its layout"),
    row("package", "ratio", 2.0, q1=1.9, q3=2.1, difference="its layout"),
    row("absent", "", "", q1="", q3="", phase="", status="unsupported", message="not installed: pip install it"),
    row("ours", "bytes", 2**20, malloc="counted"),
    row("package", "bytes", 2**19, malloc="counted"),
    row("package", "ratio", 0.5, malloc="counted"),
]


def folder(place: Path, rows: list[dict[str, Any]], **setting: Any) -> Path:
    with (place / "attention.csv").open("w", encoding="utf-8", newline="") as file:
        names = (*ROW_COLUMNS, "ours", "status", "message", "disagreement", "difference")
        writer = csv.DictWriter(file, names, restval="")
        writer.writeheader()
        writer.writerows(rows)
    facts = {"setting": SETTING | setting, "jobs": JOBS, "notes": ["a note"], "command": "unept-bench attention"}
    (place / "attention.json").write_text(json.dumps(facts), encoding="utf-8")
    return place


def test_files_are_written_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    files = attention.write_attention_report(folder(tmp_path, ROWS))
    assert {file.name for file in files} == {"attention.md", "attention.png", "attention.svg"}
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in attention.write_attention_report(tmp_path)] == before
    page = (tmp_path / "attention.md").read_text(encoding="utf-8")
    assert_golden("attention.md", page)


def test_memory_has_a_table_of_its_own(tmp_path: Path) -> None:
    time, memory = attention.attention_tables(attention.read_attention_benchmark(folder(tmp_path, ROWS)))
    assert [each[:3] for each in time.rows] == [
        ["3600", "ours", "10 (9 to 11)"],
        ["3600", "package", "20 (20 to 20)"],
        ["3600", "absent", "unsupported"],
    ]
    assert [each[1:5] for each in memory.rows] == [["ours", "1.0", "–", "–"], ["package", "0.5", "–", "0.5"]]


def test_where_ours_needs_more_is_said(tmp_path: Path) -> None:
    more = [
        row("open", "ratio", 1.0, q1=0.9, q3=1.1),
        row("faster", "ratio", 0.8),
        row("close", "ratio", 0.99969),
        row("also ours", "ratio", 0.1),
    ]
    said = list(attention.attention_header(attention.read_attention_benchmark(folder(tmp_path, ROWS + more))))
    assert "time: ours is as fast or faster in 1 of 4 comparisons" in said
    slower = "longformer, faster, 3600 tokens, forward 0.8; longformer, close, 3600 tokens, forward 0.9997"
    assert f"time, ours is slower: {slower}" in said
    assert "time, undecided, quartiles on both sides of 1: longformer, open, 3600 tokens, forward 1" in said
    assert "memory: ours needs as much memory or less in 0 of 1 comparisons" in said
    quick = list(
        attention.attention_header(attention.read_attention_benchmark(folder(tmp_path, ROWS + more, quick=True)))
    )
    assert not any("comparisons" in line for line in quick)
    assert any("not a measurement of speed" in line for line in quick)


def test_with_nothing_to_compare(tmp_path: Path) -> None:
    benchmark = attention.read_attention_benchmark(folder(tmp_path, ROWS[:1]))
    assert "memory: nothing was compared" in list(attention.attention_header(benchmark))
    assert [path.name for path in attention.write_attention_report(tmp_path)] == ["attention.md"]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no comparison"):
        attention.read_attention_benchmark(tmp_path)
