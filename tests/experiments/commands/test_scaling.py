"""`unept-bench scaling` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import (
    assert_unwritable_folder_is_refused,
    assert_usage_error,
    run_cli,
)


def test_how_a_layer_grows_is_reported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.attention_layer import scaling

    tiny = scaling.ScalingSweep(
        base=scaling.LayerSize(side=4, points=2), side=(4, 6), points=(2,), levels=(1,), batch=(1,), rounds=1
    )
    monkeypatch.setattr(scaling, "QUICK_SWEEP", tiny)
    assert run_cli("scaling", "--quick", "--out", str(tmp_path / "scaling")) == 0
    said = capsys.readouterr()
    assert "deformable" in said.out
    assert said.err.splitlines()[0] == "predicting along side"
    names = {path.name for path in (tmp_path / "scaling").iterdir()}
    assert {"report.md", "report.html", "scaling.csv", "exponents.csv", "scaling-time.png"} < names
    assert run_cli("memory", "--scale", "--quick", "--out", str(tmp_path / "older")) == 0
    older = capsys.readouterr()
    assert older.err.splitlines()[0] == "unept-bench: memory --scale is now a verb of its own: unept-bench scaling"
    assert {path.name for path in (tmp_path / "older").iterdir()} == names
    for words in (["--row", "SETR"], ["--batch", "4"], ["--verify"]):
        assert "--scale goes with --quick and --out alone" in assert_usage_error(capsys, "memory", "--scale", *words)
    assert "--quick goes with --scale" in assert_usage_error(capsys, "memory", "--quick")


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_unwritable_folder_is_refused(capsys, tmp_path, "scaling")
