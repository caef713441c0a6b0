"""A study runs copies of the user's modules."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bench.config.grid import Variant
from bench.config.presets import preset
from bench.results import source_hash
from bench.study.run import run_study
from bench.study.study import Study, WorkerTasks

MINE = "from helper import FACTOR\n\ndef score():\n    return FACTOR\n"
ROWS = 2  # seeds of each variant


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The user's folder, where his commands are given."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "mine.py").write_text(MINE)
    (folder / "helper.py").write_text("FACTOR = 0.25\n")
    monkeypatch.setenv("FAKE_ORIGINAL", str(folder / "helper.py"))
    monkeypatch.setenv("FAKE_LEDGER", str(tmp_path / "ledger"))
    monkeypatch.chdir(folder)
    yield folder
    source_hash._user_modules.cache_clear()


def run(out: Path, say: list[str]) -> list[tuple[str, float]]:
    """Each row's module and score, by a command that begins now."""
    source_hash._user_modules.cache_clear()
    base = preset("quick")
    variants = tuple(
        Variant(
            name=name, axes={"encoder_self": name}, settings=replace(base, model=replace(base.model, encoder_self=name))
        )
        for name in ("mine:A", "none")
    )
    tasks = WorkerTasks(run="fake_tasks:own_module", measure="")
    study = Study(
        name="t", kind="ablate", variants=variants, seeds=ROWS, preset="quick", data="scenes", out=out, tasks=tasks
    )
    return [(row["variant"], row["metrics"]["miou"]) for row in run_study(study, say.append)]


def due(said: list[str]) -> list[str]:
    """The lines that say how much was due and why."""
    return [line for line in said if "due" in line]


@pytest.mark.parametrize("found_by", ["working directory", "PYTHONPATH"])
def test_an_edit_during_a_study_is_of_the_next_command_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found_by: str
) -> None:
    if found_by == "PYTHONPATH":
        monkeypatch.setenv("PYTHONPATH", f"{folder}:{sys.path[0]}", prepend=":")
        monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
        monkeypatch.chdir(tmp_path)
    out = tmp_path / "study"
    first: list[str] = []
    assert run(out, first) == [("mine:A", 0.25), ("none", 0.5)] * ROWS
    assert (folder / "helper.py").read_text() == "FACTOR = 0.75\n", "the first run edited it"
    second: list[str] = []
    assert run(out, second) == [("mine:A", 0.75), ("none", 0.5)] * ROWS
    assert "2 runs are due again: changed since their rows were made" in due(second)[0]
    assert due(second)[0].endswith(": user:mine")
    third: list[str] = []
    run(out, third)
    assert (due(third), third) == ([], ["4 of 4 runs are there already"])


def test_a_comment_makes_nothing_due(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run(out, [])
    run(out, [])
    (folder / "mine.py").write_text(f"# a comment\n{MINE}")
    said: list[str] = []
    run(out, said)
    assert said == ["4 of 4 runs are there already"]


def test_a_copy_that_was_edited_is_made_anew(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    run(out, [])
    (copy,) = (out / "modules").iterdir()
    assert sorted(path.name for path in copy.glob("*.py")) == ["helper.py", "mine.py"]
    (folder / "helper.py").write_text("FACTOR = 0.25\n")
    (copy / "helper.py").write_text("FACTOR = 0.9\n")
    for row in (out / "runs").glob("*.json"):
        row.unlink()
    said: list[str] = []
    assert run(out, said) == [("mine:A", 0.25), ("none", 0.5)] * ROWS
    assert said[0] == f"{copy} was changed; set aside as {copy.name}.damaged-1 and made anew"


def test_helpers_that_no_statement_imports_are_not_there(folder: Path, tmp_path: Path) -> None:
    (folder / "mine.py").write_text("import importlib\nFACTOR = importlib.import_module('hel' + 'per').FACTOR\n")
    base = preset("quick")
    settings = replace(base, model=replace(base.model, encoder_self="mine:A"))
    study = Study(
        name="t",
        kind="ablate",
        variants=(Variant(name="mine:A", axes={}, settings=settings),),
        seeds=1,
        preset="quick",
        data="scenes",
        out=tmp_path / "study",
        tasks=WorkerTasks(run="fake_tasks:own_module", measure=""),
    )
    (row,) = run_study(study, [].append)
    assert (row["status"], row["message"]) == ("failed", "ModuleNotFoundError: No module named 'helper'")
