"""One process of a comparison: `python -m bench.microbench.attention.worker SPEC.json RESULT.json`.

It times the sides of comparisons at one size, or counts their memory. The result is written again after each side, so
that a process that is killed leaves what it has found.
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
    """Carry out the spec in the first file and write the result to the second; returns the exit status."""
    return serve_child(run_comparisons, arguments)


def run_comparisons(spec: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What is known by now, by comparison: rows, the status of each side, and whether that is all."""
    malloc = environment.raise_malloc_thresholds() if spec["malloc"] == "tuned" else "system default"
    torch.set_num_threads(spec["threads"])
    warnings.simplefilter("ignore")  # of the others' imports
    size = MapSize(**spec["size"])
    known = {each.name: each for each in load_comparisons(spec["comparisons"])}
    result: dict[str, Any] = {}
    for name in spec["names"]:
        found: dict[str, Any] = {"rows": [], "sides": {}, "malloc": malloc, "whole": False}
        result[name] = found
        place = RowContext(part=name, malloc=spec["malloc"], shape=f"{size.tokens} tokens", threads=spec["threads"])
        steps = _memory(known[name], size, place, found) if spec["kind"] == "memory" else None
        for _ in steps or _times(known[name], size, place, found, spec["repeats"]):
            yield result
        found["whole"] = True
        yield result


def _memory(comparison: Comparison, size: MapSize, place: RowContext, found: dict[str, Any]) -> Iterator[None]:
    """Count each side by itself; a step a side."""
    for side, core, said in _checked(comparison, size):
        found["sides"][side.name] = said
        try:
            if core is not None:
                found["rows"] += map(asdict, _counted(comparison, size, place, side, core, found["rows"]))
        except (RuntimeError, MemoryError) as error:
            said |= {"status": "failed", "message": one_line(error, most=200)}
        yield


def _times(
    comparison: Comparison, size: MapSize, place: RowContext, found: dict[str, Any], repeats: int
) -> Iterator[None]:
    """Time all sides in turns."""
    tasks = {}
    for side, core, said in _checked(comparison, size):
        found["sides"][side.name] = said
        if core is not None:
            tasks[side.name] = _task(core, comparison, size)
        yield
    samples = timing.time_interleaved(tasks, repeats) if tasks else {}
    made = [place.row(name, phase, "seconds", each, every=True) for (name, phase), each in samples.items()]
    found["rows"] += map(asdict, [*made, *rows.ratio_rows(place, samples, comparison.implementations[0].name)])
    yield


def load_comparisons(where: str) -> tuple[Comparison, ...]:
    """The comparisons that `module:function` gives."""
    module, _, function = where.partition(":")
    found: tuple[Comparison, ...] = getattr(importlib.import_module(module), function)()
    return found


def _checked(
    comparison: Comparison, size: MapSize
) -> Iterator[tuple[Implementation, PreparedCall | None, dict[str, Any]]]:
    """Each side with its core, if it is there and answers as it should; and its status."""
    expected: Tensor | None = None
    for side in comparison.implementations:
        said: dict[str, Any] = {"status": "ok", "message": "", "disagreement": None}
        core = None
        try:
            needs, free = side.needed_bytes(size), environment.available_memory_bytes()
            if needs > USABLE_MEMORY_SHARE * free:
                most = f"{USABLE_MEMORY_SHARE:.0%} of the {free / GIB:.1f} that are free"
                short = f"needs {needs / GIB:.1f} GiB, more than {most}"
                said |= {"status": "skipped", "message": short}
            else:
                core = side.prepare(size)
                found = compute_result(core, comparison.draw_inputs(size))
                expected = found if expected is None else expected
                said["disagreement"] = result_disagreement(found, expected) if side.same_result else None
                if side.same_result and not said["disagreement"] <= RESULT_TOLERANCE:
                    raise ValueError(f"its result differs from the first side's by {said['disagreement']:.1e}")
        except ImportError as error:
            core = None
            said |= {"status": "unsupported", "message": f"not installed ({one_line(error, most=200)}): {side.install}"}
        except Exception as error:  # of code that is not ours: a row that says so, and the others go on
            core = None
            said |= {"status": "failed", "message": one_line(error, most=200)}
        yield side, core, said


def _task(core: PreparedCall, comparison: Comparison, size: MapSize) -> timing.TimedTask:
    given = core.take(comparison.draw_inputs(size))
    with torch.no_grad():
        gradient = torch.ones_like(core.run(given))
    return timing.call_task(core.run, given, gradient)


def _counted(
    comparison: Comparison,
    size: MapSize,
    place: RowContext,
    side: Implementation,
    core: PreparedCall,
    before: list[dict[str, Any]],
) -> Iterator[BenchmarkRow]:
    """Bytes of each phase, what the side keeps with them, and how many times those of the first side they are."""
    kept = sum(tensor.nbytes for tensor in core.kept)
    first = {row["phase"]: row["value"] for row in before if row["side"] == comparison.implementations[0].name}
    for phase, count in malloc_count.count_call_bytes(core.run, core.take(comparison.draw_inputs(size))).items():
        yield place.row(side.name, phase, "bytes", [float(count + kept)])
        if phase in first:
            yield place.row(side.name, phase, "ratio", [(count + kept) / first[phase]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
