"""What a node of a cluster does with a job that it is given: carry it out and hand back what came of it.

The node uses the local engine on a folder of its own, so that a job ends here in the same ways as on one machine. What
is kept of it (row, log, pictures) goes back to whoever gave the job, who alone writes to the study. Only checkpoints
are written from here, and only where the node sees the study's folder: a run whose node is lost then continues on
another one. Where it does not, they lie in the node's own folder, which ends with the job, and a lost run starts over.

    {"event": "begun", "node": "...", "environment": {...}}
    {"event": "step", "step": 20, "total": 500, "message": "loss 1.234"}      {"event": "note", "message": "..."}
    {"event": "done", "row": {...}, "log": b"...", "pictures": b"..."}
    {"event": "stopped", "message": "..."}     its process was told to stop, so there is no row
    {"event": "stuck", "errno": 28, "message": "..."}      the node's disk cannot be written, so there is no row
    {"event": "changed"}    the node's sources are not those of the run's key, so there is no row
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench import environment
from bench.launchers.local import LocalQueue
from bench.launchers.process import last_attempt_log
from bench.launchers.queue import Job, Outcome, SourcesChanged, StoreUnwritable
from bench.results.store import Store

MAX_LOG_BYTES = 1 << 22  # bytes of a log that are handed back, from its end
LOCK_TIMEOUT_SECONDS = 60.0  # seconds for another node to let go of a run's checkpoints

Event = dict[str, Any]


def run_job_on_node(spec: Mapping[str, Any], *, token: str, folder: str, gpu: bool) -> Iterator[Event]:
    """Do the job of `spec`, which names the study's folder; yields what happens, the last of it what came of the job.

    `token` tells the study's folder from others of that name. `folder` is where the command was given: where a user's
    own modules are looked up, if it is here too. Without `gpu` the job sees none. The job ends with the iteration.
    """
    study = Store(Path(spec["out"]))
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN  # inherited from a shell's background
    if ignored and threading.current_thread() is threading.main_thread():  # Ray cancels by it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if Path(folder).is_dir():
        os.chdir(folder)
    yield {
        "event": "begun",
        "node": platform.node(),
        "environment": environment.collect_environment(threads=spec["threads"]),
    }
    with tempfile.TemporaryDirectory(prefix="unept-bench-") as place, contextlib.ExitStack() as held:
        own = Store(Path(place))
        own.open(preset=spec["preset"], data=spec["settings"]["data"])
        if study.token() == token:
            yield from _share_checkpoints(study, own, spec["key"], held)
        yield from _run_job(own, dict(spec), gpu)


def _share_checkpoints(study: Store, own: Store, key: str, held: contextlib.ExitStack) -> Iterator[Event]:
    """Have the run keep its checkpoints in the study's folder, for as long as `held` lasts.

    A node that was taken for lost may still be at the run: whoever has the lock writes there, and another waits, and
    then keeps its own.
    """
    shared = study.checkpoints(key)
    shared.mkdir(parents=True, exist_ok=True)
    lock = FileLock(shared / "node.lock")
    try:
        held.enter_context(lock.acquire(timeout=LOCK_TIMEOUT_SECONDS))
    except Timeout:
        yield {"event": "note", "message": f"{shared} is in use by another node; {key} starts over"}
    else:
        own.checkpoints(key).symlink_to(shared.resolve(), target_is_directory=True)


def _run_job(own: Store, spec: dict[str, Any], gpu: bool) -> Iterator[Event]:
    kind, key = spec["kind"], spec["key"]
    spec |= {"out": str(own.out), "pictures": str(own.pictures(key))}
    heard = _EventCollector()
    work = LocalQueue(own, [Job(spec=spec, label=spec["label"])], 1, heard, () if gpu else ("",))
    try:
        while work.step():
            yield from heard.take()
    except StoreUnwritable as error:
        yield {"event": "stuck", "errno": error.errno, "message": error.strerror}
        return
    except SourcesChanged:
        yield {"event": "changed"}
        return
    finally:
        work.stop()
    yield from heard.take()
    (outcome,) = work.outcomes
    if outcome.status == "stopped":
        yield {"event": "stopped", "message": outcome.message}
        return
    pictures = own.pictures(key)
    yield {
        "event": "done",
        "row": own.row(kind, key),
        "log": last_attempt_log(own.log(key), MAX_LOG_BYTES),
        "pictures": pictures.read_bytes() if pictures.exists() else None,
    }


class _EventCollector:
    """A listener (`bench.launchers.queue.ProgressListener`) that keeps what is to be handed on."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self) -> Iterator[Event]:
        """What was heard since the last time. A generator, as Ray sends values into what a task yields from."""
        while self.events:
            yield self.events.pop(0)

    def started(self, job: Job) -> None:
        """Nothing: `begun` has said it."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:  # noqa: ARG002 - there is one job
        """To be handed on."""
        self.events.append({"event": "step", "step": step, "total": total, "message": message})

    def ended(self, outcome: Outcome) -> None:
        """Nothing: the queue keeps it."""

    def note(self, text: str) -> None:
        """To be handed on."""
        self.events.append({"event": "note", "message": text})
