"""Display of a queue's progress: bars in a terminal, plain lines anywhere else.

In both, every job ends with one line: `3/30 N=16 L=3 seed 2: mIoU 45.1 (62 s), 12 min left`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TextIO

from bench.launchers.eta import format_duration, remaining_seconds
from bench.launchers.queue import Job, Outcome
from unept.utils.visible_text import raw_stream, single_line, visible_text

LINE_INTERVAL_SECONDS = 10.0  # seconds between two plain lines about one job


@dataclass(kw_only=True)
class _Running:
    estimate: float | None
    began: float
    first: tuple[int, float] | None = None  # the first step heard of, and when: a continued run starts late
    step: int = 0
    total: int = 0

    def reach(self, step: int, total: int) -> None:
        """Note that training is at `step` of `total`."""
        self.first = self.first or (step, time.monotonic())
        self.step, self.total = step, total


class JobClock:
    """Counts finished jobs and estimates the time left.

    Args:
        jobs: The jobs due.
        parallel: Number of jobs at once.
        already: Number of jobs that were done before.
    """

    def __init__(self, jobs: Sequence[Job], parallel: int, *, already: int) -> None:
        self.total = already + len(jobs)
        self.done = already
        self.parallel = parallel
        self.due = {job.key: job for job in jobs}
        self.running: dict[str, _Running] = {}
        self.seconds: list[tuple[float | None, float]] = []  # of each job that ran: estimate and truth

    def started(self, job: Job) -> None:
        """Note that `job` runs."""
        self.due.pop(job.key, None)
        self.running[job.key] = _Running(estimate=job.estimate, began=time.monotonic())

    def ended(self, outcome: Outcome) -> None:
        """Note that a job has ended."""
        self.due.pop(outcome.job.key, None)
        self.running.pop(outcome.job.key, None)
        self.done += 1
        if outcome.status == "ok":
            self.seconds.append((outcome.job.estimate, outcome.seconds))

    def left(self) -> str:
        """Return `, 12 min left`, or "" where it is not known."""
        due = [self._corrected(job.estimate) for job in self.due.values()]
        running = [self._rest(state) for state in self.running.values()]
        seconds = remaining_seconds(due, running, self.parallel)
        return f", {format_duration(seconds)} left" if seconds else ""

    def _corrected(self, estimate: float | None) -> float | None:
        """Return an estimate scaled by how far estimates have been off so far; the mean run where there is none."""
        pairs = [(guess, true) for guess, true in self.seconds if guess]
        if estimate and pairs:
            return estimate * sum(true for _, true in pairs) / sum(guess for guess, _ in pairs)
        if estimate:
            return estimate
        return sum(true for _, true in self.seconds) / len(self.seconds) if self.seconds else None

    def _rest(self, state: _Running) -> float | None:
        """Return the seconds left by a job's own pace since its first step; before there is one, by its estimate."""
        if state.first is None or state.step <= state.first[0]:
            expected = self._corrected(state.estimate)
            return None if expected is None else max(0.0, expected - (time.monotonic() - state.began))
        step, since = state.first
        return (time.monotonic() - since) * (state.total - state.step) / (state.step - step)


def result_line(outcome: Outcome, clock: JobClock) -> str:
    """Return the line a job ends with."""
    head = f"{clock.done}/{clock.total} {single_line(outcome.job.label)}: "
    if outcome.status == "elsewhere":
        return f"{head}made by another process{clock.left()}"
    score = (
        headline_score(outcome.metrics)
        if outcome.status == "ok"
        else f"{outcome.status}: {single_line(outcome.message)}"
    )
    return f"{head}{score} ({format_duration(outcome.seconds)}){clock.left()}"


def headline_score(metrics: Mapping[str, Any]) -> str:
    """Return the score for a job's last line."""
    if metrics.get("miou") is not None:
        return f"mIoU {100 * metrics['miou']:.1f}"
    if metrics.get("parameters") is not None:
        return f"{metrics['parameters'] / 1e6:.2f} M parameters"
    return "done"


