from __future__ import annotations

from typing import Any

import pytest
from driving import jobs

from bench.launchers.eta import estimate_durations, format_duration, remaining_seconds
from bench.launchers.progress import BarDisplay, JobClock, PlainDisplay, result_line
from bench.launchers.queue import Job, Outcome


def row(points: int, seconds: int, status: str = "ok") -> dict[str, Any]:
    return spec(points) | {
        "status": status,
        "started": "2026-01-01T00:00:00.000+00:00",
        "finished": f"2026-01-01T00:{seconds // 60:02}:{seconds % 60:02}.000+00:00",
    }


def spec(points: int, seed: int = 0) -> dict[str, Any]:
    settings = {"model": {"points": points}}
    return {"settings": settings, "preset": "quick", "threads": 1, "backend": "reference", "seed": seed, "sources": "a"}


def nothing(_: Any) -> None:
    return None


def test_runs_of_the_same_variant_are_the_measure() -> None:
    rows = [row(4, 10), row(4, 20), row(16, 60), row(4, 1, status="failed")]
    assert estimate_durations([spec(4), spec(16, seed=9), spec(64)], rows, nothing) == [15, 60, 30]
    assert estimate_durations([spec(4) | {"sources": "b"}], rows, nothing) == [15], "an edit hardly changes the time"
    assert estimate_durations([spec(4) | {"threads": 2}], [row(4, 10)], nothing) == [10]


def test_a_guess_is_scaled_by_what_was_measured() -> None:
    def guess(settings: Any) -> float:
        return float(settings["model"]["points"])

    assert estimate_durations([spec(16)], [], guess) == [16]
    assert estimate_durations([spec(16), spec(4)], [row(4, 8)], guess) == [32, 8]


def test_what_a_short_run_takes_beside_its_steps_is_not_multiplied() -> None:
    """A run of two steps is mostly start and evaluation; a longer one has those once."""

    def guess(settings: Any) -> float:
        return float(settings["model"]["points"])

    short = row(4, 30) | {"training": {"seconds": 2.0}}
    assert estimate_durations([spec(1000)], [short], guess) == [528]
    assert estimate_durations([spec(1000)], [short, row(40, 50) | {"training": {"seconds": 42.0}}], guess) == [1018]


def test_nothing_known_is_none() -> None:
    assert estimate_durations([spec(4)], [], nothing) == [None]


@pytest.mark.parametrize(
    ("due", "running", "parallel", "left"),
    [([10, 10, 10], [5], 2, 17.5), ([], [], 2, 0), ([30], [], 4, 30), ([None], [5], 2, None)],
)
def test_time_left(due: list[float | None], running: list[float | None], parallel: int, left: float | None) -> None:
    assert remaining_seconds(due, running, parallel) == left


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (62, "62 s"), (720, "12 min"), (12600, "3.5 h")])
def test_times_in_words(seconds: float, words: str) -> None:
    assert format_duration(seconds) == words


def outcome(job: Job, **changes: Any) -> Outcome:
    return Outcome(**({"job": job, "status": "ok", "metrics": {"miou": 0.451}, "seconds": 62.0} | changes))


def test_a_jobs_last_line(tmp_path: Any) -> None:
    todo = jobs(tmp_path, "quick", points=(16,), seeds=25)
    clock = JobClock(todo, 2, already=5)
    clock.started(todo[0])
    clock.ended(outcome(todo[0]))
    assert result_line(outcome(todo[0]), clock) == "6/30 N=16 seed 0: mIoU 45.1 (62 s), 12 min left"
    clock.ended(outcome(todo[1], status="oom", message="MemoryError: 3 TiB", metrics={}))
    line = result_line(outcome(todo[1], status="oom", message="MemoryError: 3 TiB"), clock)
    assert line == "7/30 N=16 seed 1: oom: MemoryError: 3 TiB (62 s), 12 min left"
    clock.ended(outcome(todo[2], status="elsewhere"))
    assert result_line(outcome(todo[2], status="elsewhere"), clock).startswith(
        "8/30 N=16 seed 2: made by another process"
    )


def test_estimates_are_corrected_by_how_far_off_they_were(tmp_path: Any) -> None:
    todo = [Job(spec=job.spec, label=job.label, estimate=10.0) for job in jobs(tmp_path, "quick", seeds=11)]
    clock = JobClock(todo, 1, already=0)
    assert clock.left() == ", 2 min left"
    clock.started(todo[0])
    clock.ended(outcome(todo[0], seconds=60.0))
    assert clock.left() == ", 10 min left"


def test_a_running_jobs_rest_follows_its_pace_and_not_its_start(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that continues at step 50 after 20 seconds of loading, and takes a second a step."""
    instant = 0.0
    monkeypatch.setattr("bench.launchers.progress.time.monotonic", lambda: instant)
    (job,) = [Job(spec=job.spec, label=job.label, estimate=80.0) for job in jobs(tmp_path, "quick")]
    clock = JobClock([job], 1, already=0)
    clock.started(job)
    instant = 20.0
    clock.running[job.key].reach(50, 100)
    assert clock.left() == ", 60 s left"
    instant = 30.0
    clock.running[job.key].reach(60, 100)
    assert clock.left() == ", 40 s left"


def test_plain_lines_are_few(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (job,) = jobs(tmp_path, "quick")
    with PlainDisplay(JobClock([job], 1, already=0)) as plain:
        plain.started(job)
        for step in range(1000):
            plain.stepped(job, step, 1000, "loss 1.0")
        plain.spoke[job.key] -= 11
        plain.stepped(job, 1000, 1000, "loss 0.9")
        plain.ended(outcome(job))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("  N=4 seed 0: 1000/1000 loss 0.9")
    assert lines[1] == "1/1 N=4 seed 0: mIoU 45.1 (62 s)"


def test_bars_end_every_job_with_the_same_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    todo = jobs(tmp_path, "quick", seeds=2)
    with BarDisplay(JobClock(todo, 1, already=0)) as bars:
        bars.note("a [bold]word[/bold]")
        for job in todo:
            bars.started(job)
            bars.stepped(job, 5, 10, "loss 1.0")
            bars.stepped(job, 1, 10, "evaluating")
            bars.ended(outcome(job, seconds=10.0))
        bars.ended(outcome(todo[0], status="elsewhere"))
    said = capsys.readouterr().err
    assert "a [bold]word[/bold]" in said
    assert "1/2 N=4 seed 0: mIoU 45.1 (10 s), 10 s left" in said
