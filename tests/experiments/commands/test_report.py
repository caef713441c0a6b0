"""`unept-bench report` as a user types it."""

from __future__ import annotations

import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from command_line import (
    MEASURE,
    assert_usage_error,
    captured,
    ledger,
    run_cli,
)

import cli
from bench.results import row_files
from bench.results.rows import content_key

OUT = Path("study/quick-scenes")


def test_a_report_says_which_rows_it_leaves_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "2") == 0
    (row, _) = sorted((OUT / "runs").glob("*.json"))
    row.write_text("[" * 100_000)
    capsys.readouterr()
    assert run_cli("report", str(OUT)) == 0
    assert f"left out: {row}: nested too deeply" in capsys.readouterr().out


@pytest.mark.parametrize("entry", [3, {"kind": "ablate"}, {"runs": [3], "measures": []}])
def test_a_study_file_of_another_form_is_damaged(capsys: pytest.CaptureFixture[str], entry: Any) -> None:
    words = ("ablate", "--grid", "N=4", "--seeds", "1")
    assert run_cli(*words) == 0
    study = json.loads((OUT / "study.json").read_text())
    (OUT / "study.json").write_text(json.dumps(study | {"experiments": {"ablate N=4": entry}}))
    capsys.readouterr()
    assert run_cli("report", str(OUT)) == 0
    said = captured(capsys).text
    assert "damaged; set aside as study.json.damaged-1 and made anew from the rows" in said
    assert "report of ablate N=4: " in said
    assert run_cli(*words) == 0
    assert "1 of 1 run are there already" in captured(capsys).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": []}, "metrics: expected an object, it is []"),
        ({"metrics": {"iou": [["sky"]]}}, 'metrics.iou: expected an object, it is [["sky"]]'),
        ({"command": ["x"]}, 'command: expected a text or null, it is ["x"]'),
        ({"settings": {}}, "settings.data is missing"),
    ],
)
def test_a_row_of_another_shape_is_left_out_by_name(
    capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "2") == 0
    (path, _) = sorted((OUT / "runs").glob("*.json"))
    row = json.loads(path.read_text()) | change
    del row["digest"]
    path.write_text(json.dumps(row | {"digest": content_key(row)}))
    capsys.readouterr()
    assert run_cli("report", str(OUT)) == 0
    assert f"left out: {path}: {said}" in capsys.readouterr().out


def test_two_reports_at_once_are_both_whole() -> None:
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "2") == 0
    folder = OUT / "report" / "ablate-N=4,16"
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as pool:
        assert [*pool.map(_report, range(4))] == [0] * 4
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def _report(_: int) -> int:
    return cli.main(["report", str(OUT)])


def test_a_report_reads_each_row_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time grows with the number of rows, so none is read again for each table."""
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "3", measure=MEASURE) == 0
    read: list[str] = []
    parse = row_files.row_from_text

    def counted(text: str, kind: str, key: str) -> Any:
        read.append(f"{kind} {key}")
        return parse(text, kind, key)

    monkeypatch.setattr(row_files, "row_from_text", counted)
    assert run_cli("report", str(OUT)) == 0
    assert len(read) == len(set(read)) == 8


def test_a_table_that_is_no_text_is_made_again() -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1") == 0
    before = (OUT / "results.csv").read_bytes()
    (OUT / "results.csv").write_bytes(b"\xff\xfe")
    assert run_cli("report", str(OUT)) == 0
    assert (OUT / "results.csv").read_bytes() == before


def test_report_again_from_the_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("ablate", "--grid", "N=4", "--seeds", "1") == 0
    for path in [OUT / "results.csv", *(OUT / "report").rglob("*.md")]:
        path.unlink()
    assert run_cli("report", str(OUT)) == 0
    assert (OUT / "results.csv").exists()
    assert list((OUT / "report").rglob("*.md"))


def test_two_folders_are_read_together(capsys: pytest.CaptureFixture[str]) -> None:
    for place, seeds in (("a", "1"), ("b", "3")):
        assert run_cli("ablate", "--grid", "N=4,16", "--seeds", seeds, "--out", place) == 0
    assert run_cli("report", "a", "b") == 0
    assert "| N=4 | 3 |" in (Path("a") / "report" / "ablate-N=4,16" / "report.md").read_text()
    assert "6 runs of 2 variants: 6 ok" in (Path("a") / "report" / "ablate-N=4,16" / "report.md").read_text()
    assert "nowhere: no study here" in assert_usage_error(capsys, "report", "a", "nowhere")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "absent"], "absent: no study here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []
