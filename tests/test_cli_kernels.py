"""`unept-bench kernels` as a user types it, at tiny sizes."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

import cli
from bench.kernels.rows import COLUMNS


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_a_quick_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "kernels"
    assert cli.main(["kernels", "--quick", "--threads", "1", "--out", str(out)]) == 0
    said = capfd.readouterr().out
    assert "tuned malloc: tiny\n" in said
    assert f"report: {out / 'kernels.md'}" in said
    assert "Operator, tuned malloc." in said
    with (out / "kernels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len({row["key"] for row in rows}) == len(rows)
    assert all(float(row["value"]) > 0 for row in rows if row["quantity"] != "disagreement")
    found = {(row["part"], row["malloc"], row["side"]) for row in rows}
    for malloc in ("default", "tuned"):
        assert {("operator", malloc, side) for side in ("native", "reference", "mmcv", "pyramid", "level")} <= found
        assert {("module", malloc, side) for side in ("native", "reference")} <= found
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


def test_without_a_compiler_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import bench.kernels.run
    from unept.ops import build

    monkeypatch.setenv("CXX", str(tmp_path / "no-compiler"))
    monkeypatch.setattr(bench.kernels.run, "PARTS", {"tuned": ("operator",), "counted": ("memory",)})
    build._outcome.cache_clear()
    try:
        assert cli.main(["kernels", "--quick", "--threads", "1", "--out", str(tmp_path / "out")]) == 0
    finally:
        build._outcome.cache_clear()
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
        (("--threads", "two"), "'two' is no whole number"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert cli.main(["kernels", "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unept-bench: ")
    assert said in line
    assert not (tmp_path / "out").exists()
