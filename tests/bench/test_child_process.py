"""A spec goes into a fresh process and its last result comes back, also where the process dies or is stopped."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench import child_process
from bench.child_process import run_child


@pytest.fixture(autouse=True)
def _worker_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [str(Path(__file__).parents[2]), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, folders)))


def test_the_last_result_comes_back_and_variables_reach_the_child() -> None:
    outcome = run_child("child_worker", {"number": 21}, variables={"CHILD_VARIABLE": "here"})
    assert outcome.result == {"value": 42, "whole": True, "variable": "here"}
    assert (outcome.exit_status, outcome.stderr, outcome.interrupted) == (0, "", False)


def test_a_child_that_dies_leaves_what_it_had_written() -> None:
    outcome = run_child("child_worker", {"number": 1, "die": True}, capture=True)
    assert outcome.result["value"] == 2
    assert not outcome.result["whole"]
    assert outcome.exit_status == 9
    assert outcome.stderr.strip() == "last words"


def test_a_child_that_cannot_start_has_no_result() -> None:
    outcome = run_child("no_such_worker", {}, capture=True)
    assert outcome.result is None
    assert outcome.exit_status != 0
    assert "no_such_worker" in outcome.stderr


def test_a_stop_by_the_user_is_told_and_not_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> int:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(child_process.subprocess.Popen, "wait", stop)
    assert run_child("child_worker", {"number": 1}).interrupted


def test_a_child_with_a_limit_ends_in_time_with_everything_that_it_started() -> None:
    began = time.perf_counter()
    outcome = run_child("child_worker", {"number": 4, "stay": True}, seconds=3.0, capture=True)
    assert outcome.timed_out
    assert outcome.result["value"] == 8
    assert time.perf_counter() - began < 30
    assert _is_dead(outcome.result["grandchild"])
    assert not run_child("child_worker", {"number": 4}, seconds=60.0).timed_out


def _is_dead(process: int) -> bool:
    """Wait for a moment; a process that nobody has waited for is dead too."""
    stat = Path(f"/proc/{process}/stat")
    for _ in range(50):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.1)
    return False


def test_a_child_reads_nothing() -> None:
    assert run_child("child_worker", {"number": 1, "reads": True}, capture=True).result["read"] == ""
