"""An experiment from its variants to its rows: what is due, do it, measure each variant, make the tables.

The same command resumes: runs are found by key, so whatever is in the store is not done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import environment
from bench.config import presets
from bench.config.grid import Variant
from bench.config.settings import settings_from_dict, settings_to_dict
from bench.launchers import eta, ray_cluster
from bench.launchers.local import run_local_jobs
from bench.launchers.progress import JobClock, progress_display
from bench.launchers.queue import Job, Outcome, SkipRule
from bench.results.rows import KINDS, STATUSES, Row, row_key
from bench.results.source_hash import slots_of, source_hash
from bench.results.store import ClaimBusy, Store
from bench.study import oom_policy
from bench.study.options import RETRYABLE
from bench.study.shard import WHOLE_STUDY, Shard


@dataclass(frozen=True, kw_only=True)
class WorkerTasks:
    """What a worker calls, as `module:callable`: for a run and for the measures of a variant ("" for none)."""

    run: str = "bench.training.loop:train_and_evaluate"
    measure: str = "bench.profiling.variant:measure"


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
    gpus: tuple[str, ...] = ()  # one for each run, as CUDA_VISIBLE_DEVICES names them
    engine: str = "local"  # or "ray": runs on the cluster at `address`, at most `jobs` at once (0: all it can take)
    address: str = ""
    shard: Shard = WHOLE_STUDY
    retry: tuple[str, ...] = ()
    control: str = ""
    skip_oom: bool = False
    command: str = ""
    tasks: WorkerTasks = WorkerTasks()


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Every job of a study, which of them are this shard's, and of those which are due. Estimates are in seconds."""

    runs: tuple[Job, ...]
    measures: tuple[Job, ...]
    own_runs: tuple[Job, ...]
    own_measures: tuple[Job, ...]
    due_runs: tuple[Job, ...]
    due_measures: tuple[Job, ...]
    again: tuple[Row, ...]  # rows that --retry sets aside
    problems: tuple[str, ...]  # a line for each damaged file


def plan_study(study: Study) -> StudyPlan:
    """What is to do, from the store alone; changes nothing."""
    store = Store(study.out)
    specs = [_spec(study, variant, "run", seed) for seed in range(study.seeds) for variant in study.variants]
    measured = [_spec(study, variant, "measure", 0) for variant in study.variants] if study.tasks.measure else []
    seconds = eta.estimate_durations(specs, store.read("run").rows, _guess(study.threads))
    runs = [_job(spec, estimate) for spec, estimate in zip(specs, seconds, strict=True)]
    measures = [_job(spec, None) for spec in measured]
    problems: list[str] = []
    again: list[Row] = []
    own_runs, own_measures = study.shard.of(runs), measures if study.shard.measures else []
    due = [job for job in (*own_runs, *own_measures) if _is_due(store, job, study.retry, again, problems)]
    return StudyPlan(
        runs=tuple(runs),
        measures=tuple(measures),
        own_runs=own_runs,
        own_measures=tuple(own_measures),
        due_runs=tuple(job for job in due if job.kind == "run"),
        due_measures=tuple(job for job in due if job.kind == "measure"),
        again=tuple(again),
        problems=tuple(problems),
    )


def run_study(study: Study, say: Callable[[str], None] = print) -> tuple[Row, ...]:
    """Do what is due of this shard's runs, then measure each variant once, alone; returns the rows of both.

    Raises ValueError for a folder of another study, OSError for one that cannot be written, Interrupted when told to
    stop. In each case what was done is in the store and the same call continues.
    """
    store = Store(study.out)
    with contextlib.ExitStack() as connection:
        if study.engine == "ray" and plan_study(study).due_runs:  # before anything is written
            connection.enter_context(ray_cluster.ray_connection(study.address, **_share(study)))
        for line in store.open(preset=study.preset, data=study.data):
            say(line)
        todo = _listed(store, study, say)
        done = len(todo.own_runs) - len(todo.due_runs)
        if done:
            say(f"{done} of {_count(len(todo.own_runs), 'run')}{_of(study.shard)} are there already")
        if todo.due_runs:
            say(_due(study, todo))
        advised = _advice(study, todo)
        for line in advised.warnings:
            say(line)
        skip = oom_policy.skip_rule(store, advised) if study.skip_oom else None
        try:
            _drain(study, todo.due_runs, study.jobs, done, say, skip)
            connection.close()
            if todo.due_measures:
                say(f"measuring {_count(len(todo.due_measures), 'variant')}, one at a time, alone")
            _drain(study, todo.due_measures, 1, len(todo.own_measures) - len(todo.due_measures), say, skip)
        finally:
            store.write_tables()
    own = {job.key for job in (*todo.own_runs, *todo.own_measures)}
    return tuple(row for row in study_rows(study) if row["key"] in own)