class PlainDisplay(AbstractContextManager["PlainDisplay"]):
    """Prints lines of text, at most one every ten seconds about each running job."""

    def __init__(self, clock: JobClock, stream: TextIO | None = None) -> None:
        self.clock = clock
        self.stream = stream or sys.stderr
        self.spoke: dict[str, float] = {}

    def __exit__(self, *_: object) -> None:
        return None

    def started(self, job: Job) -> None:
        """Note that a worker has begun `job`."""
        self.clock.started(job)
        self.spoke[job.key] = time.monotonic()

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """Note that `job` is at `step` of `total`; printed only if its last line is old enough."""
        _note_step(self.clock, job, step, total, message)
        if time.monotonic() - self.spoke[job.key] >= LINE_INTERVAL_SECONDS:
            self.spoke[job.key] = time.monotonic()
            self.note(f"  {single_line(job.label)}: {step}/{total} {message}{self.clock.left()}")

    def ended(self, outcome: Outcome) -> None:
        """Print the last line of a job."""
        self.clock.ended(outcome)
        self.note(result_line(outcome, self.clock))

    def note(self, text: str) -> None:
        """Print one line."""
        print(text, file=self.stream, flush=True)


class BarDisplay(AbstractContextManager["BarDisplay"]):
    """Draw a bar over all jobs and one for each running job, with the finished jobs' lines above them."""

    def __init__(self, clock: JobClock) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self.clock = clock
        self.bars = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=raw_stream(sys.stderr)),
        )
        self.all = self.bars.add_task("all", total=clock.total, completed=clock.done, note="")
        self.task_of: dict[str, Any] = {}

    def __enter__(self) -> BarDisplay:
        self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def started(self, job: Job) -> None:
        """Add a bar for `job`."""
        self.clock.started(job)
        self.task_of[job.key] = self.bars.add_task(f"  {single_line(job.label)}", total=None, note="")

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """Move the bar of `job` to `step` of `total`."""
        _note_step(self.clock, job, step, total, message)
        self.bars.update(self.task_of[job.key], completed=step, total=total, note=visible_text(message))
        self.bars.update(self.all, note=self.clock.left().removeprefix(", "))

    def ended(self, outcome: Outcome) -> None:
        """Remove the job's bar and print its last line."""
        self.clock.ended(outcome)
        task = self.task_of.pop(outcome.job.key, None)
        if task is not None:
            self.bars.remove_task(task)
        self.bars.update(self.all, completed=self.clock.done, note=self.clock.left().removeprefix(", "))
        self.note(result_line(outcome, self.clock))

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self.bars.console.print(visible_text(text), markup=False, highlight=False, soft_wrap=True)


def _note_step(clock: JobClock, job: Job, step: int, total: int, message: str) -> None:
    """Pass a step on to the clock, unless it is one of evaluation, which counts from one again."""
    state = clock.running.get(job.key)
    if state and not message.startswith("evaluating"):
        state.reach(step, total)


def progress_display(clock: JobClock) -> PlainDisplay | BarDisplay:
    """Return bars where standard error is a terminal, else plain lines."""
    return BarDisplay(clock) if sys.stderr.isatty() else PlainDisplay(clock)


class ProgressCounter(AbstractContextManager["ProgressCounter"]):
    """Progress of one piece of work on standard error: a bar in a terminal, elsewhere a line every ten seconds.

    with ProgressCounter("counting") as counter:
        counter(done, total)
    """

    def __init__(self, label: str, stream: TextIO | None = None) -> None:
        self.label = label
        self.stream = stream or sys.stderr
        self.spoke = time.monotonic()
        self.first: tuple[int, float] | None = None  # what the first call said, and when: continued work starts late
        self.bar: Any = None
        self.task: Any = None

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        self.first = self.first or (done, time.monotonic())
        if self.stream.isatty():
            self._draw(done, total)
        elif time.monotonic() - self.spoke >= LINE_INTERVAL_SECONDS:
            self.spoke = time.monotonic()
            print(f"{self.label}: {done}/{total}{self._left(done, total)}", file=self.stream, flush=True)

    def _left(self, done: int, total: int) -> str:
        """Return `, 12 min left`, or "" where it is not known."""
        assert self.first is not None
        began, since = self.first
        if done <= began or done >= total:
            return ""
        return f", {format_duration((time.monotonic() - since) * (total - done) / (done - began))} left"

    def _draw(self, done: int, total: int) -> None:
        if self.bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
            self.bar = Progress(
                *columns, TimeRemainingColumn(), console=Console(file=raw_stream(self.stream)), transient=True
            )
            self.task = self.bar.add_task(visible_text(self.label), total=total)
            self.bar.start()
        self.bar.update(self.task, completed=done)
