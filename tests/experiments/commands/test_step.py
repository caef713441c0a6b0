"""`unept-bench step` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import (
    assert_usage_error,
    run_cli,
)


def test_a_step_is_timed_by_its_parts(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ("step", "quick N=4", "--images", "1", "--rounds", "1", "--threads", "1", "--backends", "reference")
    assert run_cli(*words, "--out", str(tmp_path / "page.md")) == 0
    page = (tmp_path / "page.md").read_text()
    assert "## quick N=4: 1 x 64 px, tiny_conv" in page
    assert page in capsys.readouterr().out
    assert "--rounds 0: expected at least 1" in assert_usage_error(capsys, "step", "quick", "--rounds", "0")
    assert "--backends fast: expected auto, reference, native" in assert_usage_error(
        capsys, "step", "quick", "--backends", "fast"
    )
    assert "preset 'quikc'" in assert_usage_error(capsys, "step", "quikc")
