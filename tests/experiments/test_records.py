"""Records in reports/records/: each page and table is what the analysis makes of the record's rows today."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from locations import ROOT

from experiments import records
from reports.study.record import read_record, record_files

RECORDS = ROOT / "reports/records"


def copied(folder: Path, name: str) -> Path:
    shutil.copytree(RECORDS / name, folder / name, ignore=shutil.ignore_patterns("*.png"))
    return folder / name


def test_the_records_are_what_their_rows_give(capsys: pytest.CaptureFixture[str]) -> None:
    assert records.main(["--check"]) == 0, capsys.readouterr().out


def test_a_changed_row_makes_its_record_stale_and_is_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(tmp_path, "quick-grid")
    rows = (folder / "results.csv").read_text(encoding="utf-8")
    found = re.search(r"^N=4 L=1,0,ok,(0\.\d+),", rows, re.MULTILINE)
    assert found is not None
    lower = float(found[1]) - 0.1
    changed = rows.replace(found[0], f"N=4 L=1,0,ok,{lower},")
    (folder / "results.csv").write_text(changed, encoding="utf-8")
    assert records.main(["--check"], tmp_path) == 1
    assert "quick-grid/report.md: stale" in capsys.readouterr().out
    assert records.main([], tmp_path) == 0
    assert records.main(["--check"], tmp_path) == 0
    before, after = ((path / "report.md").read_text(encoding="utf-8") for path in (RECORDS / "quick-grid", folder))
    means = [re.search(r"\| N=4 L=1 \| 5 \| (\S+) ", page) for page in (before, after)]
    assert float(means[0][1]) - float(means[1][1]) == pytest.approx(2, abs=0.011)  # type: ignore[index]
    assert before.partition("\n## Every seed")[2] == after.partition("\n## Every seed")[2]


def test_a_page_of_another_protocol_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path, "table-8")
    page = (folder / "report.md").read_text(encoding="utf-8")
    (folder / "report.md").write_text(page.replace("(scenes, 64 px, 500 steps)", "(scenes, 96 px, 500 steps)"))
    with pytest.raises(ValueError, match="96 px"):
        record_files(folder)


def test_a_record_that_says_its_split_and_rates_is_read_with_them(tmp_path: Path) -> None:
    folder = copied(tmp_path, "table-8")
    head, *lines = (folder / "results.csv").read_text(encoding="utf-8").splitlines()
    text = "\n".join([f"{head},split,lr", *(f"{line},test,0.003" for line in lines)])
    (folder / "results.csv").write_text(f"{text}\n", encoding="utf-8")
    (run, *_) = read_record(folder).runs
    assert (run["settings"]["evaluation"]["split"], run["settings"]["train"]["lr"]) == ("test", 0.003)
    assert "split" not in run["metrics"]
    with pytest.raises(ValueError, match="split test"):  # which the page's headings do not name
        record_files(folder)
    page = (folder / "report.md").read_text(encoding="utf-8")
    named = page.replace("(scenes, 64 px, 500 steps)", "(scenes, split test, 64 px, 500 steps)")
    (folder / "report.md").write_text(named, encoding="utf-8")
    assert record_files(folder)["report.md"].decode() == named


def test_a_record_is_read_with_its_order_control_costs_and_steps() -> None:
    study = read_record(RECORDS / "table-5")
    assert study.kind == "table 5"
    assert study.variants == ("baseline", "+ pyramid features", "+ spatial path", "+ stronger backbone", "none")
    assert study.control == "+ spatial path"
    run = study.runs_of("+ spatial path")[1]
    assert run["training"] == {"jump_step": 300, "probe_gap": 50}
    assert run["metrics"]["iou"]["sky"] > 0.9
    assert study.measures["none"]["metrics"]["parameters"] > 100_000
