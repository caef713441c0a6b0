"""Runs and measures in a process beside the queue's: `python -m bench.launchers.worker SPEC.json`, or `- [MODULE]`.

The worker holds the run's claim, calls the task, and writes the row itself the moment it exists. What it prints goes to
the run's log; the starting process hears lines of JSON on a private channel (the worker's original standard output):

    {"event": "step", "step": 20, "total": 500, "message": "loss 1.234"}
    {"event": "row", "status": "ok", "message": "", "metrics": {...}}     the row is in the store
    {"event": "exists"}     it was already there          {"event": "busy"}    another process has the claim
    {"event": "note", "message": "..."}
    {"event": "stuck", "errno": 28, "message": "..."}      the store cannot be written, so there is no row
    {"event": "changed", "what": "the sources"}    they, or the data, are not those of the run's key, so there is no row
    {"event": "idle"}       all is well and the next spec may come
    {"event": "ready"}      the module named after `-` is imported and the first spec may come

With `-` each line of standard input is a spec, and the worker ends when the stream does: when the process that started
it dies, however that happens. The stream moves to another descriptor: a task that reads standard input finds it empty.
After anything but a row that is `ok` the worker ends by itself, so that nothing is done in a process in doubt.
A task is `module:callable` and is called with (spec, folder for checkpoints, progress); it returns status, message,
metrics, and `training` or `protocol`.
"""

from __future__ import annotations

import errno
import faulthandler
import importlib
import json
import os
import queue
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from bench import environment
from bench.errors import one_line
from bench.results.data_digest import digest_of_settings
from bench.results.row_files import ClaimBusy
from bench.results.rows import PROGRAM, SCHEMA, Row, data_digest_of, json_value
from bench.results.source_hash import slots_of, source_hash
from bench.results.store import Store, utc_now
from unept.utils import user_code

UNWRITABLE_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = 1 << 20  # bytes; a disk with less left is full, whatever the exception was called
_ALLOCATORS = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "Cannot allocate memory")

_READERS = ("EOFError", "BdbQuit")  # what input() and breakpoint() raise where nothing can be read
_NO_INPUT = "a run's standard input is empty: is there an input() or a breakpoint() in your code?"


def main(arguments: list[str]) -> int:
    """Carry out the spec in the file named first, or the specs on standard input; return the exit status.

    Args:
        arguments: The file or `-`, and after `-` a module to import before the first spec, where one is named.
    """
    faulthandler.enable()
    if arguments[0] != "-":
        spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
        _answer(spec, _emitter(_private_stdout()))
        return 0
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the starting process decides
    specs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(specs, _private_stdin()), daemon=True).start()
    emit = _emitter(_private_stdout())
    for module in arguments[1:]:
        importlib.import_module(module)
        emit("ready")
    while True:
        spec = specs.get()
        _print_to(Store(Path(spec["out"])).log(spec["key"]))
        if not _answer(spec, emit):
            return 0
        emit("idle")


def _emitter(channel: TextIO) -> Callable[..., None]:
    process, pipe = os.getpid(), os.fstat(channel.fileno())

    def emit(event: str, **facts: Any) -> None:
        if os.getpid() != process:
            os._exit(0)  # a copy of the worker that a user's code forked is at nobody's run
        if not os.path.samestat(pipe, os.fstat(channel.fileno())):
            os._exit(1)  # a user's code closed the channel, and something else has its descriptor
        channel.write(json.dumps(json_value({"event": event, **facts})) + "\n")
        channel.flush()

    return emit


def _answer(spec: dict[str, Any], emit: Callable[..., None]) -> bool:
    """Carry out one spec; return True if this process is fit for another."""
    try:
        return _work(spec, emit)
    except OSError as error:
        if not is_store_unwritable(error, Path(spec["out"])):
            raise
        emit("stuck", errno=error.errno or errno.ENOSPC, message=str(error))
        return False


def _work(spec: dict[str, Any], emit: Callable[..., None]) -> bool:
    store = Store(Path(spec["out"]))
    kind, key = spec["kind"], spec["key"]
    try:
        with store.claim(kind, key):
            damage = store.clear_damaged(kind, key)
            if damage:
                emit("note", message=damage)
            if store.has(kind, key):
                emit("exists")
                return True
            if source_hash(kind, slots_of(spec["settings"]), again=True) != spec["sources"]:
                emit("changed", what="the sources")
                return False
            if not _has_its_data(spec, emit):
                return False
            row = run_attempt(spec, store.checkpoints(key), emit)
            if not _has_its_data(spec, emit):  # what it saw is neither the old data nor the new ones
                shutil.rmtree(store.checkpoints(key), ignore_errors=True)
                return False
            store.write(row)
            emit("row", **{name: row[name] for name in ("status", "message", "metrics")})
            return bool(row["status"] == "ok")
    except ClaimBusy:
        emit("busy")
        return True


