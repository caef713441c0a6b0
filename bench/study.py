"""An experiment from its variants to its rows: what is due, do it, measure each variant, make the tables.

The same command resumes: runs are found by key, so whatever is in the store is not done again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environment, forecast, presets
from bench.config import from_dict, to_dict
from bench.grid import Variant
from bench.memory import advice
from bench.progress import Clock, watcher
from bench.rows import STATUSES, Row, key_of
from bench.runner import Job, Outcome, Skip, run_jobs
from bench.sources import slots_of, source_hash
from bench.store import Busy, Store

RETRYABLE = tuple(status for status in STATUSES if status != "ok")


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """What a worker calls, as `module:callable`: for a run and for the measures of a variant ("" for none)."""

    run: str = "bench.recipe:run"
    measure: str = "bench.measures:measure"


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment and how to do it. `name` is what makes the same command resume: it tells experiments apart.

    `control` is the variant that the report compares the others with; "" leaves the choice to the report. `skip_oom`
    gives a row `skipped` to what is predicted not to fit into memory, and to what takes more than a run that did not.
    """

    name: str
    kind: str  # the command: "ablate" or "table 5"
    variants: tuple[Variant, ...]
    seeds: int
    preset: str
    data: str
    out: Path
    threads: int = 1
    jobs: int = 1
    backend: str = "reference"
    retry: tuple[str, ...] = ()
    control: str = ""
    skip_oom: bool = False
    command: str = ""
    tasks: Tasks = Tasks()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Every job of a study, and which of them are due. A job's estimate is in seconds."""

    runs: tuple[Job, ...]
    measures: tuple[Job, ...]
    due_runs: tuple[Job, ...]
    due_measures: tuple[Job, ...]
    again: tuple[Row, ...]  # rows that --retry sets aside
    problems: tuple[str, ...]  # a line for each damaged file


def plan(study: Study) -> Plan:
    """What is to do, from the store alone; changes nothing."""
    store = Store(study.out)
    specs = [_spec(study, variant, "run", seed) for seed in range(study.seeds) for variant in study.variants]
    measured = [_spec(study, variant, "measure", 0) for variant in study.variants] if study.tasks.measure else []
    seconds = forecast.estimates(specs, store.read("run").rows, _guess(study.threads))
    runs = [_job(spec, estimate) for spec, estimate in zip(specs, seconds, strict=True)]
    measures = [_job(spec, None) for spec in measured]
    problems: list[str] = []
    again: list[Row] = []
    due = [job for job in (*runs, *measures) if _is_due(store, job, study.retry, again, problems)]
    return Plan(
        runs=tuple(runs),
        measures=tuple(measures),
        due_runs=tuple(job for job in due if job.kind == "run"),
        due_measures=tuple(job for job in due if job.kind == "measure"),
        again=tuple(again),
        problems=tuple(problems),
    )


def perform(study: Study, say: Callable[[str], None] = print) -> tuple[Row, ...]:
    """Do what is due, then measure each variant once, alone; returns the study's rows, of runs and of measures.

    Raises ValueError for a folder of another study, OSError for one that cannot be written, Interrupted when told to
    stop. In each case what was done is in the store and the same call continues.
    """
    store = Store(study.out)
    for line in store.open(preset=study.preset, data=study.data):
        say(line)
    todo = plan(study)
    for job in (*todo.due_runs, *todo.due_measures):
        _set_damaged_aside(store, job, say)
    for row in todo.again:
        _retry(store, row)
    store.register(study.name, _entry(study, todo))
    done = len(todo.runs) - len(todo.due_runs)
    if done:
        say(f"{done} of {_count(len(todo.runs), 'run')} are there already")
    if todo.due_runs:
        say(_due(study, todo))
    advised = _advice(study, todo)
    for line in advised.warnings:
        say(line)
    skip = advice.skipping(store, advised) if study.skip_oom else None
    try:
        _drain(store, todo.due_runs, study.jobs, done, say, skip)
        if todo.due_measures:
            say(f"measuring {_count(len(todo.due_measures), 'variant')}, one at a time, alone")
        _drain(store, todo.due_measures, 1, len(todo.measures) - len(todo.due_measures), say, skip)
    finally:
        store.write_tables()
    return store.read("run", study.name).rows + store.read("measure", study.name).rows


def finished(study: Study) -> int:
    """How many of the study's runs have a row."""
    store = Store(study.out)
    return sum(store.has("run", job.key) for job in plan(study).runs)


def summary(rows: Sequence[Row], wanted: int) -> list[str]:
    """A line on how the runs came out, and lines on each way that is not `ok`, of runs and of measures."""
    runs = [row["status"] for row in rows if row["kind"] == "run"]
    counts = ", ".join(f"{runs.count(status)} {status}" for status in STATUSES if status in runs)
    lines = [f"{len(runs)} of {wanted} runs have a row: {counts or 'none'}"]
    for status in RETRYABLE:
        messages: dict[str, list[str]] = {}
        ended = [row for row in rows if row["status"] == status]
        for row in ended:
            name = f"{row['variant']} seed {row['seed']}" if row["kind"] == "run" else f"measures of {row['variant']}"
            messages.setdefault(row["message"], []).append(name)
        for message, names in messages.items():
            shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
            lines.append(f"{status}: {shown}: {message}")
        if ended:
            again = f"to run these again: the same command with --retry {status}"
            lines.append(f"{again}; logs/{ended[0]['key']}.log tells more about the first")
    return lines


