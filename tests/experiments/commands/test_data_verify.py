"""`unept-bench data verify` as a user types it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import (
    assert_usage_error,
    dataset,
    ledger,
    picture,
    run_cli,
)


def test_a_data_set_is_verified(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    dataset(place / "pictures")
    words = ("data", "verify", "folder:pictures?classes=3", "--out", "tables")
    assert run_cli(*words) == 1
    said = capsys.readouterr()
    assert said.err == ""
    lines = said.out.splitlines()
    assert re.fullmatch(r"train +2 +– +32 +32 +1 +0\.00% +1/3", lines[2])
    assert lines[-2:] == ["3 wrong, 2 to note", "tables: tables"]
    assert [line[:9] for line in lines if line.startswith("WRONG")] == ["WRONG tra", "WRONG val", "WRONG tra"]
    assert "train/a.png = pictures/images/train/b.png. To do: keep one of each, with the right label." in said.out
    assert sorted(path.name for path in Path("tables").iterdir()) == ["classes.csv", "findings.csv", "splits.csv"]

    for number, path in enumerate(sorted((place / "pictures" / "images").rglob("*.png"))):
        picture(path, "RGB", value=number)
    assert run_cli(*words[:3]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "0 wrong, 2 to note"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data"], "Missing command"),
        (["data", "verfy"], "verfy"),
        (["data", "verify"], "Missing argument"),
        (["data", "verify", "absent"], "data 'absent': expected scenes, scenes:v2, folder:PATH"),
        (["data", "verify", "cityscapes:absent"], "absent: data folder does not exist"),
        (["data", "verify", "cityscape:absent"], "did you mean cityscapes?"),
        (["data", "verify", "scenes"], "there are no files to read"),
        (["data", "verify", "absent", "--jobs", "-1"], "--jobs -1: expected 0 to 256"),
        (["data", "verify", "absent", "--jobs", "257"], "--jobs 257: expected 0 to 256"),
        (["data", "verify", "absent", "--jobs", "two"], "--jobs two: expected a whole number"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], place: Path, words: list[str], message: str
) -> None:
    assert message in assert_usage_error(capsys, *words)
    assert list(place.iterdir()) == []
    assert ledger() == []
