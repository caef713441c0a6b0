"""Rows and study.json as a hand or another program leaves them: used, or left out by name; a report is always made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_values import FEW, SOME, changed, damaged, refusal
from synthetic import full_row, measure_row, without_plots, write_study

from bench.results import legacy_keys, study_file
from bench.results.rows import content_key, row_to_text
from bench.results.store import Store
from reports.study import terminal
from reports.study.report import study_report_files
from reports.study.write import read_study

EXPERIMENT = "grid"
VARIANTS = ("N=4 L=3", "N=16 L=3")
RUN = json.loads(row_to_text(full_row(VARIANTS[0], 0, 0.5, lookalike=0.8, refined=0.6)))
MEASURE = json.loads(row_to_text(measure_row(VARIANTS[0])))


def study(out: Path) -> Path:
    """A fresh study of four runs and two measures."""
    shutil.rmtree(out, ignore_errors=True)
    runs = [full_row(variant, seed, 0.5 + 0.01 * seed, lookalike=0.8) for variant in VARIANTS for seed in (0, 1)]
    runs[0] = RUN
    write_study(out, EXPERIMENT, "ablate", runs, [measure_row(variant) for variant in VARIANTS])
    return out


def with_digest(row: dict[str, Any]) -> str:
    """The row's text with the digest that fits it; NaN and infinity stand as Python writes them."""
    content = {name: value for name, value in row.items() if name != "digest"}
    try:
        digest = content_key(content)
    except ValueError:
        digest = "0" * 16
    return json.dumps(content | {"digest": digest})


def report(out: Path) -> list[str]:
    """Make everything that a report is made of, and return the lines on what is wrong."""
    store = Store(out, keep=True)
    said = [*store.mend()]
    said += [problem for kind in ("run", "measure") for problem in store.read(kind).problems]
    store.write_tables()
    legacy_keys.pending(store)
    for name in store.experiments():
        whole = read_study([store], name)
        assert study_report_files(whole)["report.md"]
        said += [*terminal.study_lines(whole), *terminal.audit_lines(whole, always=True)]
    assert not any("\n" in line for line in said)
    return said


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    without_plots(monkeypatch)


@settings(SOME, max_examples=30)
@given(row=changed(RUN))
@pytest.mark.usefixtures("no_plots")
def test_a_run_of_any_shape_with_a_right_digest_is_reported_or_left_out_by_name(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    path = study(tmp_path / "study") / "runs" / f"{RUN['key']}.json"
    path.write_text(with_digest(row))
    said = report(tmp_path / "study")
    assert Store(tmp_path / "study").has("run", RUN["key"]) or any(f"left out: {path}: " in line for line in said)


@settings(SOME, max_examples=30)
@given(row=changed(MEASURE))
@pytest.mark.usefixtures("no_plots")
def test_a_measure_of_any_shape_with_a_right_digest_is_reported_or_left_out_by_name(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    path = study(tmp_path / "study") / "measures" / f"{MEASURE['key']}.json"
    path.write_text(with_digest(row))
    said = report(tmp_path / "study")
    assert Store(tmp_path / "study").has("measure", MEASURE["key"]) or any(
        f"left out: {path}: " in line for line in said
    )


@FEW
@given(data=damaged(json.dumps(RUN, indent=1).encode()))
@pytest.mark.usefixtures("no_plots")
def test_a_damaged_row_is_left_out_by_name(tmp_path: Path, data: bytes) -> None:
    path = study(tmp_path / "study") / "runs" / f"{RUN['key']}.json"
    path.write_bytes(data)
    said = report(tmp_path / "study")
    assert Store(tmp_path / "study").has("run", RUN["key"]) or any(f"left out: {path}: " in line for line in said)


@settings(FEW, max_examples=4)
@given(row=changed(RUN))
def test_plots_are_drawn_of_a_run_of_any_shape(tmp_path: Path, row: dict[str, Any]) -> None:
    path = study(tmp_path / "study") / "runs" / f"{RUN['key']}.json"
    path.write_text(with_digest(row))
    report(tmp_path / "study")


@SOME
@given(data=st.data(), digest=st.sampled_from(["right", "absent", "wrong"]))
@pytest.mark.usefixtures("no_plots")
def test_a_study_json_of_any_shape_costs_no_row(tmp_path: Path, data: st.DataObject, digest: str) -> None:
    out = study(tmp_path / "study")
    content = data.draw(changed(json.loads((out / "study.json").read_text())))
    try:
        text = study_file.study_text(content) if digest == "right" else json.dumps(content).encode()
    except ValueError:
        text = json.dumps(content).encode()
    if digest == "wrong":
        text = json.dumps(content | {"digest": "0" * 16}).encode()
    (out / "study.json").write_bytes(text)
    reported_or_refused(out)


@FEW
@given(data=st.data())
@pytest.mark.usefixtures("no_plots")
def test_a_damaged_study_json_costs_no_row(tmp_path: Path, data: st.DataObject) -> None:
    out = study(tmp_path / "study")
    (out / "study.json").write_bytes(data.draw(damaged((out / "study.json").read_bytes())))
    reported_or_refused(out)


def reported_or_refused(out: Path) -> None:
    """The study is reported, or refused in a line that names it; its rows are what they were."""
    before = {path: path.read_bytes() for path in out.rglob("*.json") if path.parent != out}
    for read in (report, lambda out: Store(out).open(preset="quick", data="scenes")):
        said = refusal(read, out)
        assert not said or str(out) in said
    assert {path: path.read_bytes() for path in before} == before
