"""Execution of a job on a node of a Ray cluster: run it and return its row, log and pictures.

The node uses the local queue on a temporary folder, so that a job ends here in the same ways as on one machine. Row,
log and pictures go back to the process that submitted the job, the only one that writes to the study. Only checkpoints
are written from here, and only where the node sees the study's folder: a run whose node is lost then continues on
another one. Where it does not, they lie in the node's own folder, which ends with the job, and a lost run starts over.

    {"event": "begun", "node": "...", "environment": {...}}
    {"event": "step", "step": 20, "total": 500, "message": "loss 1.234"}      {"event": "note", "message": "..."}
    {"event": "done", "row": {...}, "log": b"...", "pictures": b"..."}
    {"event": "stopped", "message": "..."}     its process was told to stop, so there is no row
    {"event": "stuck", "errno": 28, "message": "..."}      the node's disk cannot be written, so there is no row
    {"event": "changed", "what": "..."}    the node's sources or data are not those of the run's key: there is no row
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
from types import MappingProxyType
from typing import Any

from bench import environment
from bench.launchers.local import LocalQueue
from bench.launchers.process import last_attempt_log
from bench.launchers.queue import Job, Outcome, SourcesChanged, StoreUnwritable
from bench.results.store import Store
from bench.results.user_modules import write_copy
from unept.utils.file_locks import LockBusy, file_lock

MAX_LOG_BYTES = 1 << 22  # bytes of a log that are handed back, from its end
LOCK_TIMEOUT_SECONDS = 60.0  # seconds for another node to let go of a run's checkpoints

NO_MODULES: Mapping[str, Mapping[str, bytes]] = MappingProxyType({})

Event = dict[str, Any]


def run_job_on_node(
    spec: Mapping[str, Any],
    *,
    token: str,
    folder: str,
    gpu: bool,
    modules: Mapping[str, Mapping[str, bytes]] = NO_MODULES,
) -> Iterator[Event]:
    """Run the job of `spec` and yield its events; the last one is its result.

    The job ends with the iteration.

    Args:
        spec: The job; `out` names the study's folder.
        token: Tells the study's folder from others of that name (`Store.token`).
        folder: Where the command was given, if it is here too: relative paths start there.
        gpu: False hides the GPUs from the job.
        modules: The study's copies of the user's modules: the files of each by its digest.
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
    with tempfile.TemporaryDirectory(prefix="unept-bench-") as folder_name, contextlib.ExitStack() as locks:
        own = Store(Path(folder_name))
        own.open(preset=spec["preset"], data=spec["settings"]["data"])
        for digest, files in modules.items():
            write_copy(files, own.module(digest))
        if study.token() == token:
            yield from _share_checkpoints(study, own, spec["key"], locks)
        yield from _run_job(own, dict(spec), gpu)


def _share_checkpoints(study: Store, own: Store, key: str, locks: contextlib.ExitStack) -> Iterator[Event]:
    """Have the run keep its checkpoints in the study's folder, for as long as `held` lasts.

    A node that was taken for lost may still be at the run: the holder of the lock writes there; another node waits, and
    then keeps its own.
    """
    shared = study.checkpoints(key)
    shared.mkdir(parents=True, exist_ok=True)
    try:
        locks.enter_context(file_lock(shared / "node.lock", timeout=LOCK_TIMEOUT_SECONDS))
    except LockBusy:
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
    except SourcesChanged as change:
        yield {"event": "changed", "what": change.what}
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
    """A ProgressListener that collects events to pass on."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def take(self) -> Iterator[Event]:
        """Yield and remove the events so far. A generator, as Ray sends values into what a task yields from."""
        while self.events:
            yield self.events.pop(0)

    def started(self, job: Job) -> None:
        """Do nothing: `begun` has said it."""

    def stepped(self, job: Job, step: int, total: int, message: str) -> None:  # noqa: ARG002 - there is one job
        """Collect a step."""
        self.events.append({"event": "step", "step": step, "total": total, "message": message})

    def ended(self, outcome: Outcome) -> None:
        """Do nothing: the queue keeps the outcome."""

    def note(self, text: str) -> None:
        """Collect a line for the user."""
        self.events.append({"event": "note", "message": text})
