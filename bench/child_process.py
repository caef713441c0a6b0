"""One task in a fresh Python process: a JSON spec goes in, JSON results come out. Imports no torch.

The parent calls `run_child("package.module", spec)`; that module's `main` returns `serve_child(results_of, arguments)`.
A child may write its result several times: one that is killed leaves the last of them.
"""

from __future__ import annotations

import json
import os
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
    """

    result: Any
    exit_status: int
    stderr: str = ""
    interrupted: bool = False


def run_child(
    module: str, spec: Mapping[str, Any], *, variables: Mapping[str, str] | None = None, capture: bool = False
) -> ChildOutcome:
    """Run `python -m MODULE SPEC.json RESULT.json` and wait for it.

    Args:
        module: Dotted name of a module with a `main` that calls `serve_child`.
        spec: What the child is to do, in values that JSON has.
        variables: Environment variables beside those of this process.
        capture: Keep what the child prints from the terminal; its standard error is in the outcome.
    """
    status, stderr, interrupted = 0, "", False
    with tempfile.TemporaryDirectory() as folder:
        spec_file, result_file = Path(folder, "spec.json"), Path(folder, "result.json")
        spec_file.write_text(json.dumps(spec), encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-m", module, str(spec_file), str(result_file)],
                env={**os.environ, **(variables or {})},
                capture_output=capture,
                text=True,
                check=False,
            )
            status, stderr = done.returncode, done.stderr or ""
        except KeyboardInterrupt:
            interrupted = True
        result = json.loads(result_file.read_text(encoding="utf-8")) if result_file.exists() else None
    return ChildOutcome(result=result, exit_status=status, stderr=stderr, interrupted=interrupted)


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
