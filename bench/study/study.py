"""Execution of an experiment: find what is due, run it, measure each variant, write the tables.

    rows = run_study(study)

The same call resumes: runs are found by key, so what is in the store is not done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
from bench.results import legacy_keys
from bench.results.data_digest import DataDigest, data_digest, digest_of_settings, has_files
from bench.results.rows import KINDS, Row, row_key
from bench.results.source_hash import combined, slots_of, source_roles
from bench.results.store import ClaimBusy, Store
from bench.study import module_copies, oom_policy
from bench.study.attention_trials import try_attentions
from bench.study.changed_data import changed_data_lines
from bench.study.changed_roles import changed_lines
from bench.study.shard import WHOLE_STUDY, Shard
from bench.study.summary import counted
from unept.utils.paths import quoted_path


@dataclass(frozen=True, kw_only=True)
class WorkerTasks:
    """Functions that a worker calls, as `module:callable`.

    Args:
        run: Trains and evaluates one run.
        measure: Measures one variant; "" for no measures.
        tries_attentions: Users' attentions are tried first.
    """

    run: str = "bench.training.loop:train_and_evaluate"
    measure: str = "bench.profiling.variant:measure_variant"
    tries_attentions: bool = True


@dataclass(frozen=True, kw_only=True)
class Study:
    """One experiment and how to execute it.

    Args:
        name: Identifies the experiment in its folder, so that the same command resumes it.
        kind: The command, such as `ablate` or `table 5`.
        variants: What is compared.
        seeds: Runs a variant, with seeds from 0.
        preset: Name of the preset.
        data: The data set.
        out: The study's folder.
        threads: Threads of a run.
        jobs: Runs at once; with `engine` "ray", 0 means as many as the cluster can take.
        backend: Attention backend.
        gpus: GPUs as CUDA_VISIBLE_DEVICES names them, one for each run; () for none.
        engine: "local", or "ray" for the cluster at `address`.
        address: HOST:PORT, `auto` or `local`.
        shard: The part of the runs to do.
        retry: Statuses whose rows are set aside and done again.
        control: The variant that the report compares the others with; "" leaves the choice to the report.
        skip_oom: Gives a row `skipped` to what is predicted not to fit into memory, and to what needs no less than a
            run that did not fit.
        command: The command line, for the rows.
        notes: Lines for the user, before anything else is said.
        tasks: What a worker calls.
    """

    name: str
    kind: str
    variants: tuple[Variant, ...]
    seeds: int
    preset: str
    data: str
    out: Path
    threads: int = 1
    jobs: int = 1
    backend: str = "reference"
    gpus: tuple[str, ...] = ()
    engine: str = "local"
    address: str = ""
    shard: Shard = WHOLE_STUDY
    retry: tuple[str, ...] = ()
    control: str = ""
    skip_oom: bool = False
    command: str = ""
    notes: tuple[str, ...] = ()
    tasks: WorkerTasks = WorkerTasks()


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """Jobs of a study: all, this shard's, and of those the ones due. Estimates are in seconds.

    Args:
        runs: Every run of the experiment.
        measures: Every measure.
        own_runs: This shard's runs.
        own_measures: This shard's measures.
        due_runs: Those of its runs that have no row.
        due_measures: Those of its measures that have no row.
        again: Rows that `retry` sets aside.
        problems: One line for each damaged file.
    """

    runs: tuple[Job, ...]
    measures: tuple[Job, ...]
    own_runs: tuple[Job, ...]
    own_measures: tuple[Job, ...]
    due_runs: tuple[Job, ...]
    due_measures: tuple[Job, ...]
    again: tuple[Row, ...]
    problems: tuple[str, ...]


def plan_study(study: Study) -> StudyPlan:
    """Return what is to do, from the store alone; nothing is changed."""
    store = Store(study.out)
    specs = [_spec(study, variant, "run", seed) for seed in range(study.seeds) for variant in study.variants]
    measured = [_spec(study, variant, "measure", 0) for variant in study.variants] if study.tasks.measure else []
    seconds = eta.estimate_durations(specs, store.read("run").rows, _guess(study.threads))
    runs = [_job(spec, estimate) for spec, estimate in zip(specs, seconds, strict=True)]
    measures = [_job(spec, None) for spec in measured]
    problems: list[str] = []
    again: list[Row] = []
    own_runs, own_measures = study.shard.of(runs), measures if study.shard.measures else []
    moving = {(move.kind, str(move.new["key"])): move.new for move in legacy_keys.pending(store)}
    due = [job for job in (*own_runs, *own_measures) if _is_due(store, job, moving, study.retry, again, problems)]
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
    """Do this shard's due runs, then measure each variant once, alone.

    In case of an error, what was done is in the store and the same call continues.

    Args:
        study: The experiment.
        say: Takes lines for the user.

    Returns:
        The rows of this shard's runs, then of its measures.

    Raises:
        ValueError: For a folder of another study.
        OSError: For a folder that cannot be written.
        Interrupted: When told to stop.
    """
    store = Store(study.out)
    splits = _split_digests(study, again=True)
    with contextlib.ExitStack() as connection:
        if study.engine == "ray" and plan_study(study).due_runs:  # before anything is written
            connection.enter_context(ray_cluster.ray_connection(study.address, **_share(study)))
        opened = store.open(preset=study.preset, data=study.data, splits=splits)
        for line in [*study.notes, *opened, *legacy_keys.adopt_rows(store)]:
            say(line)
        todo = _listed(store, study, say)
        done = len(todo.own_runs) - len(todo.due_runs)
        if done:
            say(f"{done} of {counted(len(todo.own_runs), 'run')}{_of(study.shard)} are there already")
        if todo.due_runs:
            say(_due(study, todo))
        endless = {}
        if study.tasks.tries_attentions:
            endless = try_attentions(study.out, [job.spec for job in todo.due_runs], say)
        advised = _advice(study, todo)
        for line in advised.warnings:
            say(line)
        skip = _skip_rule(endless, oom_policy.skip_rule(store, advised) if study.skip_oom else None)
        try:
            _drain(study, todo.due_runs, study.jobs, done, say, skip)
            connection.close()
            if todo.due_measures:
                say(f"measuring {counted(len(todo.due_measures), 'variant')}, one at a time, alone")
            _drain(study, todo.due_measures, 1, len(todo.own_measures) - len(todo.due_measures), say, skip)
        finally:
            store.write_tables()
    own = {job.key for job in (*todo.own_runs, *todo.own_measures)}
    return tuple(row for row in study_rows(study) if row["key"] in own)


def _skip_rule(endless: Mapping[str, str], other: SkipRule | None) -> SkipRule:
    """Return the rule that skips a variant whose attention came to no end when it was tried, and what another skips."""

    def reason(job: Job, outcomes: Sequence[Outcome]) -> str:
        return endless.get(job.spec["variant"], "") or (other(job, outcomes) if other else "")

    return reason


def study_rows(study: Study) -> tuple[Row, ...]:
    """Return the experiment's rows so far, of every shard: of runs, then of measures."""
    store = Store(study.out)
    return tuple(row for kind in KINDS for row in store.read(kind, study.name).rows)


