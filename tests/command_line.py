"""What tests of the command line share: a call in this process, what it printed, a usage error, small data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

import cli
from bench.config.option_fields import check_options
from bench.study.study import WorkerTasks
from experiments.commands.options import options_from

MEASURE = "fake_tasks:measure"
GATED_ATTENTION = """
from torch import nn


class Gated(nn.Module):
    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, width)

    def forward(self, tokens, position, shapes):
        return tokens * self.gate(tokens.mean(1, keepdim=True)).sigmoid()
"""  # source of a user's attention


class Captured(NamedTuple):
    """What has been printed."""

    out: str
    err: str

    @property
    def text(self) -> str:
        """Results, then progress."""
        return self.out + self.err


def captured(capsys: pytest.CaptureFixture[str]) -> Captured:
    """What has been printed since the last look."""
    return Captured(*capsys.readouterr())


def run_cli(*words: str, task: str = "quick", measure: str = "", tries: bool = False) -> int:
    """The exit code of a command line whose workers call a fake task."""
    return cli.main(words, tasks=WorkerTasks(run=f"fake_tasks:{task}", measure=measure, tries_attentions=tries))


def assert_usage_error(
    capsys: pytest.CaptureFixture[str], *words: str, task: str = "quick", is_started: bool = False
) -> str:
    """The one line with which a command line is refused; it is the last line where something `is_started` before."""
    capsys.readouterr()
    assert run_cli(*words, task=task) == 2
    said = captured(capsys)
    lines = said.err.splitlines()
    assert len(lines) == 1 or is_started, said.err
    assert lines[-1].startswith("unept-bench: ")
    assert "Traceback" not in said.text
    return lines[-1].removeprefix("unept-bench: ")


def assert_unwritable_folder_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, *words: str) -> None:
    """A report's folder that is a file is refused before anything is measured."""
    file = tmp_path / "file"
    file.write_text("kept", encoding="utf-8")
    line = assert_usage_error(capsys, *words, "--out", str(file))
    assert line == f"--out {file}: {file} is a file; expected a folder, name another"
    assert file.read_text(encoding="utf-8") == "kept"


def ledger() -> list[str]:
    """A line for each fake task that has run."""
    path = Path(os.environ["FAKE_LEDGER"])
    return path.read_text().splitlines() if path.exists() else []


def picture(path: Path, mode: str, side: int = 32, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    Image.fromarray(np.full(shape, value, np.uint8)).save(path)


def dataset(folder: Path) -> None:
    """Two pictures each for training and validation, three classes."""
    for split in ("train", "val"):
        for name in ("a", "b"):
            picture(folder / "images" / split / f"{name}.png", "RGB", value=90)
            picture(folder / "labels" / split / f"{name}.png", "L", value=1)


def parse_command_line(words: list[str]) -> Any:
    """The options that a command line means, without doing anything. Raises for what is not understood."""
    root = cli.typer.main.get_command(cli.app)
    command: Any = root
    context = None
    while hasattr(command, "commands"):
        name, *words = words
        context = root.make_context(cli.NAME, [], resilient_parsing=True) if context is None else context
        command = command.commands[name]
    parsed = command.make_context(command.name, list(words), parent=context)
    (verb,) = (verb for verb in (*cli.VERBS, cli.data_verify.VERB) if verb.name == command.name)
    options = options_from(verb.options, parsed.params)
    check_options(options)
    return options
