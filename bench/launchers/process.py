"""Worker process of a job: how it is started and sent its spec, and the reason of its exit."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.launchers.queue import STOP_SIGNALS, signal_name
from bench.launchers.worker import is_allocation_failure
from bench.results.source_hash import slots_of
from bench.results.store import Store, utc_now

_THREAD_REFUSALS = ("can't start new thread", "Thread creation failed: Resource temporarily unavailable")


def start_worker(
    spec: Mapping[str, Any], log: Path, *, gpu: str | None, preload: Sequence[str] = ()
) -> subprocess.Popen[bytes]:
    """Start a worker that takes specs like this one.

    Args:
        spec: Gives threads, backend, and the copies of the user's modules.
        log: File whose end takes what the worker prints.
        gpu: What it sees of the GPUs, as CUDA_VISIBLE_DEVICES takes it: "" for none, None for what this process sees.
        preload: A module that it imports at once; then it says `ready`.
    """
    with open(log, "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "bench.launchers.worker", "-", *preload],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=worker_environment(spec, gpu=gpu),
            start_new_session=bool(slots_of(spec["settings"])),  # so that what a user's code starts ends with it
        )


def send_spec(spec: Mapping[str, Any], process: subprocess.Popen[bytes], log: Path) -> bool:
    """Send a worker its job; return False if it is dead."""
    assert process.stdin is not None
    try:
        begin_log(spec, log)
        process.stdin.write(f"{json.dumps(spec)}\n".encode())
        process.stdin.flush()
    except (BrokenPipeError, ValueError):  # ValueError: its pipe is closed already
        return False
    return True


def begin_log(spec: Mapping[str, Any], log: Path) -> None:
    """Write the spec to the log before an attempt, so that the run can be repeated from it."""
    with open(log, "ab") as file:
        file.write(f"{json.dumps(spec)}\n--- {utc_now()} {spec['label']}\n".encode())


def last_attempt_log(log: Path, size: int) -> bytes:
    """Return what the last attempt printed, at most `size` bytes of its end."""
    return log.read_bytes().rpartition(b"\n--- ")[2].partition(b"\n")[2][-size:]


def close_stdin(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe to a worker, which ends it where it waits."""
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()


def stop_reason(code: int) -> str:
    """Return `stopped by signal 15 (SIGTERM)` where a process of this exit status was told to stop, else ""."""
    return f"stopped by {signal_name(-code)}" if -code in STOP_SIGNALS else ""


def exit_reason(code: int, log: Path, *, kills: int) -> dict[str, str]:
    """Return status and message for a worker's job that ended without a result.

    Args:
        code: Exit status of the worker.
        log: Log of the job, searched for failed allocations.
        kills: Number of processes the kernel had killed for memory before the job began.
    """
    killed = code == -getattr(signal, "SIGKILL", 9)
    if killed and environment.count_oom_kills() > kills:
        return {"status": "oom", "message": "killed by the kernel for memory"}
    end = f"killed by {signal_name(-code)}" if code < 0 else f"ended with exit status {code}"
    if is_allocation_failure(_tail(log)):
        return {"status": "oom", "message": f"worker {end} after an allocation failed"}
    return {"status": "failed", "message": f"worker {end} without a result; see logs/{log.name}"}


def is_thread_refused(log: Path) -> bool:
    """Return True if the last attempt that a log tells of ended because no further thread or process was allowed."""
    return any(words in _tail(log) for words in _THREAD_REFUSALS)


def worker_environment(spec: Mapping[str, Any], *, gpu: str | None) -> dict[str, str]:
    """Return a worker's environment variables; arguments are those of `start_worker`.

    They set its threads, the backend that its rows name, its GPU, and its path: the copies of the user's modules in
    place of the folders that these were found in, then this package. Its working directory is not on the path. A run
    has a heap of huge pages; a measure has not, since its peak memory would count them.
    """
    variables = os.environ | environment.thread_variables(int(spec["threads"]))
    if spec.get("kind") == "run":
        variables |= environment.huge_page_variables()
    variables |= {"UNEPT_BACKEND": spec["backend"], "PYTHONSAFEPATH": "1"}
    variables |= {"PYTHONHASHSEED": "0", "PYTHONUNBUFFERED": "1"}
    if gpu is not None:
        variables["CUDA_VISIBLE_DEVICES"] = gpu
    root = str(Path(__file__).resolve().parents[2])
    path = [] if root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")) else [root]
    path += filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    modules = spec.get("modules", {})
    copied_from = {os.path.realpath(folder) for folders in modules.values() for folder in folders} - {root}
    store = Store(Path(spec["out"]))
    path = [str(store.module(digest)) for digest in modules] + [
        folder for folder in path if os.path.realpath(folder) not in copied_from
    ]
    variables["PYTHONPATH"] = os.pathsep.join(path)
    return variables


def _tail(log: Path, size: int = 4096) -> str:
    """Return the end of the log of the last attempt."""
    try:
        text = log.read_bytes()[-size:].decode("utf-8", errors="replace")
    except OSError as error:
        return "" if error.errno != errno.ENOSPC else str(error)
    return text.rpartition("\n--- ")[2]
