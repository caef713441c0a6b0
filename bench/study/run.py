"""Execution of a study: run what is due, measure each variant, write the tables.

    rows = run_study(study)

The same call resumes: runs are found by key, so what is in the store is not done again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from bench.config.settings import settings_to_dict
from bench.launchers import ray_cluster
from bench.launchers.local import run_local_jobs
from bench.launchers.progress import JobClock, progress_display
from bench.launchers.queue import Job, Outcome, SkipRule
from bench.results import legacy_keys
from bench.results.data_digest import DataDigest, digest_of_settings
from bench.results.row_files import ClaimBusy
from bench.results.rows import KINDS, Row
from bench.results.store import Store
from bench.study import module_copies, oom_policy
from bench.study.attention_trials import try_attentions
from bench.study.changed_data import changed_data_lines
from bench.study.changed_roles import changed_lines
from bench.study.plan import StudyPlan, due_line, job_spec, memory_advice, plan_study, shard_suffix, split_digests
from bench.study.study import Study
from bench.units import count_of


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
    splits = split_digests(study, again=True)
    with contextlib.ExitStack() as connection:
        if study.engine == "ray" and plan_study(study).due_runs:  # before anything is written
            connection.enter_context(ray_cluster.ray_connection(study.address, **_share(study)))
        opened = store.open(preset=study.preset, data=study.data, splits=splits)
        for line in [*study.notes, *opened, *legacy_keys.adopt_rows(store)]:
            say(line)
        todo = _listed(store, study, say)
        done = len(todo.own_runs) - len(todo.due_runs)
        if done:
            say(f"{done} of {count_of(len(todo.own_runs), 'run')}{shard_suffix(study.shard)} are there already")
        if todo.due_runs:
            say(due_line(study, todo))
        endless: Mapping[str, str] = {}
        if study.tasks.tries_attentions:
            endless = try_attentions(study.out, [job.spec for job in todo.due_runs], say)
        advised = memory_advice(study, todo)
        for line in advised.warnings:
            say(line)
        skip = _skip_rule(endless, oom_policy.skip_rule(store, advised) if study.skip_oom else None)
        try:
            _drain(study, todo.due_runs, study.jobs, done, say, skip)
            connection.close()
            if todo.due_measures:
                say(f"measuring {count_of(len(todo.due_measures), 'variant')}, one at a time, alone")
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
    left = (
        [] if study.variant_seeds else [run for run in before if run.get("seed", 0) >= study.seeds and not keeps(run)]
    )
    if left:
        lines.append(
            f"{count_of(len(left), 'run')} of further seeds, listed before, are of other sources or data and not in "
            f"this report; --seeds {max(run['seed'] for run in left) + 1} makes them again"
        )
    return lines


def _other_seeds(study: Study) -> Callable[[Mapping[str, Any]], bool]:
    """Return a test of a listed run: True for one that this command would make with more seeds."""
    variants = {} if study.variant_seeds else {variant.name: variant for variant in study.variants}

    def keeps(run: Mapping[str, Any]) -> bool:
        variant, seed = variants.get(run.get("variant", "")), run.get("seed", 0)
        return (
            variant is not None and seed >= study.seeds and job_spec(study, variant, "run", seed)["key"] == run["key"]
        )

    return keeps


def _data_digests(study: Study) -> list[DataDigest]:
    """Return the digest of the data of each variant; they differ where variants are scored on different splits."""
    return [digest_of_settings(settings_to_dict(variant.settings)) for variant in study.variants]


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
        "margin": study.margin,
        **({"rate_split": study.rate_split} if study.rate_split else {}),
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
        say(f"{count_of(len(stopped), 'run')} stopped from outside ({stopped[0].message}); the same command continues")


def _on_cluster(study: Study, jobs: Sequence[Job], already: int) -> list[Outcome]:
    """Do the runs as tasks of a Ray cluster. Measures are not distributed: they run alone, on the command's machine."""
    slots = ray_cluster.count_cluster_slots(**_share(study))
    parallel = max(1, min(slots, study.jobs or slots))
    with progress_display(JobClock(jobs, parallel, already=already)) as watching:
        return ray_cluster.run_ray_jobs(Store(study.out), jobs, most=study.jobs, progress=watching, **_share(study))


def _share(study: Study) -> dict[str, Any]:
    """Return what a run takes of a node: as here, it takes a GPU where there is one."""
    return {"threads": study.threads, "gpu": bool(study.gpus)}