def study_rows(study: Study) -> tuple[Row, ...]:
    """The experiment's rows so far, of every shard: of runs, then of measures."""
    store = Store(study.out)
    return tuple(row for kind in KINDS for row in store.read(kind, study.name).rows)


def _listed(store: Store, study: Study, say: Callable[[str], None]) -> StudyPlan:
    """What is to do, after the folder has been made ready for it: damaged rows and those to do again set aside."""
    todo = plan_study(study)
    for job in (*todo.due_runs, *todo.due_measures):
        _set_damaged_aside(store, job, say)
    for row in todo.again:
        _retry(store, row)
    for line in _listed_otherwise(store, study, todo):
        say(line)
    store.register(study.name, _entry(study, todo), measures=study.shard.measures)
    return todo


def count_finished_runs(study: Study) -> tuple[int, int]:
    """How many of this shard's runs have a row, and how many they are."""
    store, runs = Store(study.out), plan_study(study).own_runs
    return sum(store.has("run", job.key) for job in runs), len(runs)


def is_complete(study: Study) -> bool:
    """Whether every run has a row, those of other shards too."""
    store = Store(study.out)
    return all(store.has("run", job.key) for job in plan_study(study).runs)


def remaining_work_line(study: Study) -> str:
    """A line on what the other shards have yet to do of the experiment; "" where every row is there."""
    store = Store(study.out)
    runs, measures = (store.missing(kind, study.name) for kind in KINDS)
    if not runs + measures:
        return ""
    return (
        f"{_count(runs, 'run')} and {_count(measures, 'measure')} of the experiment have no row yet; the shard that "
        f"ends last writes the report, and unept-bench report {study.out} writes it of what is there"
    )


def summary_lines(rows: Sequence[Row], wanted: int) -> list[str]:
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
    """What `run_study` would do, a line per variant, with times where they are known."""
    Store(study.out).check(preset=study.preset, data=study.data)
    todo = plan_study(study)
    lines = [*todo.problems]
    for variant in study.variants:
        own, jobs = (
            [job for job in some if job.spec["variant"] == variant.name] for some in (todo.own_runs, todo.due_runs)
        )
        if not own:
            continue
        known = [job.estimate for job in jobs if job.estimate is not None]
        each = f", about {eta.format_duration(known[0])} each" if known else ""
        seeds = f" (seeds {' '.join(str(job.spec['seed']) for job in jobs)})" if jobs else ""
        lines.append(f"{variant.name}: {len(jobs)} of {_count(len(own), 'run')} due{seeds}{each}")
    return [*lines, *_advice(study, todo).warnings, _due(study, todo)]


def count_due_runs(study: Study) -> dict[str, int]:
    """How many runs of each variant this shard has yet to do."""
    due = [job.spec["variant"] for job in plan_study(study).due_runs]
    return {variant.name: due.count(variant.name) for variant in study.variants}


def _advice(study: Study, todo: StudyPlan) -> oom_policy.MemoryAdvice:
    """What may not fit into this machine's memory; that of a cluster's nodes is not known here."""
    due = [] if study.engine == "ray" else [job.spec for job in (*todo.due_runs, *todo.due_measures)]
    at_once = max(1, min(study.jobs, len(todo.due_runs)))
    return oom_policy.advise_on_memory(due, study.backend, at_once=at_once, skip_oom=study.skip_oom)