def _listed(store: Store, study: Study, say: Callable[[str], None]) -> StudyPlan:
    """Prepare the folder, and return the plan: set aside damaged rows and those to do again, write study.json."""
    todo = plan_study(study)
    for line in module_copies.copy_modules(store, [job.spec for job in (*todo.due_runs, *todo.due_measures)]):
        say(line)
    for job in (*todo.due_runs, *todo.due_measures):
        _set_damaged_aside(store, job, say)
    for row in todo.again:
        _retry(store, row)
    due = [job.spec for job in todo.due_runs]
    legacy_keys.adopt_checkpoints(store, due)
    for data in _data_digests(study):
        store.write_data_files(data)
    for line in _changes(store, study, todo):
        say(line)
    store.register(study.name, _entry(study, todo), measures=study.shard.measures, keeps=_other_seeds(study))
    return todo


def _changes(store: Store, study: Study, todo: StudyPlan) -> list[str]:
    """Return lines on what is otherwise than when the study's rows were made."""
    due, rows = [job.spec for job in todo.due_runs], store.read("run").rows
    lines = [*changed_data_lines(store, due, rows), *changed_lines(due, rows), *_listed_otherwise(store, study, todo)]
    keeps = _other_seeds(study)
    before = store.experiments().get(study.name, {}).get("runs", ())
    left = [run for run in before if run.get("seed", 0) >= study.seeds and not keeps(run)]
    if left:
        lines.append(
            f"{counted(len(left), 'run')} of further seeds, listed before, are of other sources or data and not in "
            f"this report; --seeds {max(run['seed'] for run in left) + 1} makes them again"
        )
    return lines


