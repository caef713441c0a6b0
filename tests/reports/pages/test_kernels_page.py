"""The report of a kernel benchmark, from rows that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from golden_pages import assert_golden

from bench.microbench.rows import BenchmarkRow, RowContext, rows_to_csv
from reports.pages import kernels

FACTS = {
    "processor": "a processor",
    "cores": 2,
    "threads": 2,
    "system": "a system",
    "kernel": "built by g++",
    "packages": {"torch": "2"},
    "commit": "abc",
    "load": [0.5, 2.0],
    "malloc": {"tuned": "mallopt X", "counted": "system default"},
    "repeats": 3,
    "quick": False,
    "notes": ["torch-ms-deform-attn is not installed: pip install it"],
}


def made(times: dict[str, list[float]]) -> list[BenchmarkRow]:
    place = RowContext(part="operator", malloc="tuned", shape="small", threads=2)
    found = []
    for side, seconds in times.items():
        found.append(place.row(side, "forward", "seconds", seconds))
        found.append(place.row(side, "forward", "core_ns_per_point", [1e3 * one for one in seconds]))
        if side != "native" and "native" in times:
            ratios = [a / b for a, b in zip(seconds, times["native"], strict=True)]
            found.append(place.row(side, "forward", "ratio", ratios))
    return found


def folder(place: Path, rows: list[BenchmarkRow], **facts: Any) -> Path:
    (place / "kernels.csv").write_text(rows_to_csv(rows), encoding="utf-8")
    (place / "kernels.json").write_text(json.dumps(FACTS | facts), encoding="utf-8")
    return place


def table(benchmark: kernels.KernelBenchmark, title: str) -> dict[str, list[str]]:
    (found,) = [table for table in kernels.kernel_tables(benchmark) if table.title == title]
    return {row[0]: list(row[1:]) for row in found.rows}


def test_files_are_written_and_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    place = folder(tmp_path, made({"native": [1e-3] * 3, "mmcv": [0.02, 0.02, 0.021]}))
    files = kernels.write_kernel_report(place)
    assert {file.name for file in files} == {"kernels.md", "kernels-ratios.png", "kernels-ratios.svg"}
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in kernels.write_kernel_report(place)] == before
    page = (place / "kernels.md").read_text(encoding="utf-8")
    assert_golden("kernels.md", page)


def test_ratios_goals_and_what_is_not_there(tmp_path: Path) -> None:
    benchmark = kernels.read_kernel_benchmark(
        folder(tmp_path, made({"native": [1e-3] * 3, "mmcv": [0.014, 0.014, 0.0141]}))
    )
    cells = table(benchmark, "Operator, tuned malloc")["small"]
    assert cells == ["forward", "1.00", "1.0", "14 (14 to 14.1)", "not installed", "not installed"]
    goals = table(benchmark, "Goals")
    assert goals["times faster than mmcv's, forward, tuned malloc"] == [
        "14 (14 to 14.1)",
        "small",
        "–",
        "13",
        "reached",
        "15",
        "missed by 7 %",
    ]
    assert goals["times faster than mmcv's, forward, default malloc"][0] == "not measured"


def test_the_most_that_the_machine_allows_stands_beside_a_goal(tmp_path: Path) -> None:
    rows = made({"native": [1e-3] * 3, "mmcv": [0.014, 0.014, 0.0141]})
    place = RowContext(part="operator", malloc="tuned", shape="small", threads=2)
    rows.append(place.row("mmcv", "forward", "ratio_at_most", [23.0, 23.5, 24.0]))
    goals = table(kernels.read_kernel_benchmark(folder(tmp_path, rows)), "Goals")
    assert goals["times faster than mmcv's, forward, tuned malloc"][:4] == ["14 (14 to 14.1)", "small", "23.5", "13"]


def test_a_wide_spread_is_said(tmp_path: Path) -> None:
    benchmark = kernels.read_kernel_benchmark(
        folder(tmp_path, made({"native": [1e-3] * 3, "mmcv": [0.01, 0.02, 0.04]}))
    )
    assert table(benchmark, "Operator, tuned malloc")["small"][3] == "20 (15 to 30, undecided)"


def test_without_the_kernel_the_others_have_their_times(tmp_path: Path) -> None:
    benchmark = kernels.read_kernel_benchmark(
        folder(tmp_path, made({"mmcv": [0.02] * 3}), kernel="", notes=["the native kernel is not there: no compiler"])
    )
    assert table(benchmark, "Operator, tuned malloc")["small"][1:4] == ["–", "–", "20.00"]
    assert any("the native kernel is not there: no compiler" in line for line in kernels.kernel_lines(benchmark))


def test_a_quick_run_judges_nothing(tmp_path: Path) -> None:
    benchmark = kernels.read_kernel_benchmark(
        folder(tmp_path, made({"native": [1e-3], "mmcv": [0.02]}), quick=True, threads=1)
    )
    assert "Goals" not in {table.title for table in kernels.kernel_tables(benchmark)}
    said = list(kernels.kernel_header(benchmark.facts))
    assert any("not a measurement of speed" in line for line in said)
    assert any("meant for 2 cores, and 1 were used" in line for line in said)


def test_a_folder_without_a_benchmark(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no kernel benchmark"):
        kernels.read_kernel_benchmark(tmp_path)
