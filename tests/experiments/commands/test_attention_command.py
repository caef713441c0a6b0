"""`unept-bench attention`: a quick run from the command line to the report, and what it refuses."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import cli


def table(out: Path) -> list[dict[str, str]]:
    with (out / "attention.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_quick_run_of_one_comparison(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["attention", "--quick", "--only", "dense", "--threads", "1", "--out", str(out)]
    assert cli.main(words) == 0
    said = capfd.readouterr()
    assert "dense, time: milliseconds" in said.out
    assert "not a measurement of speed" in said.out
    rows = table(out)
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["side"] for row in rows} == {"dense_fused", "torch", "dense_math"}
    count = {(row["side"], row["phase"]): float(row["value"]) for row in rows if row["quantity"] == "bytes"}
    if count:  # without a compiler memory is not counted, and a note says so
        matrix = 4 * 2 * 1300**2
        assert count["dense_math", "forward"] > matrix > count["dense_fused", "forward"]
    else:
        assert "memory is not measured" in said.out
    assert {path.name for path in out.glob("*.png")} == {"attention.png"}


@pytest.mark.slow
def test_a_quick_run_of_everything(tmp_path: Path) -> None:
    assert cli.main(["attention", "--quick", "--threads", "1", "--out", str(tmp_path)]) == 0
    rows = table(tmp_path)
    assert {row["part"] for row in rows} >= {"longformer", "longformer-window2d", "reformer", "sparse-fixed"}
    assert {row["status"] for row in rows} <= {"ok", "unsupported"}
    assert all("pip install" in row["message"] for row in rows if row["status"] == "unsupported")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--only", "reform"), "--only reform: there are longformer, longformer-window2d, reformer"),
        (("--repeats", "0"), "--repeats 0: expected 1 or more"),
        (("--malloc", "mine"), "--malloc mine: expected tuned or default"),
        (("--threads", "two"), "--threads two: expected a whole number"),
    ],
)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    assert cli.main(["attention", "--out", str(tmp_path / "out"), *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("unept-bench: ")
    assert said in line
    assert not (tmp_path / "out").exists()
