"""A whole attention benchmark: each comparison at each size in a fresh process for its times, and another for its
memory.

What has been measured under the same setting is kept, so the same command continues where it was stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.child_process import run_child
from bench.microbench import malloc_count
from bench.microbench.attention.implementations import Comparison, MapSize
from bench.microbench.attention.request import AttentionBenchRequest
from bench.microbench.rows import ROW_COLUMNS
from bench.results.csv_text import csv_text
from bench.results.source_hash import source_hash
from unept.ops import cpu_build
from unept.utils.atomic_files import atomic_write

TABLE, FACTS = "attention.csv", "attention.json"
SIZES = (MapSize(height=60, width=60), MapSize(height=180, width=60))  # a level at 480 px with the stride 8, and three
# No multiple of any block, and larger than every window.
QUICK_SIZES = (MapSize(height=26, width=50, heads=2, head_width=8),)
KINDS = ("time", "memory")
STATUS_COLUMNS = ("status", "message", "disagreement")
PACKAGES = ("torch", "reformer-pytorch", "transformers", "local-attention")


def run_attention_benchmark(request: AttentionBenchRequest, say: Callable[[str], None] = print) -> None:
    """Measure what is not measured yet, and write the table and the facts after each process.

    Args:
        request: What to measure and where to write it.
        say: Called with a line of progress.

    Raises:
        KeyboardInterrupt: The user stopped a process; what it had finished is written.
    """
    request.out.mkdir(parents=True, exist_ok=True)
    setting = _setting(request)
    done = _done(request.out / FACTS, setting)
    notes: list[str] = []
    preload: dict[str, dict[str, str] | None] = {"time": {}, "memory": _preload(notes)}
    for kind in KINDS:
        for size in QUICK_SIZES if request.quick else SIZES:
            due = [name for name in request.names if _key(name, size, kind) not in done]
            while due and preload[kind] is not None:
                say(f"{kind} at {size.tokens} tokens: {', '.join(due)}")
                results, stopped = _process({**request.spec(kind, size), "names": due}, preload[kind] or {})
                for name, job in results.items():
                    done[_key(name, size, kind)] = job
                    due.remove(name)
                _write(request, setting, done, notes)
                if stopped:
                    raise KeyboardInterrupt
    _write(request, setting, done, notes)


def _key(name: str, size: MapSize, kind: str) -> str:
    return f"{name}/{size.tokens}/{kind}"


def _preload(notes: list[str]) -> dict[str, str] | None:
    try:
        return malloc_count.preload_variables(malloc_count.counter_library())
    except cpu_build.Unavailable as error:
        notes.append(f"memory is not measured: {error}")
        return None


def _setting(request: AttentionBenchRequest) -> dict[str, Any]:
    """Return what must be the same for an older measurement to be kept, except for the commit."""
    facts = environment.collect_environment(threads=request.threads, malloc=request.malloc)
    facts["packages"] |= {
        name: environment.package_version(name) for name in PACKAGES if environment.package_version(name)
    }
    return facts | {"repeats": request.repeats, "quick": request.quick, "sources": source_hash("run")}


def _done(path: Path, setting: Mapping[str, Any]) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        same = {name for name in setting if setting[name] == facts["setting"].get(name)}
        return dict(facts["jobs"]) if same | {"commit"} == set(setting) | {"commit"} else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _process(spec: Mapping[str, Any], more: Mapping[str, str]) -> tuple[dict[str, Any], bool]:
    """Return the results of a process by comparison, and True where the user stopped it.

    One that ended early leaves out the comparisons that it did not come to; one that was stopped, the unfinished one
    too.
    """
    load = os.getloadavg()[0]
    variables = environment.thread_variables(spec["threads"]) | dict(more)
    outcome = run_child("bench.microbench.attention.worker", spec, variables=variables)
    result: dict[str, Any] = outcome.result or {}
    if outcome.interrupted:
        result = {name: job for name, job in result.items() if job["whole"]}
    elif not result:
        result = {spec["names"][0]: {"rows": [], "sides": {}, "malloc": "", "whole": False}}
    for job in result.values():
        job["problem"] = "" if job.pop("whole") else f"the process ended with exit status {outcome.exit_status}"
        job |= {"load": load, "kind": spec["kind"], "place": {name: spec[name] for name in ("malloc", "threads")}}
    return result, outcome.interrupted


def _write(
    request: AttentionBenchRequest, setting: Mapping[str, Any], done: dict[str, Any], notes: Sequence[str]
) -> None:
    """Write the table and the facts of what has been measured by now, each file atomically."""
    keys = [
        (comparison, size, kind) for kind in KINDS for size in (*QUICK_SIZES, *SIZES) for comparison in request.known
    ]
    lines: list[dict[str, Any]] = []
    for comparison, size, kind in keys:
        job = done.get(_key(comparison.name, size, kind))
        lines += _lines(job, comparison, size) if job else ()
    text = csv_text((*ROW_COLUMNS, "ours", *STATUS_COLUMNS, "difference"), lines)
    facts = {"setting": setting, "command": request.command, "notes": notes, "jobs": done}
    for name, content in ((TABLE, text), (FACTS, json.dumps(facts, indent=1) + "\n")):
        atomic_write(request.out / name, content.encode())


def _lines(job: Mapping[str, Any], comparison: Comparison, size: MapSize) -> Iterator[dict[str, Any]]:
    """Yield the rows of each implementation with its status; one without a value where there are none."""
    context = {"part": comparison.name, "shape": f"{size.tokens} tokens", **job["place"]}
    for side in comparison.implementations:
        status = job["sides"].get(side.name, {"status": "ok"})
        measured = [row for row in job["rows"] if row["side"] == side.name]
        if not measured and status["status"] == "ok":
            status = {"status": "failed", "message": job["problem"] or "nothing was measured"}
        extra = {name: status.get(name) for name in STATUS_COLUMNS} | {"difference": side.difference, "ours": side.ours}
        for row in measured or [context | {"side": side.name, "phase": "", "quantity": ""}]:
            key = "/".join(str(row[name]) for name in ("part", "malloc", "shape", "side", "phase", "quantity"))
            numbers = {name: f"{row[name]:.6g}" for name in ("value", "q1", "q3") if name in row}
            yield row | numbers | extra | {"key": key}
