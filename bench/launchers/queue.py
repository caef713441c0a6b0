"""Queue of jobs, whatever runs them: which job is due, which process has claimed it, and how each ended.

A job is one run or measure. `JobQueue` starts the due ones, waits for those that another process has claimed, and keeps
the outcomes; `bench.launchers.local` runs jobs in processes of this machine, `bench.launchers.ray_cluster` in tasks of
a Ray cluster.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Protocol

from bench.launchers.worker import make_row
from bench.results.row_files import ClaimBusy
from bench.results.store import Store, utc_now

POLL_SECONDS = 0.5  # seconds between looks at what other processes hold
GRACE_SECONDS = 3.0  # seconds a worker has to end after it was told to
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """Raised when this process is told to stop (SIGINT, SIGTERM, SIGHUP)."""


class SourcesChanged(ValueError):
    """Raised when the sources or the data changed while the queue ran, so that rows would not match their keys.

    Args:
        what: What has changed, such as `the sources`.
        message: The whole message, where it is another than that it changed while the study ran.
    """

    def __init__(self, what: str, message: str = "") -> None:
        super().__init__(message or f"{what} changed while the study ran; what was done is kept, start it again")
        self.what = what


class StoreUnwritable(OSError):
    """Raised when the study's folder cannot be written; nothing that was there is lost."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run or measure to do.

    Args:
        spec: Everything that decides it, as the worker takes it.
        label: Its name on the screen.
        estimate: Expected duration in seconds; None where unknown.
    """

    spec: dict[str, Any]
    label: str
    estimate: float | None = None

    @property
    def kind(self) -> str:
        """`run` or `measure`."""
        return str(self.spec["kind"])

    @property
    def key(self) -> str:
        """The key of the row this job makes."""
        return str(self.spec["key"])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """End of a job.

    Args:
        job: The job.
        status: A row's status, or `elsewhere` (another process made the row), or `stopped` (still due).
        message: The row's message.
        metrics: The row's metrics.
        seconds: Duration.
    """

    job: Job
    status: str
    message: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


SkipRule = Callable[[Job, Sequence[Outcome]], str]
"""Why a job is not to be run, by what has ended so far; "" where it is. What is not run has a row `skipped`."""


class ProgressListener(Protocol):
    """Receiver of a queue's events; see `bench.launchers.progress`."""

    def started(self, job: Job) -> None:
        """Called when a worker has begun `job`."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """Called when `job` is at `step` of `total`."""

    def ended(self, outcome: Outcome) -> None:
        """Called when a job has ended."""

    def note(self, text: str) -> None:
        """Called with a line for the user."""


class JobQueue(ABC):
    """The jobs of one call, in their order, at most `parallel` at once. A subclass runs them.

    Args:
        store: The study's folder.
        jobs: The jobs; duplicates are dropped.
        parallel: Largest number of jobs at once.
        progress: Is told of every event.
        skip: Decides which jobs get a row `skipped` instead.
    """

    def __init__(
        self, store: Store, jobs: Sequence[Job], parallel: int, progress: ProgressListener, skip: SkipRule | None = None
    ) -> None:
        self.store = store
        self.due = list({(job.kind, job.key): job for job in jobs}.values())
        self.claimed_elsewhere: list[Job] = []  # claimed by another process when last looked at
        self.parallel = parallel
        self.progress = progress
        self.skip = skip
        self.outcomes: list[Outcome] = []
        self.waiting_said = False

    def drain(self) -> list[Outcome]:
        """Do every job; return how each ended, in the order in which they did."""
        while self.step():
            pass
        return self.outcomes

    def step(self) -> bool:
        """Start the jobs that can start and handle one event; return False where nothing is left to do."""
        while self.due and self.working() < self.parallel:
            self._begin(self.due.pop(0))
        if not (self.claimed_elsewhere or self.working()):
            return False
        self.handle_event()
        if self.claimed_elsewhere and self.working() < self.parallel and not self.due:
            self._look_at_held()
        return True

    @abstractmethod
    def working(self) -> int:
        """Return the number of jobs in progress."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Start a job that has no row and that nobody had claimed a moment ago."""

    @abstractmethod
    def handle_event(self) -> None:
        """Handle the next event of a job in progress, or return after POLL_SECONDS without one."""

    @abstractmethod
    def stop(self) -> None:
        """End every job in progress."""

    def end(self, outcome: Outcome) -> None:
        """Record how a job ended."""
        self.outcomes.append(outcome)
        self.progress.ended(outcome)

    def _begin(self, job: Job) -> None:
        if self.store.has(job.kind, job.key):
            self.end(Outcome(job=job, status="elsewhere"))
        elif self.store.is_claimed(job.kind, job.key):
            self.claimed_elsewhere.append(job)
        elif reason := self.skip(job, self.outcomes) if self.skip else "":
            self.end(self.write_row_here(job, {"status": "skipped", "message": reason}, 0.0))
        else:
            self.start(job)

    def write_row_here(self, job: Job, result: dict[str, str], seconds: float) -> Outcome:
        """Write the row of a job that no worker writes one for, and return its outcome.

        Args:
            job: The job.
            result: Status and message of the row.
            seconds: Duration so far.
        """
        try:
            with self.store.claim(job.kind, job.key):
                if self.store.has(job.kind, job.key):
                    return Outcome(job=job, status="elsewhere")
                self.store.clear_damaged(job.kind, job.key)
                self.store.write(make_row(job.spec, result, started=utc_now()))
        except ClaimBusy:
            return Outcome(job=job, status="elsewhere")
        return Outcome(job=job, status=result["status"], message=result["message"], seconds=seconds)

    def _look_at_held(self) -> None:
        if not self.waiting_said:
            self.progress.note(f"waiting for {len(self.claimed_elsewhere)} that another process has begun")
            self.waiting_said = True
        ready, self.claimed_elsewhere = [], [*self.claimed_elsewhere]
        for job in [*self.claimed_elsewhere]:
            if self.store.has(job.kind, job.key) or not self.store.is_claimed(job.kind, job.key):
                self.claimed_elsewhere.remove(job)
                ready.append(job)
        self.due += ready


def signal_name(number: int) -> str:
    """Return `signal 15 (SIGTERM)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Raise Interrupted at the first signal to stop within the context, and ignore further ones."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for other in STOP_SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(signal_name(number))

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