def dry_run_lines(study: Study) -> list[str]:
    """What `perform` would do, a line per variant, with times where they are known."""
    Store(study.out).check(preset=study.preset, data=study.data)
    todo = plan(study)
    lines = [*todo.problems]
    for variant in study.variants:
        jobs = [job for job in todo.due_runs if job.spec["variant"] == variant.name]
        known = [job.estimate for job in jobs if job.estimate is not None]
        each = f", about {forecast.in_words(known[0])} each" if known else ""
        seeds = f" (seeds {' '.join(str(job.spec['seed']) for job in jobs)})" if jobs else ""
        lines.append(f"{variant.name}: {len(jobs)} of {_count(study.seeds, 'run')} due{seeds}{each}")
    return [*lines, *_advice(study, todo).warnings, _due(study, todo)]


def _advice(study: Study, todo: Plan) -> advice.Advice:
    due = [job.spec for job in (*todo.due_runs, *todo.due_measures)]
    at_once = max(1, min(study.jobs, len(todo.due_runs)))
    return advice.advise(due, study.backend, at_once=at_once, skip_oom=study.skip_oom)


def _due(study: Study, todo: Plan) -> str:
    """How much is due, and how long it may take."""
    due = f"{_count(len(todo.due_runs), 'run')} and {_count(len(todo.due_measures), 'measure')} due"
    if not todo.due_runs:
        return due
    total = forecast.finish([job.estimate for job in todo.due_runs], [], study.jobs)
    takes = "time not known yet" if total is None else f"about {forecast.in_words(total)}"
    beside = f"{min(study.jobs, len(todo.due_runs))} at a time, {_count(study.threads, 'thread')} each"
    return f"{due} in {study.out}, {beside}: {takes} for the runs"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _spec(study: Study, variant: Variant, kind: str, seed: int) -> dict[str, Any]:
    settings = to_dict(variant.settings)
    spec = {
        "kind": kind,
        "task": study.tasks.run if kind == "run" else study.tasks.measure,
        "study": study.name,
        "variant": variant.name,
        "axes": {name: [*value] if isinstance(value, tuple) else value for name, value in variant.axes.items()},
        "settings": settings,
        "seed": seed,
        "preset": study.preset,
        "backend": study.backend,
        "threads": study.threads,
        "sources": source_hash(kind, slots_of(settings)),
        "out": str(study.out.resolve()),
        "command": study.command,
        "label": f"{variant.name} seed {seed}" if kind == "run" else f"measures of {variant.name}",
    }
    if kind == "measure":
        spec["machine"] = environment.machine()
    key = key_of(kind, spec)
    return spec | {"key": key, "pictures": str(Store(study.out.resolve()).pictures(key))}


def _job(spec: dict[str, Any], estimate: float | None) -> Job:
    return Job(spec=spec, label=spec["label"], estimate=estimate)


def _guess(threads: int) -> forecast.Guess:
    """The presets' own estimate."""

    def guess(settings: Mapping[str, Any]) -> float | None:
        try:
            return presets.estimate_seconds(from_dict(dict(settings)), threads)
        except ValueError:  # a row of an older version, whose fields are not today's
            return None

    return guess


def _is_due(store: Store, job: Job, retry: Iterable[str], again: list[Row], problems: list[str]) -> bool:
    try:
        row = store.row(job.kind, job.key)
    except ValueError as error:
        problems.append(f"{error}; due again")
        return True
    if row is None:
        return True
    if row["status"] in retry:
        again.append(row)
        return True
    return False


def _set_damaged_aside(store: Store, job: Job, say: Callable[[str], None]) -> None:
    try:
        with store.claim(job.kind, job.key):
            damage = store.clear_damaged(job.kind, job.key)
    except Busy:
        return
    if damage:
        say(damage)


def _retry(store: Store, row: Row) -> None:
    """Set the row aside, unless another process has begun the same retry."""
    try:
        with store.claim(row["kind"], row["key"]):
            if store.row(row["kind"], row["key"]) == row:
                store.supersede(row["kind"], row["key"])
    except Busy:
        return


def _entry(study: Study, todo: Plan) -> dict[str, Any]:
    """What study.json says about this experiment."""
    names = ("key", "variant", "axes", "seed")
    return {
        "kind": study.kind,
        "seeds": study.seeds,
        "variants": [variant.name for variant in study.variants],
        "control": study.control,
        "command": study.command,
        "runs": [{name: job.spec[name] for name in names} for job in todo.runs],
        "measures": [{name: job.spec[name] for name in names[:3]} for job in todo.measures],
    }


def _drain(
    store: Store,
    jobs: Sequence[Job],
    parallel: int,
    already: int,
    say: Callable[[str], None],
    skip: Skip | None,
) -> None:
    if not jobs:
        return
    ordered = sorted(jobs, key=lambda job: (job.spec["seed"], -(job.estimate or 0.0)))
    with watcher(Clock(ordered, parallel, already=already)) as watching:
        outcomes: list[Outcome] = run_jobs(store, ordered, parallel=parallel, progress=watching, skip=skip)
    stopped = [outcome for outcome in outcomes if outcome.status == "stopped"]
    if stopped:
        say(f"{_count(len(stopped), 'run')} stopped from outside ({stopped[0].message}); the same command continues")
