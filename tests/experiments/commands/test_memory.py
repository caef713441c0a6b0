"""`unept-bench memory` as a user types it."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from command_line import (
    assert_unwritable_folder_is_refused,
    assert_usage_error,
    run_cli,
)


def test_memory_is_predicted_and_reported(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("memory", "--row", "none, ResNet50", "--size", "64", "--batch", "1", "--out", str(tmp_path))
    assert run_cli(*words) == 0
    said = capsys.readouterr().out
    assert re.search(r"none, ResNet50 +\d\.\d\d +\d\.\d\d  \w+", said)
    page = (tmp_path / "report.md").read_text()
    assert "Live tensors, predicted: a lower bound of what a GPU shows" in page
    assert "Beside the paper" not in page  # not its setting
    assert (tmp_path / "memory.csv").read_text().startswith("row,gib,bounded_gib,")
    took = re.search(r"^Predicting took \d+ s on \d+ cores?(, at most (.*) GiB resident)?, ", page, re.MULTILINE)
    assert took
    assert not took[2] or 0.1 < float(took[2]) < 100
    assert "--row CCNet: expected one of" in assert_usage_error(capsys, "memory", "--row", "CCNet")
    assert "--batch 0: expected at least 1" in assert_usage_error(capsys, "memory", "--batch", "0")
    assert "--precision fp8" in assert_usage_error(capsys, "memory", "--precision", "fp8")


def test_a_row_that_cannot_be_traced_is_a_line_and_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untraceable(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr("bench.profiling.memory.table._pool", lambda: ThreadPoolExecutor(1))
    monkeypatch.setattr("bench.profiling.memory.table.predict_peak", untraceable)
    assert run_cli("memory", "--row", "none, ResNet50", "--size", "64", "--batch", "1", "--out", str(tmp_path)) == 1
    assert "RuntimeError: no such operator" in capsys.readouterr().out
    assert "no such operator" in (tmp_path / "report.md").read_text()


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_unwritable_folder_is_refused(capsys, tmp_path, "memory")
