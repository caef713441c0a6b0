"""One task in a fresh Python process: a JSON spec goes in, JSON results come out. Imports no torch.

The parent calls `run_child("package.module", spec)`; that module's `main` returns `serve_child(results_of, arguments)`.
A child may write its result several times: one that is killed leaves the last of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unept.utils.atomic_files import atomic_write


@dataclass(frozen=True, kw_only=True)
class ChildOutcome:
    """Result, exit status and output of a child process that has ended.

    Attributes:
        result: The last result that it wrote; None where it wrote none.
        exit_status: Its exit status; 0 where the user interrupted it.
        stderr: Its standard error where that was captured, else "".
        interrupted: True where Ctrl-C ended it.
        timed_out: True where it took longer than it was given.
    """

    result: Any
    exit_status: int
    stderr: str = ""
    interrupted: bool = False
    timed_out: bool = False


def run_child(
    module: str,
    spec: Mapping[str, Any],
    *,
    variables: Mapping[str, str] | None = None,
    capture: bool = False,
    seconds: float | None = None,
    path: Sequence[str] | None = None,
) -> ChildOutcome:
    """Run `python -m MODULE SPEC.json RESULT.json` and wait for it. Its standard input is empty.

    Args:
        module: Dotted name of a module with a `main` that calls `serve_child`.
        spec: What the child is to do, in values that JSON has.
        variables: Environment variables beside those of this process.
        capture: Keep what the child prints from the terminal; its standard error is in the outcome.
        seconds: What the child may take; None for no limit. Such a child has a session of its own, and every process
            that it left there is killed with it.
        path: Where it imports from; None for what Python finds by itself, the working directory first.
    """
    status, interrupted, timed_out, process = 0, False, False, None
    with tempfile.TemporaryDirectory() as folder:
        spec_file, result_file = Path(folder, "spec.json"), Path(folder, "result.json")
        spec_file.write_text(json.dumps(spec), encoding="utf-8")
        with open(Path(folder, "stderr"), "w+b") as errors:  # a file: a pipe would last as long as its last holder
            try:
                process = subprocess.Popen(
                    [*child_command(module, path), str(spec_file), str(result_file)],
                    env={**os.environ, **(variables or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL if capture else None,
                    stderr=errors if capture else None,
                    start_new_session=seconds is not None,
                )
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                timed_out = True
            except KeyboardInterrupt:
                interrupted = True
            finally:
                _end(process, and_others=seconds is not None)
            errors.seek(0)
            stderr = errors.read().decode(errors="replace")
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else None
    return ChildOutcome(result=result, exit_status=status, stderr=stderr, interrupted=interrupted, timed_out=timed_out)


def child_command(module: str, path: Sequence[str] | None) -> list[str]:
    """Return the command line, without arguments, of a process that runs a module; `path` as `run_child` takes it."""
    if path is None:
        return [sys.executable, "-m", module]
    run = f"import runpy; runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
    return [sys.executable, "-c", f"import sys; sys.path[:] = {[*path]!r}; {run}"]


def end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that began a session, and what is left of that session, whether the process has ended or not."""
    if process.returncode is None:
        process.kill()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end(process: subprocess.Popen[bytes] | None, *, and_others: bool) -> None:
    """Kill a child that still runs, and the others of its session."""
    if process is None:
        return
    if and_others:
        end_session(process)
        return
    if process.returncode is None:
        process.kill()
    process.wait()


def serve_child(results_of: Callable[[Any], Iterable[Any]], arguments: Sequence[str]) -> int:
    """Carry out a spec in the child and return its exit status, 0.

    Args:
        results_of: Takes the spec and yields the result, as often as more of it is known.
        arguments: The two paths of the command line: spec and result.
    """
    spec = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    for result in results_of(spec):
        atomic_write(Path(arguments[1]), json.dumps(result).encode())
    return 0
