"""Queue on this machine: starts a worker process for each job and records how it ended. Knows nothing of models.

Workers (`bench.launchers.worker`) have a fixed number of threads each, and a GPU each where there are any. Runs of our
own modules follow each other in one process as long as all goes well; a measure, and a run with a user's module, gets
a new process. A job whose worker dies without a row gets a row here, with the reason of the exit; one whose worker was
told to stop gets none and stays due. An interrupt of this process stops the workers and writes nothing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import queue
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment, user_code
from bench.child_process import end_session
from bench.launchers.process import (
    close_stdin,
    exit_reason,
    is_thread_refused,
    send_spec,
    start_worker,
    stop_reason,
    worker_environment,
)
from bench.launchers.queue import (
    GRACE_SECONDS,
    POLL_SECONDS,
    Job,
    JobQueue,
    Outcome,
    ProgressListener,
    SkipRule,
    SourcesChanged,
    StoreUnwritable,
    signals_raise,
)
from bench.results.source_hash import slots_of
from bench.results.store import Store

SILENT_SECONDS = 60.0  # after which a run of a user's code that does not speak is named, and again after twice that
FIRST_STEP_ALLOWANCE = 30.0  # times the limit of a user's code that a run of it may take until its first step has ended
PREPARED = 4  # processes for measures that are started together, at most, and no more than processors


@dataclass(kw_only=True)
class _Task:
    """State of a job while a worker has it."""

    job: Job
    began: float
    kills: int  # of the kernel, for memory, before it began
    heard: float  # when its worker was heard last
    patience: float  # seconds of silence after which the user is told
    allowed: float  # seconds until the first step
    outcome: Outcome | None = None
    stuck: dict[str, Any] | None = None
    busy: bool = False
    changed: str = ""
    ended_here: str = ""


@dataclass(kw_only=True)
class _Worker:
    """A worker process and its task; None while it waits."""

    process: subprocess.Popen[bytes]
    kin: tuple[str, ...]  # jobs of the same kin can follow each other in it
    gpu: str | None
    task: _Task | None = None
    listener: threading.Thread | None = None


def run_local_jobs(
    store: Store,
    jobs: Sequence[Job],
    *,
    parallel: int,
    progress: ProgressListener,
    gpus: Sequence[str] = (),
    skip: SkipRule | None = None,
) -> list[Outcome]:
    """Run `jobs` in their order; a job that another process has claimed is waited for.

    Args:
        store: The study's folder.
        jobs: What to do.
        parallel: Largest number of jobs at once.
        progress: Is told of every event.
        gpus: GPUs as CUDA_VISIBLE_DEVICES names them. Each worker sees one alone, the one with fewest jobs; without any
            it sees what this process sees.
        skip: Decides which jobs get a row `skipped` instead.

    Returns:
        How each job ended, in the order in which they did.

    Raises:
        Interrupted: When told to stop. The workers are ended before any of these is raised.
        StoreUnwritable: When a worker cannot write.
        OSError: With EAGAIN, when a worker could start no thread.
        SourcesChanged: When the sources or the data were edited meanwhile.
    """
    assert parallel >= 1, parallel
    with signals_raise():
        queue_ = LocalQueue(store, jobs, parallel, progress, gpus, skip)
        try:
            return queue_.drain()
        finally:
            queue_.stop()


class LocalQueue(JobQueue):
    """Queue whose jobs run in processes of this machine; see `run_local_jobs`."""

    def __init__(
        self,
        store: Store,
        jobs: Sequence[Job],
        parallel: int,
        progress: ProgressListener,
        gpus: Sequence[str],
        skip: SkipRule | None = None,
    ) -> None:
        super().__init__(store, jobs, parallel, progress, skip)
        self.gpus = gpus
        self.workers: list[_Worker] = []
        self.prepared: list[_Worker] = []  # for the next measures; each waits for its spec
        self.prepared_alike: tuple[str, dict[str, str], bool] = ("", {}, False)  # what `_alike` gives for them
        self.events: queue.Queue[tuple[_Worker, bytes | None]] = queue.Queue()

    def working(self) -> int:
        """Return the number of workers that have a job."""
        return sum(worker.task is not None for worker in self.workers)

    def stop(self) -> None:
        """End every worker that still runs, and wait for its end."""
        _end([*self.workers, *self.prepared])
        self.workers, self.prepared = [], []

    def start(self, job: Job) -> None:
        """Send the job to a worker."""
        now, kills = time.monotonic(), environment.count_oom_kills()
        is_users = bool(slots_of(job.spec["settings"]))
        self._worker_for(job).task = _Task(
            job=job,
            began=now,
            kills=kills,
            heard=now,
            patience=SILENT_SECONDS if is_users else math.inf,
            allowed=FIRST_STEP_ALLOWANCE * user_code.limit_seconds() if is_users and job.kind == "run" else math.inf,
        )
        self.progress.started(job)

    def _worker_for(self, job: Job) -> _Worker:
        """Return a waiting worker that took the job, or else a new one; other waiting workers are let go."""
        kin, log = _process_sharing_key(job), self.store.log(job.key)
        for worker in [worker for worker in self.workers if worker.task is None]:
            if worker.kin == kin and kin and send_spec(job.spec, worker.process, log):
                return worker
            close_stdin(worker.process)
        gpu = self._free_gpu()
        worker = self._prepared_for(job, gpu) or _Worker(process=start_worker(job.spec, log, gpu=gpu), kin=kin, gpu=gpu)
        send_spec(job.spec, worker.process, log)  # where it died at once, its end will be seen like any other
        self.workers.append(worker)
        worker.listener = threading.Thread(target=self._listen, args=(worker,), daemon=True)
        worker.listener.start()
        return worker

    def _prepared_for(self, job: Job, gpu: str | None) -> _Worker | None:
        """Return a process that has imported what a measure needs; None for a run."""
        if job.kind != "measure":
            return None
        alike = _alike(job, gpu)
        module = alike[0]
        if self.prepared and self.prepared_alike != alike:  # another process measures what these were for
            _end([self.prepared.pop() for _ in [*self.prepared]])
        if not self.prepared:
            others = [other for other in self.due if other.kind == "measure"]
            some = [job, *(other for other in others if _alike(other, gpu) == alike)]
            self.prepared_alike = alike
            for other in some[: min(PREPARED, environment.usable_cores())]:
                process = start_worker(job.spec, self.store.log(other.key), gpu=gpu, preload=[module])
                self.prepared.append(_Worker(process=process, kin=(), gpu=gpu))
            for worker in self.prepared:
                assert worker.process.stdout is not None
                worker.process.stdout.readline()  # `ready`, or nothing where it has died
        return self.prepared.pop(0)

    def _free_gpu(self) -> str | None:
        """Return the GPU with fewest jobs, of those the one with fewest processes; None where there are none."""
        if not self.gpus:
            return None
        on = {gpu: [worker for worker in self.workers if worker.gpu == gpu] for gpu in self.gpus}
        return min(self.gpus, key=lambda gpu: (sum(worker.task is not None for worker in on[gpu]), len(on[gpu])))

    def _listen(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        with worker.process.stdout as lines:
            for line in lines:
                self.events.put((worker, line))
        self.events.put((worker, None))

    def handle_event(self) -> None:
        """Handle the next message of a worker, or its end."""
        self._look_after_workers()
        try:
            worker, line = self.events.get(timeout=POLL_SECONDS)
        except queue.Empty:
            return
        if line is None:
            worker.process.wait()
            close_stdin(worker.process)
            self.workers.remove(worker)
            self._settle(worker)
            return
        event = json.loads(line)
        name = event.pop("event")
        task = worker.task
        assert task is not None, name
        task.heard, task.allowed = time.monotonic(), math.inf
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
            task.changed = event["what"]
        elif name == "busy":
            task.busy = True
        else:
            assert name == "idle", name
            self._settle(worker)

    def _look_after_workers(self) -> None:
        """End what a dead worker left behind, which keeps its pipe open; name silent runs of a user's code."""
        for worker in self.workers:
            if worker.process.poll() is not None:
                end_session(worker.process)
            if worker.task is not None:
                self._look_after(worker, worker.task)

    def _look_after(self, worker: _Worker, task: _Task) -> None:
        now = time.monotonic()
        if now - task.began > task.allowed:
            task.ended_here = f"no step ended within {task.allowed:g} s ({user_code.LIMIT_VARIABLE} sets a longer time)"
            end_session(worker.process)
        elif now - task.heard > task.patience:
            then = "until Ctrl-C ends the study" if task.allowed == math.inf else f"for at most {task.allowed:g} s"
            silent = f"nothing was heard of it for {task.patience:.0f} s"
            self.progress.note(f"{task.job.label}: {silent}; it goes on {then}")
            task.patience *= 2

    def _settle(self, worker: _Worker) -> None:
        """Record how the job ended that a worker is done with, or that it died in."""
        task, worker.task = worker.task, None
        if task is None:
            return
        if task.stuck:
            raise StoreUnwritable(task.stuck["errno"], task.stuck["message"], str(self.store.out))
        if task.changed:
            raise SourcesChanged(task.changed)
        if task.busy:
            self.claimed_elsewhere.append(task.job)
        else:
            self.end(task.outcome or self._post_mortem(task, worker.process.returncode))

    def _post_mortem(self, task: _Task, code: int) -> Outcome:
        """Return the outcome of a job whose worker ended without a result: from its row, or a row written here."""
        job = task.job
        seconds = time.monotonic() - task.began
        if task.ended_here:
            return self.write_row_here(job, {"status": "failed", "message": task.ended_here}, seconds)
        stopped = stop_reason(code)
        if stopped:
            return Outcome(job=job, status="stopped", message=stopped, seconds=seconds)
        if is_thread_refused(self.store.log(job.key)) and not slots_of(job.spec["settings"]):
            raise OSError(
                errno.EAGAIN, os.strerror(errno.EAGAIN)
            )  # the machine's refusal, which says nothing of the run
        return self.write_row_here(job, exit_reason(code, self.store.log(job.key), kills=task.kills), seconds)


def _end(workers: Sequence[_Worker]) -> None:
    """End processes that still run, and wait for their end."""
    for worker in workers:
        with contextlib.suppress(OSError):
            worker.process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for worker in workers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            worker.process.wait(max(0.0, deadline - time.monotonic()))
        end_session(worker.process)
        close_stdin(worker.process)
        if worker.listener is not None:
            worker.listener.join()
        elif worker.process.stdout is not None:
            worker.process.stdout.close()


def _alike(job: Job, gpu: str | None) -> tuple[str, dict[str, str], bool]:
    """Return what measures have in common that one prepared process serves: module, environment, whose code."""
    module = job.spec["task"].partition(":")[0]
    return module, worker_environment(job.spec, gpu=gpu), bool(slots_of(job.spec["settings"]))


def _process_sharing_key(job: Job) -> tuple[str, ...]:
    """Return what jobs must share to follow each other in one process; () for one that needs a process of its own."""
    if job.kind != "run" or slots_of(job.spec["settings"]):
        return ()
    return (str(job.spec["threads"]), str(job.spec["backend"]))
