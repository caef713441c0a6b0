"""Two studies of the same runs are compared as the report compares variants."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic import run_row

from bench.results.rows import row_to_text
from experiments.compare_studies import comparison_lines, main
from reports.analysis.study_rows import assemble_study

SCORES = {"N=4": (0.41, 0.43, 0.42, 0.44), "N=16": (0.40, 0.42, 0.41, 0.43)}


def study(shift: float = 0.0, **shifts: float) -> object:
    """Two variants of four seeds, moved by so much mIoU."""
    moved = {name: shifts.get(name.replace("=", ""), shift) for name in SCORES}
    rows = [run_row(name, i, score + moved[name]) for name, scores in SCORES.items() for i, score in enumerate(scores)]
    return assemble_study("ablate", runs=rows)


def test_no_difference_is_found_between_equal_studies() -> None:
    lines, different = comparison_lines(study(), study(0.001))  # type: ignore[arg-type]
    assert not different
    assert lines[-1] == "Holm finds no difference."
    assert [line.split(" | ")[0] for line in lines[4:6]] == ["| N=4", "| N=16"]
    assert "| 4 + 4 | 42.50 | 42.60 | +0.10 (" in lines[4]


def test_a_difference_is_found_and_named() -> None:
    lines, different = comparison_lines(study(), study(N16=-0.2))  # type: ignore[arg-type]
    assert different
    assert lines[-1] == "Holm finds a difference in: N=16."


def test_the_command_reads_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, moved in (("before", study()), ("after", study(N4=-0.2))):
        (tmp_path / name / "runs").mkdir(parents=True)
        for row in moved.runs:  # type: ignore[attr-defined]
            (tmp_path / name / "runs" / f"{row['key']}.json").write_text(row_to_text(row))
    assert main([str(tmp_path / "before"), str(tmp_path / "after")]) == 1
    assert "Holm finds a difference in: N=4." in capsys.readouterr().out
    assert main([str(tmp_path / "before"), str(tmp_path / "before")]) == 0
    assert main([str(tmp_path / "before"), str(tmp_path / "gone")]) == 2
    assert main([]) == 2
    assert "gone: no runs of a study are there" in capsys.readouterr().err
