"""A whole kernel benchmark: a fresh process for each malloc setting, then one table and one file of facts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench import environment
from bench.microbench import malloc_count
from bench.microbench.operator import machine_probes
from bench.microbench.operator.inputs import SHAPES, TINY, chosen
from bench.microbench.operator.parts import OLDER
from bench.microbench.operator.request import OperatorBenchRequest
from bench.microbench.rows import Row, to_csv
from unept.ops import cpu_build

TABLE, FACTS = "kernels.csv", "kernels.json"
QUICK_REPEATS = 2
PROCESSES = (  # the malloc of each, and what it measures
    ("counted", ("memory",)),
    ("default", ("operator", "module")),
    ("tuned", ("operator", "machine", "module")),
    ("tuned", ("instructions", "scaling")),
)


def perform(request: OperatorBenchRequest, say: Callable[[str], None] = print) -> None:
    """Measure, and write the table and the facts to the request's folder, in place of older ones.

    Raises ValueError, before anything is written, for a shape that is not known.
    """
    chosen(request.shapes, TINY if request.quick else SHAPES)
    request.out.mkdir(parents=True, exist_ok=True)
    load = [os.getloadavg()[0]]
    _build(say)
    notes: list[str] = []
    rows: list[Row] = []
    mallocs: dict[str, str] = {}
    for malloc, parts in PROCESSES:
        try:
            more = malloc_count.preloaded(malloc_count.counter()) if malloc == "counted" else {}
        except cpu_build.Unavailable as error:
            notes.append(f"memory is not measured: {error}")
        else:
            result = _process(request, malloc, parts, more)
            if isinstance(result, str):
                notes.append(result)
            else:
                rows += [Row(**row) for row in result["rows"]]
                notes += [note for note in result["notes"] if note not in notes]
                mallocs[malloc] = result["malloc"]
        _write(request, rows, {"malloc": mallocs, "load": [*load, os.getloadavg()[0]], "notes": notes})


def _write(request: OperatorBenchRequest, rows: list[Row], found: dict[str, Any]) -> None:
    """The table and the facts of what has been measured by now, so that a stop loses one process at most."""
    facts = environment.collect_environment(threads=request.threads) | found | {"command": request.command}
    facts |= {"repeats": _repeats(request), "quick": request.quick}
    facts |= {"kernel": "" if cpu_build.problem() else cpu_build.load().origin}
    (request.out / TABLE).write_text(to_csv(rows), encoding="utf-8")
    (request.out / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _build(say: Callable[[str], None]) -> None:
    """Have the libraries built before anything is timed; what cannot be built, the workers say."""
    say("building what is not built yet")
    for main, march in (
        (cpu_build.MAIN, cpu_build.NATIVE),
        (cpu_build.MAIN, OLDER),
        (machine_probes.MAIN, cpu_build.NATIVE),
    ):
        with suppress(cpu_build.Unavailable):
            cpu_build.load(main, march)


def _repeats(request: OperatorBenchRequest) -> int:
    return min(request.repeats, QUICK_REPEATS) if request.quick else request.repeats


def _process(
    request: OperatorBenchRequest, malloc: str, parts: tuple[str, ...], more: dict[str, str]
) -> dict[str, Any] | str:
    """What a worker found, or a line on a worker that ended without a result."""
    spec = {
        "malloc": malloc,
        "parts": parts,
        "threads": request.threads,
        "repeats": _repeats(request),
        "shapes": request.shapes,
        "quick": request.quick,
    }
    variables = {**os.environ, **environment.thread_variables(request.threads), **more}
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "spec.json"), Path(folder, "result.json")
        given.write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "bench.microbench.operator.worker", str(given), str(found)]
        done = subprocess.run(command, env=variables, check=False)
        if done.returncode or not found.exists():
            missing = ", ".join(parts)
            return f"not measured: {missing}; the process with {malloc} malloc ended with exit status {done.returncode}"
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
        return result
