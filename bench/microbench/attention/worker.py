"""One process of an attention benchmark: times comparisons at one size, or counts their memory.

The result is written again after each implementation, so that a process that is killed leaves what it has measured.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from bench import environment
from bench.child_process import serve_child
from bench.environment import USABLE_MEMORY_SHARE
from bench.errors import one_line
from bench.microbench import malloc_count, rows, timing
from bench.microbench.attention.implementations import (
    RESULT_TOLERANCE,
    Comparison,
    Implementation,
    MapSize,
    PreparedCall,
    compute_result,
    result_disagreement,
)
from bench.microbench.rows import BenchmarkRow, RowContext
from bench.units import GIB


def main(arguments: list[str]) -> int:
    """Carry out the spec in the first file and write the result to the second; return the exit status."""
    return serve_child(run_comparisons, arguments)


def run_comparisons(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is known by now, by comparison: `rows`, the status of each implementation, and `whole` where that is
    all.

    Args:
        spec: What `attention.run` wants of this process, as plain values.
    """
    malloc = environment.raise_malloc_thresholds() if spec["malloc"] == "tuned" else "system default"
    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")  # of the others' imports
    size = MapSize(**spec["size"])
    comparisons = {comparison.name: comparison for comparison in load_comparisons(spec["comparisons"])}
    result: dict[str, Any] = {}
    for name in spec["names"]:
        record: dict[str, Any] = {"rows": [], "sides": {}, "malloc": malloc, "whole": False}
        result[name] = record
        context = RowContext(part=name, malloc=spec["malloc"], shape=f"{size.tokens} tokens", threads=spec["threads"])
        steps = _memory(comparisons[name], size, context, record) if spec["kind"] == "memory" else None
        for _ in steps or _times(comparisons[name], size, context, record, spec["repeats"]):
            yield result
        record["whole"] = True
        yield result


def _memory(comparison: Comparison, size: MapSize, context: RowContext, record: dict[str, Any]) -> Iterator[None]:
    """Count each implementation by itself; a step per implementation."""
    for side, call, status in _checked(comparison, size):
        record["sides"][side.name] = status
        try:
            if call is not None:
                record["rows"] += map(asdict, _counted(comparison, size, context, side, call, record["rows"]))
        except (RuntimeError, MemoryError) as error:
            status |= {"status": "failed", "message": one_line(error, most=200)}
        yield


def _times(
    comparison: Comparison, size: MapSize, context: RowContext, record: dict[str, Any], repeats: int
) -> Iterator[None]:
    """Time all implementations in turns."""
    tasks = {}
    for side, call, status in _checked(comparison, size):
        record["sides"][side.name] = status
        if call is not None:
            tasks[side.name] = _task(call, comparison, size)
        yield
    samples = timing.time_interleaved(tasks, repeats) if tasks else {}
    timings = [context.row(name, phase, "seconds", seconds, every=True) for (name, phase), seconds in samples.items()]
    record["rows"] += map(asdict, [*timings, *rows.ratio_rows(context, samples, comparison.implementations[0].name)])
    yield


def load_comparisons(spec: str) -> tuple[Comparison, ...]:
    """Return the comparisons that the function `module:function` gives."""
    module, _, function = spec.partition(":")
    comparisons: tuple[Comparison, ...] = getattr(importlib.import_module(module), function)()
    return comparisons


def _checked(
    comparison: Comparison, size: MapSize
) -> Iterator[tuple[Implementation, PreparedCall | None, dict[str, Any]]]:
    """Yield each implementation with its prepared call, if it is installed and gives the right result; and its
    status.
    """
    expected: Tensor | None = None
    for side in comparison.implementations:
        status: dict[str, Any] = {"status": "ok", "message": "", "disagreement": None}
        call = None
        try:
            needs, free = side.needed_bytes(size), environment.available_memory_bytes()
            if needs > USABLE_MEMORY_SHARE * free:
                most = f"{USABLE_MEMORY_SHARE:.0%} of the {free / GIB:.1f} that are free"
                short = f"needs {needs / GIB:.1f} GiB, more than {most}"
                status |= {"status": "skipped", "message": short}
            else:
                call = side.prepare(size)
                result = compute_result(call, comparison.draw_inputs(size))
                expected = result if expected is None else expected
                status["disagreement"] = result_disagreement(result, expected) if side.same_result else None
                if side.same_result and not status["disagreement"] <= RESULT_TOLERANCE:
                    raise ValueError(f"its result differs from the first side's by {status['disagreement']:.1e}")
        except ImportError as error:
            call = None
            status |= {
                "status": "unsupported",
                "message": f"not installed ({one_line(error, most=200)}): {side.install}",
            }
        except Exception as error:  # of code that is not ours: a row that says so, and the others go on
            call = None
            status |= {"status": "failed", "message": one_line(error, most=200)}
        yield side, call, status


def _task(call: PreparedCall, comparison: Comparison, size: MapSize) -> timing.TimedTask:
    inputs = call.take(comparison.draw_inputs(size))
    with torch.no_grad():
        gradient = torch.ones_like(call.run(inputs))
    return timing.call_task(call.run, inputs, gradient)


def _counted(
    comparison: Comparison,
    size: MapSize,
    context: RowContext,
    side: Implementation,
    call: PreparedCall,
    before: list[dict[str, Any]],
) -> Iterator[BenchmarkRow]:
    """Yield the bytes of each phase, with what the implementation keeps, and their ratio to the first
    implementation's.
    """
    kept = sum(tensor.nbytes for tensor in call.kept)
    first = {row["phase"]: row["value"] for row in before if row["side"] == comparison.implementations[0].name}
    for phase, count in malloc_count.count_call_bytes(call.run, call.take(comparison.draw_inputs(size))).items():
        yield context.row(side.name, phase, "bytes", [float(count + kept)])
        if phase in first:
            yield context.row(side.name, phase, "ratio", [(count + kept) / first[phase]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
