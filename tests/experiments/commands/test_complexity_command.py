"""`unept-bench complexity` as a user types it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import (
    assert_unwritable_folder_is_refused,
    assert_usage_error,
    run_cli,
)


def test_complexity_of_any_model(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "own_net.py").write_text("import torch\n\ndef make():\n    return torch.nn.Conv2d(3, 4, 1)\n")
    words = ("complexity", "--model", "own_net:make", "--size", "32x64", "--out", "counts")
    assert run_cli(*words, "--time", "--rounds", "1", "--batch", "2") == 0
    said = capsys.readouterr().out
    assert re.search(r"^own_net:make +32x64 +0\.000 ", said, re.MULTILINE)
    assert "report: counts/report.md and report.html" in said
    page = (place / "counts/report.md").read_text()
    assert "quartiles) of 1 rounds" in page
    assert "batch 2, 32x64 pixels" in page
    assert "Command: `unept-bench complexity --model own_net:make --size 32x64" in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "7"], "--size 7: expected 16 to 16384 pixels a side"),
        (["--model", "resnet101"], "--model resnet101: expected timm:NAME or module:callable, as in timm:resnet101"),
        (
            ["--model", "absent_module:x"],
            "--model absent_module:x: importing absent_module failed: ModuleNotFoundError",
        ),
        (["--model", "timm:resnet1O1"], "--model timm:resnet1O1: timm has no model 'resnet1O1' (nearest: resnet1"),
        (["--network", "CCNets"], "--network CCNets: expected one of PSANet; UperNet; "),
        (["--model", "timm:resnet18", "--network", "CCNet"], "--model and --network: give one of them"),
        (["--batch", "0"], "--batch 0: expected at least 1"),
    ],
)
def test_what_complexity_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert assert_usage_error(capsys, "complexity", *words).startswith(message)
    assert not Path("study").exists()


def test_a_folder_that_cannot_be_is_refused_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert_unwritable_folder_is_refused(capsys, tmp_path, "complexity")
