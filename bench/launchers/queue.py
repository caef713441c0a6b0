"""What a queue of jobs is, whatever carries them out: which is due, who holds it, and how each came out.

A job is one run or measure. `JobQueue` begins the due ones, waits for those that another process has claimed, and keeps
the outcomes; `bench.launchers.local` carries jobs out in processes of this machine, `bench.launchers.ray_cluster` in
tasks of a Ray cluster.
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
from bench.results.store import ClaimBusy, Store, utc_now

POLL_SECONDS = 0.5  # seconds between looks at what other processes hold
GRACE_SECONDS = 3.0  # seconds a worker has to end after it was told to
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class Interrupted(BaseException):
    """This process was told to stop (SIGINT, SIGTERM, SIGHUP)."""


class SourcesChanged(ValueError):
    """The sources were edited while the queue ran, so that rows would not be what their keys say."""


class StoreUnwritable(OSError):
    """The study's folder cannot be written; nothing that was there is lost."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run or measure to do: its spec, what it is called on screen, and how long it may take in seconds."""

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
    """How a job ended: a row's status, or `elsewhere` (another process made the row) or `stopped` (still due)."""

    job: Job
    status: str
    message: str = ""
    metrics: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


SkipRule = Callable[[Job, Sequence[Outcome]], str]
"""Why a job is not to be run, by what has ended so far; "" where it is. What is not run has a row `skipped`."""


class ProgressListener(Protocol):
    """What the queue tells while it works; see `bench.launchers.progress`."""

    def started(self, job: Job) -> None:
        """A worker has begun `job`."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """`job` is at `step` of `total`."""

    def ended(self, outcome: Outcome) -> None:
        """A job has ended."""

    def note(self, text: str) -> None:
        """Something worth a line."""


class JobQueue(ABC):
    """The jobs of one call, in their order, at most `parallel` at once. What carries them out is a subclass's."""

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
        """Do every job; how each ended, in the order in which they did."""
        while self.step():
            pass
        return self.outcomes

    def step(self) -> bool:
        """Begin what can begin and take note of one event; False where nothing is left to do."""
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
        """How many jobs are on their way."""

    @abstractmethod
    def start(self, job: Job) -> None:
        """Set a job on its way that has no row, and that nobody had claimed a moment ago."""

    @abstractmethod
    def handle_event(self) -> None:
        """Take note of the next thing that a job on its way does, or of nothing after POLL seconds."""

    @abstractmethod
    def stop(self) -> None:
        """End whatever is still on its way."""

    def end(self, outcome: Outcome) -> None:
        """Note that a job has ended."""
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
        """The outcome of a job that nothing else writes a row of: it is written here."""
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
    """`signal 15 (SIGTERM)`."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """Within it the first signal to stop raises Interrupted, and further ones are ignored."""
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
