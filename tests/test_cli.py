"""The program itself: its help, its version, its options, and what is no verb."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError

import pytest
from command_line import assert_usage_error, parse_command_line

import cli
from bench import environment

TRAIN = """data preset profile backbone set steps seed backbone-weights out gpus processes threads backend precision
accumulation channels-last compile checkpointing workers loss-normalization denominators
eval-every log-every tensorboard dry-run"""


def test_help_version_and_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("unept-bench ")
    assert cli.main([]) == 0
    assert "ablate" in capsys.readouterr().out
    assert cli.main(["ablate", "--help"]) == 0
    assert "--dry-run" in capsys.readouterr().out
    assert cli.main(["doctor"]) == 0
    assert "attention backends:" in capsys.readouterr().out


def test_the_options_are_these() -> None:
    """A change of the command line is a decision, not an accident."""
    shared = {"seeds", "preset", "data", "steps", "backbone-weights", "out", "jobs", "threads", "retry", "dry-run"}
    shared |= {"control", "backend", "split", "engine", "address", "shard", "skip-oom", "margin", "target"}
    protocol = {f"--{name}" for name in ("mode", "window", "stride", "scales", "flip", "base", "device")}
    protocol |= {"--own-modules", "--out"}
    commands = dict(cli.typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
    commands |= {f"data {name}": command for name, command in commands.pop("data").commands.items()}
    found = {name: {opt for p in command.params for opt in p.opts} for name, command in commands.items()}
    assert found == {
        "ablate": {f"--{name}" for name in shared | {"grid", "rates"}},
        "table": {f"--{name}" for name in shared | {"row", "rates", "set"}} | {"number"},
        "train": {f"--{name}" for name in TRAIN.split()},
        "complexity": {f"--{name}" for name in ("size", "model", "network", "time", "batch", "rounds", "out")},
        "report": {"folders", "--experiment", "--control", "--margin", "--no-pictures"},
        "power": {"folder", "--difference", "--sd", "--comparisons", "--experiment", "--control"},
        "kernels": {"--out", "--threads", "--repeats", "--shapes", "--quick"},
        "attention": {f"--{name}" for name in ("only", "out", "threads", "repeats", "malloc", "quick")},
        "step": {"cases"} | {f"--{name}" for name in ("backends", "images", "rounds", "threads", "out")},
        "memory": {f"--{name}" for name in ("row", "batch", "size", "precision", "optimizer", "out")}
        | {"--checkpointing", "--verify", "--scale", "--quick"},
        "scaling": {"--quick", "--out"},
        "check": {"name", "--set", "--slot"},
        "data verify": {"spec", "--jobs", "--out"},
        "hours": {"--tflops", "--utilisation", "--card", "--seeds", "--out"},
        "convert": {"released", "--out", "--heads"},
        "evaluate": {"checkpoints"}
        | protocol
        | {f"--{name}" for name in ("data", "split", "images", "results")}
        | {f"--{name}" for name in ("processes", "gpus", "threads")},
        "predict": {"path", "--checkpoint", "--max-pixels"} | protocol,
        "doctor": set(),
    }


def test_version_without_installation(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(cli, "version", absent)
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "unept-bench (not installed)\n"


def test_libraries_are_told_of_a_home_where_there_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(environment, "home_variables", lambda: {"XDG_CACHE_HOME": "/own"})
    monkeypatch.setattr(cli, "_version", lambda: os.environ["XDG_CACHE_HOME"])
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "unept-bench /own\n"
    assert "XDG_CACHE_HOME" not in os.environ


def test_a_verb_that_is_none_is_refused_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ablate" in assert_usage_error(capsys, "ablte", "--grid", "N=4")


def test_an_options_older_name_is_understood_and_not_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--help"]) == 0
    listed = capsys.readouterr().out
    assert "--loss-normalization" in listed
    assert "--denominators" not in listed
    train = ["train", "--preset", "quick"]
    new, old = (parse_command_line([*train, option, "device"]) for option in ("--loss-normalization", "--denominators"))
    assert old == new != parse_command_line(train)
    line = assert_usage_error(capsys, *train, "--loss-normalization", "device", "--denominators", "global")
    assert line == "--denominators is the older name of --loss-normalization: give one of them"
    line = assert_usage_error(capsys, *train, "--denominators", "none")
    assert line == "--loss-normalization none: expected global or device"