def _has_its_data(spec: dict[str, Any], emit: Callable[..., None]) -> bool:
    """Return True if the data are those of the run's key; else say that they have changed."""
    expected = data_digest_of(spec)
    what = f"the data at {spec['settings']['data']}"
    try:
        if not expected or digest_of_settings(spec["settings"], again=True).digest == expected:
            return True
    except ValueError as error:  # a file is gone
        what = f"{what} ({error})"
    emit("changed", what=what)
    return False


def run_attempt(spec: dict[str, Any], folder: Path, emit: Callable[..., None]) -> Row:
    """Return the row of one attempt at `spec`; an exception of the task becomes its status.

    Args:
        spec: The job.
        folder: Folder for checkpoints.
        emit: Sends an event to the starting process.

    Raises:
        OSError: Where the disk is full.
    """
    malloc = environment.raise_malloc_thresholds()
    started = utc_now()

    def progress(step: int, total: int, message: str) -> None:
        emit("step", step=step, total=total, message=message)

    try:
        with user_code.running("the run"):
            result = json_value(_task(spec)(spec, folder, progress))
    except (Exception, SystemExit) as error:
        if is_store_unwritable(error, folder.parent):
            raise OSError(errno.ENOSPC, f"no space left on the disk of {folder.parent.parent}") from error
        traceback.print_exc()
        hint = f"; {_NO_INPUT}" if type(error).__name__ in _READERS else ""
        result = {"status": status_of_error(error), "message": one_line(error) + hint}
    return make_row(spec, result, started=started, malloc=malloc)


def make_row(spec: dict[str, Any], result: dict[str, Any], *, started: str, malloc: str = "system default") -> Row:
    """Return the row of the run or measure that `spec` describes.

    Args:
        spec: The job.
        result: Status, message, metrics and whatever else the task returned.
        started: When it began (`utc_now`).
        malloc: Return value of `raise_malloc_thresholds`.
    """
    names = (
        "kind",
        "key",
        "study",
        "preset",
        "variant",
        "axes",
        "settings",
        "threads",
        "backend",
        "sources",
        "command",
    )
    row = {"schema": SCHEMA, **{name: spec[name] for name in names}}
    row |= {
        "data": spec.get("data", {}),
        "roles": spec.get("roles", {}),
        "release": environment.package_version(PROGRAM),
    }
    if spec["kind"] == "run":
        row |= {"seed": spec["seed"], "training": {}}
    else:
        row |= {"machine": spec["machine"], "protocol": {}}
        row |= {"target": spec["target"]} if "target" in spec else {}
    row |= {"metrics": {}} | result
    return row | {
        "environment": environment.collect_environment(threads=spec["threads"], malloc=malloc),
        "started": started,
        "finished": utc_now(),
    }


def status_of_error(error: BaseException) -> str:
    """Return the status of a row for a task's exception. Classes are compared by name, which needs no torch."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if "NonFiniteError" in names:
        return "diverged"
    if names & {"MemoryError", "OutOfMemoryError"} or (
        isinstance(error, RuntimeError) and is_allocation_failure(str(error))
    ):
        return "oom"
    return "unsupported" if "NotImplementedError" in names else "failed"


def is_allocation_failure(text: str) -> bool:
    """Return True if a message is an allocator's refusal."""
    return any(words in text for words in _ALLOCATORS)


def is_store_unwritable(error: BaseException, folder: Path) -> bool:
    """Return True if `error` comes from a store that cannot be written, rather than from the run."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path.cwd())
    if isinstance(error, OSError) and error.errno in UNWRITABLE_ERRNOS:
        return not os.access(existing, os.W_OK) or str(existing) in str(error.filename)
    return shutil.disk_usage(existing).free < _FULL


def _task(spec: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    module, _, name = spec["task"].partition(":")
    task: Callable[..., dict[str, Any]] = getattr(importlib.import_module(module), name)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(spec["threads"])
    return task


def _private_stdin() -> TextIO:
    """Return the original standard input for this module alone; everything else finds it empty."""
    channel = os.fdopen(os.dup(0), encoding="utf-8")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return channel


def _private_stdout() -> TextIO:
    """Return the original standard output for this module alone; everything else prints to standard error."""
    sys.stdout.flush()
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _print_to(log: Path) -> None:
    """Redirect everything printed from now on to the end of `log`."""
    sys.stdout.flush()
    sys.stderr.flush()
    with open(log, "ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _listen(specs: queue.SimpleQueue[dict[str, Any]], channel: TextIO) -> None:
    """Queue the specs from the channel; its end is the end of this process."""
    for line in channel:
        specs.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    if not getattr(sys.flags, "safe_path", False):
        del sys.path[0]  # the working directory: an older Python does not heed PYTHONSAFEPATH
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # without waiting for a thread of the user's