def _other_seeds(study: Study) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test of a listed run: True for one that this command would make with more seeds."""
    variants = {variant.name: variant for variant in study.variants}

    def keeps(run: Mapping[str, Any]) -> bool:
        variant, seed = variants.get(run.get("variant", "")), run.get("seed", 0)
        return variant is not None and seed >= study.seeds and _spec(study, variant, "run", seed)["key"] == run["key"]

    return keeps


def _data_digests(study: Study) -> list[DataDigest]:
    """Return the digest of the data of each variant; they differ where variants are scored on different splits."""
    return [digest_of_settings(settings_to_dict(variant.settings)) for variant in study.variants]


def _split_digests(study: Study, *, again: bool = False) -> dict[str, str]:
    """Return the digest of each split that the study reads; `again` looks at the files anew."""
    splits = dict.fromkeys(("train", *(variant.settings.evaluation.split for variant in study.variants)))
    return dict(data_digest(study.data, splits, again=again).splits) if has_files(study.data) else {}


def count_finished_runs(study: Study) -> tuple[int, int]:
    """Return how many of this shard's runs have a row, and how many runs it has."""
    store, runs = Store(study.out), plan_study(study).own_runs
    return sum(store.has("run", job.key) for job in runs), len(runs)


def is_complete(study: Study) -> bool:
    """Return True if every run of every shard has a row."""
    return not _count_missing_runs(study)


def _count_missing_runs(study: Study) -> int:
    store = Store(study.out)
    return sum(not store.has("run", job.key) for job in plan_study(study).runs)


def unfinished_line(study: Study) -> str:
    """Return a line on what this shard should have done and has no row; "" where every row is there."""
    plan = plan_study(replace(study, retry=()))
    runs, measures = len(plan.due_runs), len(plan.due_measures)
    if not runs + measures:
        return ""
    missing = " and ".join(
        filter(None, (counted(runs, "run") * bool(runs), counted(measures, "measure") * bool(measures)))
    )
    return f"{missing} ended from outside, without a row: the same command continues"


def remaining_work_line(study: Study) -> str:
    """Return a line on what other shards have yet to do of the experiment; "" where every row is there."""
    runs, measures = _count_missing_runs(study), Store(study.out).missing("measure", study.name)
    if not runs + measures:
        return ""
    return (
        f"{counted(runs, 'run')} and {counted(measures, 'measure')} of the experiment have no row yet; the shard that "
        f"ends last writes the report, and unept-bench report {quoted_path(study.out)} writes it of what is there"
    )


def dry_run_lines(study: Study) -> list[str]:
    """Return what `run_study` would do, a line a variant, with durations where they are known."""
    store = Store(study.out)
    store.check(preset=study.preset, data=study.data, splits=_split_digests(study, again=True))
    todo = plan_study(study)
    lines = [
        *study.notes,
        *todo.problems,
        *changed_data_lines(store, [job.spec for job in todo.due_runs], store.read("run").rows),
    ]
    for variant in study.variants:
        own, jobs = (
            [job for job in some if job.spec["variant"] == variant.name] for some in (todo.own_runs, todo.due_runs)
        )
        if not own:
            continue
        known = [job.estimate for job in jobs if job.estimate is not None]
        duration = f", about {eta.format_duration(known[0])} each" if known else ""
        seeds = f" (seeds {' '.join(str(job.spec['seed']) for job in jobs)})" if jobs else ""
        lines.append(f"{variant.name}: {len(jobs)} of {counted(len(own), 'run')} due{seeds}{duration}")
    return [*lines, *_advice(study, todo).warnings, _due(study, todo)]


