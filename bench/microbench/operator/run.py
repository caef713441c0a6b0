"""A whole kernel benchmark: a fresh process for each malloc setting, then one table and one file of facts."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from bench import environment
from bench.child_process import run_child
from bench.microbench import malloc_count
from bench.microbench.operator import machine_probes
from bench.microbench.operator.parts import AVX2_ARCH
from bench.microbench.operator.request import OperatorBenchRequest
from bench.microbench.rows import BenchmarkRow, rows_to_csv
from unept.ops import cpu_build

TABLE, FACTS = "kernels.csv", "kernels.json"
QUICK_REPEATS = 2
PROCESSES = (  # the malloc of each, and what it measures
    ("counted", ("memory",)),
    ("default", ("operator", "module")),
    ("tuned", ("operator", "machine", "module")),
    ("tuned", ("instructions", "scaling")),
)


def run_operator_benchmark(request: OperatorBenchRequest, say: Callable[[str], None] = print) -> None:
    """Measure, and write the table and the facts to the request's folder, in place of older ones.

    Args:
        request: What to measure and where to write it.
        say: Called with a line of progress.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    load = [os.getloadavg()[0]]
    _build(say)
    notes: list[str] = []
    rows: list[BenchmarkRow] = []
    mallocs: dict[str, str] = {}
    for malloc, parts in PROCESSES:
        try:
            more = malloc_count.preload_variables(malloc_count.counter_library()) if malloc == "counted" else {}
        except cpu_build.Unavailable as error:
            notes.append(f"memory is not measured: {error}")
        else:
            result = _process(request, malloc, parts, more)
            if isinstance(result, str):
                notes.append(result)
            else:
                rows += [BenchmarkRow(**row) for row in result["rows"]]
                notes += [note for note in result["notes"] if note not in notes]
                mallocs[malloc] = result["malloc"]
        _write(request, rows, {"malloc": mallocs, "load": [*load, os.getloadavg()[0]], "notes": notes})


def _write(request: OperatorBenchRequest, rows: list[BenchmarkRow], measured: dict[str, Any]) -> None:
    """Write the table and the facts of what has been measured by now, so that a stop loses one process at most."""
    facts = environment.collect_environment(threads=request.threads) | measured | {"command": request.command}
    facts |= {"repeats": _repeats(request), "quick": request.quick}
    facts |= {"kernel": "" if cpu_build.problem() else cpu_build.load().origin}
    (request.out / TABLE).write_text(rows_to_csv(rows), encoding="utf-8")
    (request.out / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def _build(say: Callable[[str], None]) -> None:
    """Build the libraries before anything is timed; what cannot be built, the workers say."""
    say("building what is not built yet")
    for main, march in (
        (cpu_build.MAIN, cpu_build.NATIVE),
        (cpu_build.MAIN, AVX2_ARCH),
        (machine_probes.PROBE_SOURCE, cpu_build.NATIVE),
    ):
        with suppress(cpu_build.Unavailable):
            cpu_build.load(main, march)


def _repeats(request: OperatorBenchRequest) -> int:
    return min(request.repeats, QUICK_REPEATS) if request.quick else request.repeats


def _process(
    request: OperatorBenchRequest, malloc: str, parts: tuple[str, ...], more: dict[str, str]
) -> dict[str, Any] | str:
    """Return the result of a worker, or a line on a worker that ended without one."""
    spec = {
        "malloc": malloc,
        "parts": parts,
        "threads": request.threads,
        "repeats": _repeats(request),
        "shapes": request.shapes,
        "quick": request.quick,
    }
    variables = environment.thread_variables(request.threads) | more
    outcome = run_child("bench.microbench.operator.worker", spec, variables=variables)
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.exit_status or outcome.result is None:
        missing, status = ", ".join(parts), outcome.exit_status
        return f"not measured: {missing}; the process with {malloc} malloc ended with exit status {status}"
    result: dict[str, Any] = outcome.result
    return result
