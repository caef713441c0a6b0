"""`unept-bench kernels` as a user types it, at tiny sizes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import bench.microbench.operator.run
import cli
from bench.child_process import ChildOutcome
from bench.microbench.operator.request import OperatorBenchRequest
from bench.microbench.rows import ROW_COLUMNS
from unept.ops import cpu_build


@pytest.mark.usefixtures("compiler")
def test_a_quick_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    parts = (("tuned", ("operator", "machine", "module", "scaling")), ("counted", ("memory",)))
    monkeypatch.setattr(bench.microbench.operator.run, "PROCESSES", parts)
    out = tmp_path / "kernels"
    assert cli.main(["kernels", "--quick", "--threads", "1", "--out", str(out)]) == 0
    said, progress = capfd.readouterr()
    assert "tuned malloc: tiny\n" in progress
    assert f"report: {out / 'kernels.md'}" in said
    assert "Operator, tuned malloc." in said
    with (out / "kernels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == ROW_COLUMNS
    assert len({row["key"] for row in rows}) == len(rows)
    assert all(float(row["value"]) > 0 for row in rows if row["quantity"] != "disagreement")
    found = {(row["part"], row["malloc"], row["side"]) for row in rows}
    assert {("operator", "tuned", side) for side in ("native", "reference", "mmcv", "pyramid", "level")} <= found
    assert {("module", "tuned", side) for side in ("native", "reference")} <= found
    assert ("machine", "tuned", "machine") in found
    assert ("scaling", "tuned", "native") in found
    facts = json.loads((out / "kernels.json").read_text(encoding="utf-8"))
    assert len(facts["load"]) == 2
    assert facts["command"].startswith("unept-bench kernels --quick")
    if not any("memory is not measured" in note for note in facts["notes"]):
        count = {(row["side"], row["phase"]): float(row["value"]) for row in rows if row["quantity"] == "bytes"}
        # 48 points of 108 queries and 8 heads, 32 channels each: mmcv holds them all, we hold results
        assert count["mmcv", "forward"] > 4 * 108 * 8 * 48 * 32
        assert 4 * 108 * 8 * 32 < count["native", "forward"] < 10 * 4 * 108 * 8 * 32
        gradients = 4 * (108 * 256 + 3 * 108 * 8 * 48)
        assert gradients < count["native", "forward+backward"] < count["native", "forward"] + 2 * gradients
    assert {path.name for path in out.glob("*.png")} == {"kernels-ratios.png", "kernels-scaling.png"}


@pytest.mark.slow
@pytest.mark.usefixtures("compiler")
def test_a_quick_run_of_everything(tmp_path: Path) -> None:
    assert cli.main(["kernels", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    with (tmp_path / "kernels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for part in ("operator", "module"):
        assert {row["malloc"] for row in rows if row["part"] == part} == {"default", "tuned"}
    notes = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))["notes"]
    compared = {row["side"] for row in rows if row["part"] == "instructions"}
    assert compared == {"avx2", "avx512"} or any("are not compared" in note for note in notes)


def test_a_process_that_dies_is_a_note_and_what_was_measured_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"part": "operator", "malloc": "tuned", "shape": "tiny", "side": "mmcv", "phase": "forward"}
    row |= {"quantity": "seconds", "value": 1.0, "q1": 1.0, "q3": 1.0, "n": 1, "threads": 1}

    def end(module: str, spec: Mapping[str, Any], **_: object) -> ChildOutcome:
        if spec["malloc"] == "default":
            return ChildOutcome(result=None, exit_status=-9)
        return ChildOutcome(result={"rows": [row], "notes": [], "malloc": "x"}, exit_status=0)

    monkeypatch.setattr(
        bench.microbench.operator.run, "PROCESSES", (("tuned", ("operator",)), ("default", ("module",)))
    )
    monkeypatch.setattr(bench.microbench.operator.run, "_build", lambda _: None)
    monkeypatch.setattr(bench.microbench.operator.run, "run_child", end)
    bench.microbench.operator.run.run_operator_benchmark(OperatorBenchRequest(out=tmp_path, threads=1))
    assert "operator/tuned/tiny/mmcv/forward" in (tmp_path / "kernels.csv").read_text(encoding="utf-8")
    notes = json.loads((tmp_path / "kernels.json").read_text(encoding="utf-8"))["notes"]
    assert notes == ["not measured: module; the process with default malloc ended with exit status -9"]


def test_without_a_compiler_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(
        bench.microbench.operator.run, "PROCESSES", (("tuned", ("operator",)), ("counted", ("memory",)))
    )
    cpu_build._outcome.cache_clear()
    try:
        assert cli.main(["kernels", "--quick", "--threads", "1", "--out", str(tmp_path / "out")]) == 0
    finally:
        cpu_build._outcome.cache_clear()
    said = capfd.readouterr().out
    assert said.count("the native kernel is not there: ") == 1
    assert said.count("memory is not measured: ") == 1
    rows = (tmp_path / "out" / "kernels.csv").read_text(encoding="utf-8").splitlines()
    assert {line.split("/")[3] for line in rows[1:]} >= {"reference", "mmcv"}
    assert not any("/native/" in line for line in rows)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--shapes", "small,large"), "unknown shape 'large'; there are small, deit-encoder"),
        (("--repeats", "0"), "--repeats 0: expected 1 or more"),
        (("--threads", "0"), "--threads 0: expected 1 or more"),
        (("--threads", "two"), "--threads two: expected a whole number"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert cli.main(["kernels", "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unept-bench: ")
    assert said in line
    assert not (tmp_path / "out").exists()
