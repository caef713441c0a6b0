"""Durations of runs: from runs of the same variant where there are any, else from estimates of others."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, median
from typing import Any

from bench.results.rows import Row, content_key

DurationEstimator = Callable[[Mapping[str, Any]], float | None]


def run_seconds(row: Row) -> float:
    """Return the wall-clock seconds from start to end of the run that made `row`."""
    started, finished = (datetime.datetime.fromisoformat(row[name]) for name in ("started", "finished"))
    return (finished - started).total_seconds()


def workload_key(spec: Mapping[str, Any]) -> str:
    """Return a key that runs of equal cost share: everything that decides a run except seed and sources."""
    return content_key([spec["settings"], spec["preset"], spec["threads"], spec["backend"]])


def estimate_durations(
    specs: Sequence[Mapping[str, Any]], rows: Iterable[Row], guess: DurationEstimator
) -> list[float | None]:
    """Estimate the duration of each run in seconds.

    Args:
        specs: The runs.
        rows: Finished runs; those that did not end `ok` are ignored.
        guess: Estimate from the settings alone, scaled to what was measured.

    Returns:
        For each spec the mean over finished runs of the same work, else the scaled guess; None where neither is known.
    """
    measured: dict[str, list[float]] = {}
    trained: list[tuple[float, float]] = []  # seconds of training and the guess of them
    beside: list[float] = []  # seconds of start, evaluation and saving, which do not grow with the steps
    for row in rows:
        if row["status"] != "ok":
            continue
        seconds = run_seconds(row)
        measured.setdefault(workload_key(row), []).append(seconds)
        guessed = guess(row["settings"])
        if guessed:
            training = row.get("training", {}).get("seconds", seconds)
            trained.append((training, guessed))
            beside.append(max(seconds - training, 0.0))
    scale = sum(seconds for seconds, _ in trained) / sum(guessed for _, guessed in trained) if trained else 1.0
    everything = [value for values in measured.values() for value in values]
    durations: list[float | None] = []
    for spec in specs:
        known = measured.get(workload_key(spec))
        guessed = guess(spec["settings"])
        if known:
            durations.append(mean(known))
        elif guessed:
            durations.append(guessed * scale + (median(beside) if beside else 0.0))
        else:
            durations.append(mean(everything) if everything else None)
    return durations


def format_duration(seconds: float) -> str:
    """Return `45 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def remaining_seconds(due: Sequence[float | None], running: Sequence[float | None], parallel: int) -> float | None:
    """Return the seconds until all jobs are done; None if the time of one is unknown.

    Args:
        due: Seconds that each waiting job needs.
        running: Seconds that each running job still needs.
        parallel: Number of jobs at once.
    """
    left = [*due, *running]
    known = [value for value in left if value is not None]
    if len(known) < len(left):
        return None
    return max([sum(known) / parallel, *known], default=0.0)