def _due(study: Study, todo: StudyPlan) -> str:
    """How much is due, and how long it may take."""
    due = f"{_count(len(todo.due_runs), 'run')} and {_count(len(todo.due_measures), 'measure')}{_of(study.shard)} due"
    if not todo.due_runs:
        return due
    total = eta.remaining_seconds([job.estimate for job in todo.due_runs], [], study.jobs or 1)
    takes = "time not known yet" if total is None else f"about {eta.format_duration(total)}"
    if study.jobs:
        at_once, runs = f"{min(study.jobs, len(todo.due_runs))} at a time", "the runs"
    else:
        at_once, runs = "as many at a time as the cluster takes", "the runs one after another"
    return f"{due} in {study.out}, {at_once}, {_count(study.threads, 'thread')} each: {takes} for {runs}"


def _of(shard: Shard) -> str:
    return "" if shard.whole else f" of shard {shard}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _spec(study: Study, variant: Variant, kind: str, seed: int) -> dict[str, Any]:
    settings = settings_to_dict(variant.settings)
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
        spec["machine"] = environment.machine_key()
    key = row_key(kind, spec)
    return spec | {"key": key, "pictures": str(Store(study.out.resolve()).pictures(key))}


def _job(spec: dict[str, Any], estimate: float | None) -> Job:
    return Job(spec=spec, label=spec["label"], estimate=estimate)


def _guess(threads: int) -> eta.DurationEstimator:
    """The presets' own estimate."""

    def guess(settings: Mapping[str, Any]) -> float | None:
        try:
            return presets.estimate_training_seconds(settings_from_dict(dict(settings)), threads)
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
    except ClaimBusy:
        return
    if damage:
        say(damage)


def _retry(store: Store, row: Row) -> None:
    """Set the row aside, unless another process has begun the same retry."""
    try:
        with store.claim(row["kind"], row["key"]):
            if store.row(row["kind"], row["key"]) == row:
                store.supersede(row["kind"], row["key"])
    except ClaimBusy:
        return


def _entry(study: Study, todo: StudyPlan) -> dict[str, Any]:
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


def _listed_otherwise(store: Store, study: Study, todo: StudyPlan) -> list[str]:
    """A line where the shards of one command do not agree on what its runs are."""
    listed = {entry["key"] for entry in store.experiments().get(study.name, {}).get("runs", ())}
    if study.shard.whole or not listed or listed & {job.key for job in todo.runs}:
        return []
    return [
        f"{study.name} was listed with other runs, of another backend or other sources, and is now listed with those "
        "of this process; where machines differ, give each shard the same --backend"
    ]


def _drain(
    study: Study,
    jobs: Sequence[Job],
    parallel: int,
    already: int,
    say: Callable[[str], None],
    skip: SkipRule | None,
) -> None:
    if not jobs:
        return
    ordered = sorted(jobs, key=lambda job: (job.spec["seed"], -(job.estimate or 0.0)))
    if study.engine == "ray" and jobs[0].kind == "run":
        outcomes = _on_cluster(study, ordered, already)
    else:
        with progress_display(JobClock(ordered, parallel, already=already)) as watching:
            outcomes = run_local_jobs(
                Store(study.out), ordered, parallel=parallel, progress=watching, gpus=study.gpus, skip=skip
            )
    stopped = [outcome for outcome in outcomes if outcome.status == "stopped"]
    if stopped:
        say(f"{_count(len(stopped), 'run')} stopped from outside ({stopped[0].message}); the same command continues")


def _on_cluster(study: Study, jobs: Sequence[Job], already: int) -> list[Outcome]:
    """The runs as tasks of a Ray cluster. Measures never are: they are taken alone, on the machine of the command."""
    found = ray_cluster.count_cluster_slots(**_share(study))
    parallel = max(1, min(found, study.jobs or found))
    with progress_display(JobClock(jobs, parallel, already=already)) as watching:
        return ray_cluster.run_ray_jobs(Store(study.out), jobs, most=study.jobs, progress=watching, **_share(study))


def _share(study: Study) -> dict[str, Any]:
    """What a run takes of a node: as here, where there is a GPU it takes one."""
    return {"threads": study.threads, "gpu": bool(study.gpus)}
