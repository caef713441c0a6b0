"""The queue: which job is due, in which process, and what became of it. Knows nothing of models.

Jobs go to processes of their own (`bench.worker`) with a fixed number of threads. Runs of our own parts follow each
other in one process as long as all goes well; a measure, and a run with a user's module, gets a fresh one. A job whose
worker dies without leaving a row gets a row here, with what is known of its end; one whose worker was told to stop gets
none and stays due. An interrupt of this process stops the workers and writes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from bench import environment
from bench.sources import slots_of
from bench.store import Busy, Store, now
from bench.worker import is_memory, make_row

POLL = 0.5  # seconds between looks at what other processes hold
GRACE = 3.0  # seconds a worker has to end after it was told to
_TOLD_TO_STOP = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


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


Skip = Callable[[Job, Sequence[Outcome]], str]
"""Why a job is not to be run, by what has ended so far; "" where it is. What is not run has a row `skipped`."""


class Progress(Protocol):
    """What the queue tells while it works; see `bench.progress`."""

    def started(self, job: Job) -> None:
        """A worker has begun `job`."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:
        """`job` is at `step` of `total`."""

    def ended(self, outcome: Outcome) -> None:
        """A job has ended."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(kw_only=True)
class _Task:
    """What is known of a job while a worker has it."""

    job: Job
    began: float
    kills: int  # of the kernel, for memory, before it began
    outcome: Outcome | None = None
    stuck: dict[str, Any] | None = None
    busy: bool = False
    changed: bool = False


@dataclass(kw_only=True)
class _Worker:
    """A process, and what it does; None while it waits."""

    process: subprocess.Popen[bytes]
    kin: tuple[str, ...]  # jobs of the same kin can follow each other in it
    task: _Task | None = None
    listener: threading.Thread | None = None


def run_jobs(
    store: Store, jobs: Sequence[Job], *, parallel: int, progress: Progress, skip: Skip | None = None
) -> list[Outcome]:
    """Do `jobs`, at most `parallel` at once, in their order; jobs that another process holds are waited for.

    Raises Interrupted when told to stop, StoreUnwritable when a worker cannot write, and SourcesChanged; the workers
    are ended first.
    """
    assert parallel >= 1, parallel
    with _signals_raise():
        queue_ = _Queue(store, jobs, parallel, progress, skip)
        try:
            return queue_.drain()
        finally:
            queue_.stop()


class _Queue:
    def __init__(self, store: Store, jobs: Sequence[Job], parallel: int, progress: Progress, skip: Skip | None) -> None:
        self.store = store
        self.skip = skip
        self.due = list({(job.kind, job.key): job for job in jobs}.values())
        self.held: list[Job] = []  # claimed by another process when last looked at
        self.parallel = parallel
        self.progress = progress
        self.workers: list[_Worker] = []
        self.events: queue.Queue[tuple[_Worker, bytes | None]] = queue.Queue()
        self.outcomes: list[Outcome] = []
        self.waiting_said = False

    def drain(self) -> list[Outcome]:
        while self.due or self.held or self._working():
            while self.due and self._working() < self.parallel:
                self._begin(self.due.pop(0))
            self._handle_event()
            if self.held and self._working() < self.parallel and not self.due:
                self._look_at_held()
        return self.outcomes

    def _working(self) -> int:
        return sum(worker.task is not None for worker in self.workers)

    def stop(self) -> None:
        """End every worker that still runs, and wait for its end."""
        for worker in self.workers:
            with contextlib.suppress(OSError):
                worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in self.workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
            worker.process.kill()  # nothing where it has ended
            worker.process.wait()
            _close(worker.process)
            if worker.listener is not None:
                worker.listener.join()
        self.workers = []

    def _begin(self, job: Job) -> None:
        if self.store.has(job.kind, job.key):
            self._end(Outcome(job=job, status="elsewhere"))
        elif self.store.is_claimed(job.kind, job.key):
            self.held.append(job)
        elif reason := self.skip(job, self.outcomes) if self.skip else "":
            self._end(self._made_here(job, {"status": "skipped", "message": reason}, 0.0))
        else:
            self._worker_for(job).task = _Task(job=job, began=time.monotonic(), kills=environment.out_of_memory_kills())
            self.progress.started(job)

    def _worker_for(self, job: Job) -> _Worker:
        """A waiting worker that has taken the job, or else a new one; others that wait are let go."""
        kin = _kin(job)
        for worker in [worker for worker in self.workers if worker.task is None]:
            if worker.kin == kin and kin and _hand(self.store, job, worker.process):
                return worker
            _close(worker.process)
        worker = _Worker(process=_spawn(self.store, job), kin=kin)
        self.workers.append(worker)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                self.events.put((worker, line))
        self.events.put((worker, None))

    def _handle_event(self) -> None:
        try:
            worker, line = self.events.get(timeout=POLL)
        except queue.Empty:
            return
        if line is None:
            worker.process.wait()
            _close(worker.process)
            self.workers.remove(worker)
            self._settle(worker)
            return
        event = json.loads(line)
        name = event.pop("event")
        task = worker.task
        assert task is not None, name
        if name == "step":
            self.progress.stepped(task.job, **event)
        elif name == "note":
            self.progress.note(event["message"])
        elif name == "row":
            task.outcome = Outcome(job=task.job, seconds=time.monotonic() - task.began, **event)
        elif name == "exists":
            task.outcome = Outcome(job=task.job, status="elsewhere")
        elif name == "stuck":
            task.stuck = event
        elif name == "changed":
            task.changed = True
        elif name == "busy":
            task.busy = True
        else:
            assert name == "idle", name
            self._settle(worker)

    def _settle(self, worker: _Worker) -> None:
        """Say how the job came out that a worker is done with, or that it ended in."""
        task, worker.task = worker.task, None
        if task is None:
            return
        if task.stuck:
            raise StoreUnwritable(task.stuck["errno"], task.stuck["message"], str(self.store.out))
        if task.changed:
            raise SourcesChanged("the sources changed while the study ran; what was done is kept, start it again")
        if task.busy:
            self.held.append(task.job)
        else:
            self._end(task.outcome or self._post_mortem(task, worker.process.returncode))

    def _post_mortem(self, task: _Task, code: int) -> Outcome:
        """The outcome of a job whose worker ended without a word: its row if there is one, or a row made here."""
        job = task.job
        seconds = time.monotonic() - task.began
        if -code in _TOLD_TO_STOP:
            return Outcome(job=job, status="stopped", message=f"stopped by {_signal_name(-code)}", seconds=seconds)
        return self._made_here(job, self._cause(task, code), seconds)

    def _made_here(self, job: Job, result: dict[str, str], seconds: float) -> Outcome:
        """The outcome of a job that has no worker to write its row, which is written here."""
        try:
            with self.store.claim(job.kind, job.key):
                if self.store.has(job.kind, job.key):
                    return Outcome(job=job, status="elsewhere")
                self.store.clear_damaged(job.kind, job.key)
                self.store.write(make_row(job.spec, result, started=now()))
        except Busy:
            return Outcome(job=job, status="elsewhere")
        return Outcome(job=job, status=result["status"], message=result["message"], seconds=seconds)

    def _cause(self, task: _Task, code: int) -> dict[str, str]:
        killed = code == -getattr(signal, "SIGKILL", 9)
        if killed and environment.out_of_memory_kills() > task.kills:
            return {"status": "oom", "message": "killed by the kernel for memory"}
        end = f"killed by {_signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
        tail = _tail(self.store.log(task.job.key))
        if is_memory(tail):
            return {"status": "oom", "message": f"worker {end} after an allocation failed"}
        return {
            "status": "failed",
            "message": f"worker {end} without a result; see logs/{self.store.log(task.job.key).name}",
        }

    def _look_at_held(self) -> None:
        if not self.waiting_said:
            self.progress.note(f"waiting for {len(self.held)} that another process has begun")
            self.waiting_said = True
        ready, self.held = [], [*self.held]
        for job in [*self.held]:
            if self.store.has(job.kind, job.key) or not self.store.is_claimed(job.kind, job.key):
                self.held.remove(job)
                ready.append(job)
        self.due += ready
        if not ready and not self.workers:
            time.sleep(POLL)

    def _end(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.progress.ended(outcome)


def _kin(job: Job) -> tuple[str, ...]:
    """What jobs must share to follow each other in one process; () for one that wants a process to itself."""
    if job.kind != "run" or slots_of(job.spec["settings"]):
        return ()
    return (str(job.spec["threads"]), str(job.spec["backend"]))


def _spawn(store: Store, job: Job) -> subprocess.Popen[bytes]:
    """Start a worker on a job."""
    with open(store.log(job.key), "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker", "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env=_environment(int(job.spec["threads"]), job.spec["backend"]),
        )
    _hand(store, job, process)  # where it died at once, its end will be seen like any other
    return process


def _hand(store: Store, job: Job, process: subprocess.Popen[bytes]) -> bool:
    """Give a worker its job; False if it is dead. The log begins with the spec, by which the run can be repeated."""
    spec = json.dumps(job.spec)
    assert process.stdin is not None
    try:
        with open(store.log(job.key), "ab") as log:
            log.write(f"{spec}\n--- {now()} {job.label}\n".encode())
        process.stdin.write(f"{spec}\n".encode())
        process.stdin.flush()
    except (BrokenPipeError, ValueError):  # ValueError: its pipe is closed already
        return False
    return True


def _environment(threads: int, backend: str) -> dict[str, str]:
    """The worker's variables: pinned threads, the backend that its rows name, this very package on its path, and the
    working directory not on it.
    """
    root = str(Path(__file__).resolve().parent.parent)
    variables = os.environ | environment.pinned(threads)
    variables |= {"UNEPT_BACKEND": backend, "PYTHONSAFEPATH": "1", "PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    if root not in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        variables["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return variables


def _close(process: subprocess.Popen[bytes]) -> None:
    """Close what leads to a worker, which ends it where it waits."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def _tail(log: Path, size: int = 4096) -> str:
    """The end of the log of the last attempt."""
    try:
        text = log.read_bytes()[-size:].decode("utf-8", errors="replace")
    except OSError as error:
        return "" if error.errno != errno.ENOSPC else str(error)
    return text.rpartition("\n--- ")[2]


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Within it the first signal to stop raises Interrupted, and further ones are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        for other in _TOLD_TO_STOP:
            signal.signal(other, signal.SIG_IGN)
        raise Interrupted(_signal_name(number))

    before = {number: signal.signal(number, stop) for number in _TOLD_TO_STOP}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
