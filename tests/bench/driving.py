"""A small study without models: specs, and a program that runs them. Shared by the tests of store and queue."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bench.launchers.local import run_local_jobs
from bench.launchers.queue import Interrupted, Job
from bench.results.rows import row_key
from bench.results.source_hash import source_hash
from bench.results.store import Store

SETTINGS = {"data": "scenes", "model": {"points": 4}, "train": {"steps": 10}}


class Silent:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[tuple[str, int, int, str]] = []

    def started(self, job: Job) -> None:
        """Nothing."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """Keep it."""
        self.steps.append((job.label, step, total, message))

    def ended(self, outcome: Any) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def spec(out: Path, task: str, *, points: int = 4, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """The spec of one run, with its key."""
    made: dict[str, Any] = {
        "kind": "run",
        "task": f"fake_tasks:{task}",
        "study": "test",
        "variant": f"N={points}",
        "axes": {"points": points},
        "settings": SETTINGS | {"model": {"points": points}},
        "seed": seed,
        "preset": "quick",
        "backend": "reference",
        "threads": 1,
        "sources": source_hash("run"),
        "out": str(out),
        "command": "test",
        "label": f"N={points} seed {seed}",
    } | changes
    return made | {"key": row_key("run", made)}


def jobs(out: Path, task: str, *, points: tuple[int, ...] = (4,), seeds: int = 1) -> list[Job]:
    """A grid of runs."""
    specs = [spec(out, task, points=n, seed=seed) for seed in range(seeds) for n in points]
    return [Job(spec=made, label=made["label"]) for made in specs]


def opened(out: Path) -> Store:
    """A store ready for the runs of `jobs`."""
    store = Store(out)
    store.open(preset="quick", data="scenes")
    return store


def drive(out: Path, task: str, points: tuple[int, ...], seeds: int) -> int:
    """What a study does, without a model: open, register, run, make the tables."""
    store = opened(out)
    todo = jobs(out, task, points=points, seeds=seeds)
    names = ("key", "variant", "axes", "seed")
    store.register("test", {"runs": [{name: job.spec[name] for name in names} for job in todo], "measures": []})
    try:
        run_local_jobs(store, todo, parallel=2, progress=Silent())
    except Interrupted:
        return 130
    store.write_tables()
    return 0


if __name__ == "__main__":
    out, task, points, seeds = sys.argv[1:]
    sys.exit(drive(Path(out), task, tuple(map(int, points.split(","))), int(seeds)))
