"""Plan of a study: the runs and measures that are due, as jobs, from the store alone; nothing is changed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bench import environment
from bench.config import presets
from bench.config.grid import Variant
from bench.config.settings import settings_from_dict, settings_to_dict
from bench.launchers import eta
from bench.launchers.queue import Job
from bench.results import legacy_keys
from bench.results.data_digest import data_digest, digest_of_settings, has_files
from bench.results.rows import Row, row_key
from bench.results.source_hash import combined, slots_of, source_roles
from bench.results.store import Store
from bench.study import module_copies, oom_policy
from bench.study.changed_data import changed_data_lines
from bench.study.shard import Shard
from bench.study.study import Study
from bench.units import count_of
from unept.utils.paths import quoted_path


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
    specs = [job_spec(study, variant, "run", seed) for variant, seed in study.planned_runs()]
    measured = [job_spec(study, variant, "measure", 0) for variant in study.variants] if study.tasks.measure else []
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


def job_spec(study: Study, variant: Variant, kind: str, seed: int) -> dict[str, Any]:
    """Return what a worker is told of one run or measure, with its key."""
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
        spec |= {"machine": environment.machine_key(), "target": study.target}
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


def count_finished_runs(study: Study) -> tuple[int, int]:
    """Return how many of this shard's runs have a row, and how many runs it has."""
    store, runs = Store(study.out), plan_study(study).own_runs
    return sum(store.has("run", job.key) for job in runs), len(runs)


def finished_runs(study: Study) -> tuple[Row, ...]:
    """Return the rows that the study's runs have so far, of every shard, with the study's names, listed or not."""
    store, rows = Store(study.out), []
    for job in plan_study(study).runs:
        with contextlib.suppress(ValueError):  # a damaged row is due again
            row = store.row("run", job.key)
            if row is not None:
                rows.append(row | {name: job.spec[name] for name in ("variant", "axes", "seed")})
    return tuple(rows)


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
        filter(None, (count_of(runs, "run") * bool(runs), count_of(measures, "measure") * bool(measures)))
    )
    return f"{missing} ended from outside, without a row: the same command continues"


def remaining_work_line(study: Study) -> str:
    """Return a line on what other shards have yet to do of the experiment; "" where every row is there."""
    runs, measures = _count_missing_runs(study), Store(study.out).missing("measure", study.name)
    if not runs + measures:
        return ""
    return (
        f"{count_of(runs, 'run')} and {count_of(measures, 'measure')} of the experiment have no row yet; the shard "
        f"that ends last writes the report, and unept-bench report {quoted_path(study.out)} writes it of what is there"
    )


def count_due_runs(study: Study) -> dict[str, int]:
    """Return the number of runs this shard has yet to do, by variant."""
    due = [job.spec["variant"] for job in plan_study(study).due_runs]
    return {variant.name: due.count(variant.name) for variant in study.variants}


def dry_run_lines(study: Study) -> list[str]:
    """Return what `run_study` would do, a line a variant, with durations where they are known."""
    store = Store(study.out)
    store.check(preset=study.preset, data=study.data, splits=split_digests(study, again=True))
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
        lines.append(f"{variant.name}: {len(jobs)} of {count_of(len(own), 'run')} due{seeds}{duration}")
    return [*lines, *memory_advice(study, todo).warnings, due_line(study, todo)]


def due_line(study: Study, todo: StudyPlan) -> str:
    """Return a line on how much is due, and how long it may take."""
    runs, measures = count_of(len(todo.due_runs), "run"), count_of(len(todo.due_measures), "measure")
    due = f"{runs} and {measures}{shard_suffix(study.shard)} due"
    if not todo.due_runs:
        return due
    total = eta.remaining_seconds([job.estimate for job in todo.due_runs], [], study.jobs or 1)
    takes = "time not known yet" if total is None else f"about {eta.format_duration(total)}"
    if study.jobs:
        at_once, work = f"{min(study.jobs, len(todo.due_runs))} at a time", "the runs"
    else:
        at_once, work = "as many at a time as the cluster takes", "the runs one after another"
    return f"{due} in {study.out}, {at_once}, {count_of(study.threads, 'thread')} each: {takes} for {work}"


def shard_suffix(shard: Shard) -> str:
    """Return ` of shard i/n`; "" for the whole study."""
    return "" if shard.whole else f" of shard {shard}"


def memory_advice(study: Study, todo: StudyPlan) -> oom_policy.MemoryAdvice:
    """Return what may not fit into this machine's memory; that of a cluster's nodes is not known here."""
    due = [] if study.engine == "ray" else [job.spec for job in (*todo.due_runs, *todo.due_measures)]
    at_once = max(1, min(study.jobs, len(todo.due_runs)))
    return oom_policy.advise_on_memory(due, study.backend, at_once=at_once, skip_oom=study.skip_oom)


def split_digests(study: Study, *, again: bool = False) -> dict[str, str]:
    """Return the digest of each split that the study reads; `again` looks at the files anew."""
    splits = dict.fromkeys(("train", *(variant.settings.evaluation.split for variant in study.variants)))
    return dict(data_digest(study.data, splits, again=again).splits) if has_files(study.data) else {}