def count_due_runs(study: Study) -> dict[str, int]:
    """Return the number of runs this shard has yet to do, by variant."""
    due = [job.spec["variant"] for job in plan_study(study).due_runs]
    return {variant.name: due.count(variant.name) for variant in study.variants}


def _advice(study: Study, todo: StudyPlan) -> oom_policy.MemoryAdvice:
    """Return what may not fit into this machine's memory; that of a cluster's nodes is not known here."""
    due = [] if study.engine == "ray" else [job.spec for job in (*todo.due_runs, *todo.due_measures)]
    at_once = max(1, min(study.jobs, len(todo.due_runs)))
    return oom_policy.advise_on_memory(due, study.backend, at_once=at_once, skip_oom=study.skip_oom)


def _due(study: Study, todo: StudyPlan) -> str:
    """Return a line on how much is due, and how long it may take."""
    due = f"{counted(len(todo.due_runs), 'run')} and {counted(len(todo.due_measures), 'measure')}{_of(study.shard)} due"
    if not todo.due_runs:
        return due
    total = eta.remaining_seconds([job.estimate for job in todo.due_runs], [], study.jobs or 1)
    takes = "time not known yet" if total is None else f"about {eta.format_duration(total)}"
    if study.jobs:
        at_once, runs = f"{min(study.jobs, len(todo.due_runs))} at a time", "the runs"
    else:
        at_once, runs = "as many at a time as the cluster takes", "the runs one after another"
    return f"{due} in {study.out}, {at_once}, {counted(study.threads, 'thread')} each: {takes} for {runs}"


def _of(shard: Shard) -> str:
    return "" if shard.whole else f" of shard {shard}"


def _spec(study: Study, variant: Variant, kind: str, seed: int) -> dict[str, Any]:
    settings = settings_to_dict(variant.settings)
    roles = source_roles(kind, slots_of(settings))
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
        "sources": combined(roles),
        "roles": roles,
        "modules": module_copies.copied_modules(slots_of(settings)),
        "data": digest_of_settings(settings).record,
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
    """Return the presets' own estimate of a training's duration."""

    def guess(settings: Mapping[str, Any]) -> float | None:
        try:
            return presets.estimate_training_seconds(settings_from_dict(dict(settings)), threads)
        except ValueError:  # a row of an older version, whose fields are not today's
            return None

    return guess


def _is_due(
    store: Store,
    job: Job,
    moving: Mapping[tuple[str, str], Row],
    retry: Iterable[str],
    again: list[Row],
    problems: list[str],
) -> bool:
    try:
        row = store.row(job.kind, job.key) or moving.get((job.kind, job.key))
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
    """Return the experiment's entry in study.json."""
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
    """Return a line where the shards of one command do not agree on what its runs are."""
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
        say(f"{counted(len(stopped), 'run')} stopped from outside ({stopped[0].message}); the same command continues")


def _on_cluster(study: Study, jobs: Sequence[Job], already: int) -> list[Outcome]:
    """Do the runs as tasks of a Ray cluster. Measures are not distributed: they run alone, on the command's machine."""
    slots = ray_cluster.count_cluster_slots(**_share(study))
    parallel = max(1, min(slots, study.jobs or slots))
    with progress_display(JobClock(jobs, parallel, already=already)) as watching:
        return ray_cluster.run_ray_jobs(Store(study.out), jobs, most=study.jobs, progress=watching, **_share(study))


def _share(study: Study) -> dict[str, Any]:
    """Return what a run takes of a node: as here, it takes a GPU where there is one."""
    return {"threads": study.threads, "gpu": bool(study.gpus)}
