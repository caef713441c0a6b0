"""`unept-bench power` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import (
    assert_usage_error,
    run_cli,
)

OUT = Path("study/quick-scenes")


def test_power(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli("power", "--difference", "1", "--sd", "1") == 0
    assert capsys.readouterr().out.startswith("17 seeds a variant show a difference of 1 point with 80 % probability")
    assert run_cli("ablate", "--grid", "N=4,16", "--seeds", "2") == 0
    capsys.readouterr()
    assert run_cli("power", str(OUT), "--difference", "5") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "ablate N=4,16:"
    assert said[1].startswith("  Differences of 5 points of mIoU from N=4,")
    for words in (("power",), ("power", str(OUT), "--sd", "1")):
        assert "expected --sd, or the folder of a study" in assert_usage_error(capsys, *words)
    assert assert_usage_error(capsys, "power", "--sd", "-1") == "sd -1.0: expected a standard deviation of 0 or more"
    assert "difference 0.0" in assert_usage_error(capsys, "power", "--sd", "1", "--difference", "0")
