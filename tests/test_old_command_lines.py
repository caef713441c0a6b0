"""Command lines of the release before this one are still understood."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from command_line import parse_command_line
from locations import ROOT

import cli

LINES = [
    line
    for line in (ROOT / "tests" / "old_command_lines.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


@pytest.mark.parametrize("line", LINES)
def test_an_old_line_parses(line: str) -> None:
    parse_command_line(shlex.split(line))


def test_every_verb_of_the_old_release_is_among_them() -> None:
    verbs = {shlex.split(line)[0] for line in LINES}
    assert verbs == {*(verb.name for verb in cli.VERBS), "data"} - {"scaling"}


@pytest.mark.parametrize(
    "line",
    [
        line
        for line in LINES
        if line.split()[0] in ("ablate", "table")
        and not any(word in line for word in ("PATH", ":", "w.pth", "table 8"))
    ],
)
def test_an_old_study_would_run(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.study.oom_policy.advise_on_memory", _no_advice)
    words = [*shlex.split(line), *["--dry-run"] * ("--dry-run" not in line)]
    assert cli.main(words) == 0
    assert " due" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def _no_advice(*_: Any, **__: Any) -> Any:
    from bench.study.oom_policy import MemoryAdvice

    return MemoryAdvice(warnings=(), misfits={})
