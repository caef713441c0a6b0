"""A whole run: each comparison at each size in a fresh process for its times and another for its memory; one table.

What has been measured under the same setting is kept, so the same command goes on where it was stopped.
"""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import environment
from bench.microbench import malloc_count
from bench.microbench.attention.implementations import Comparison, Size
from bench.microbench.attention.request import AttentionBenchRequest
from bench.microbench.rows import COLUMNS
from bench.results.source_hash import source_hash
from unept.ops import cpu_build

TABLE, FACTS = "attention.csv", "attention.json"
SIZES = (Size(height=60, width=60), Size(height=180, width=60))  # a level at 480 px with the stride 8, and three
TINY = (Size(height=26, width=50, heads=2, head_width=8),)  # no multiple of any block, and larger than every window
KINDS = ("time", "memory")
SAID = ("status", "message", "disagreement")
PACKAGES = ("torch", "reformer-pytorch", "transformers", "local-attention")


def perform(request: AttentionBenchRequest, say: Callable[[str], None] = print) -> None:
    """Measure what is not measured yet, and write the table and the facts after each process."""
    request.out.mkdir(parents=True, exist_ok=True)
    setting = _setting(request)
    done = _done(request.out / FACTS, setting)
    notes: list[str] = []
    preload: dict[str, dict[str, str] | None] = {"time": {}, "memory": _preload(notes)}
    for kind in KINDS:
        for size in TINY if request.quick else SIZES:
            due = [name for name in request.names if _key(name, size, kind) not in done]
            while due and preload[kind] is not None:
                say(f"{kind} at {size.tokens} tokens: {', '.join(due)}")
                found, stopped = _process({**request.spec(kind, size), "names": due}, preload[kind] or {})
                for name, job in found.items():
                    done[_key(name, size, kind)] = job
                    due.remove(name)
                _write(request, setting, done, notes)
                if stopped:
                    raise KeyboardInterrupt
    _write(request, setting, done, notes)


def _key(name: str, size: Size, kind: str) -> str:
    return f"{name}/{size.tokens}/{kind}"


def _preload(notes: list[str]) -> dict[str, str] | None:
    try:
        return malloc_count.preloaded(malloc_count.counter())
    except cpu_build.Unavailable as error:
        notes.append(f"memory is not measured: {error}")
        return None


def _setting(request: AttentionBenchRequest) -> dict[str, Any]:
    """What must be the same for an older measurement to be kept, but for the commit."""
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
    """By comparison what a process found, and whether the user stopped it.

    One that ended early leaves out the comparisons that it did not come to; what was stopped, the unfinished one too.
    """
    load, ended, stopped = os.getloadavg()[0], 0, False
    variables = {**os.environ, **environment.thread_variables(spec["threads"]), **more}
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder, "spec.json"), Path(folder, "result.json")
        given.write_text(json.dumps(spec), encoding="utf-8")
        command = [sys.executable, "-m", "bench.microbench.attention.worker", str(given), str(found)]
        try:
            ended = subprocess.run(command, env=variables, check=False).returncode
        except KeyboardInterrupt:
            stopped = True
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    if stopped:
        result = {name: job for name, job in result.items() if job["whole"]}
    elif not result:
        result = {spec["names"][0]: {"rows": [], "sides": {}, "malloc": "", "whole": False}}
    for job in result.values():
        job["problem"] = "" if job.pop("whole") else f"the process ended with exit status {ended}"
        job |= {"load": load, "kind": spec["kind"], "place": {name: spec[name] for name in ("malloc", "threads")}}
    return result, stopped


def _write(
    request: AttentionBenchRequest, setting: Mapping[str, Any], done: dict[str, Any], notes: Sequence[str]
) -> None:
    """The table and the facts of what has been measured by now, each in one stroke."""
    keys = [(each, size, kind) for kind in KINDS for size in (*TINY, *SIZES) for each in request.known]
    lines: list[dict[str, Any]] = []
    for each, size, kind in keys:
        job = done.get(_key(each.name, size, kind))
        lines += _lines(job, each, size) if job else ()
    text = io.StringIO()
    writer = csv.DictWriter(text, (*COLUMNS, "ours", *SAID, "difference"), lineterminator="\n", restval="")
    writer.writeheader()
    writer.writerows(lines)
    facts = {"setting": setting, "command": request.command, "notes": notes, "jobs": done}
    for name, content in ((TABLE, text.getvalue()), (FACTS, json.dumps(facts, indent=1) + "\n")):
        part = request.out / f"{name}.part"
        part.write_text(content, encoding="utf-8")
        part.replace(request.out / name)


def _lines(job: Mapping[str, Any], comparison: Comparison, size: Size) -> Iterator[dict[str, Any]]:
    """The rows of each side with its status; one without a value where there are none."""
    place = {"part": comparison.name, "shape": f"{size.tokens} tokens", **job["place"]}
    for side in comparison.sides:
        said = job["sides"].get(side.name, {"status": "ok"})
        found = [row for row in job["rows"] if row["side"] == side.name]
        if not found and said["status"] == "ok":
            said = {"status": "failed", "message": job["problem"] or "nothing was measured"}
        more = {name: said.get(name) for name in SAID} | {"difference": side.difference, "ours": side.ours}
        for row in found or [place | {"side": side.name, "phase": "", "quantity": ""}]:
            key = "/".join(str(row[name]) for name in ("part", "malloc", "shape", "side", "phase", "quantity"))
            numbers = {name: f"{row[name]:.6g}" for name in ("value", "q1", "q3") if name in row}
            yield row | numbers | more | {"key": key}
