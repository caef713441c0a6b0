"""What a study says of runs that may not fit into memory, and which of them it leaves out if it is told to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment
from bench.launchers.queue import Job, Outcome, SkipRule
from bench.profiling.memory import upper_bound
from bench.results.rows import content_key
from bench.results.store import Store

OPTION = "--skip-oom"
SAME_MACHINE = ("memory_gib", "accelerators")  # of two environments: what fails to fit into one fails in the other


@dataclass(frozen=True, kw_only=True)
class MemoryAdvice:
    """What is predicted not to fit: why, by the `content_key` of its settings, and a line for each variant."""

    misfits: Mapping[str, str]
    warnings: tuple[str, ...]


def advise_on_memory(specs: Sequence[Mapping[str, Any]], backend: str, *, at_once: int, skip_oom: bool) -> MemoryAdvice:
    """Of the runs and measures that `specs` describe, so many side by side. At once, unless some may not fit."""
    if not specs:
        return MemoryAdvice(misfits={}, warnings=())
    there = upper_bound.room()
    needs = upper_bound.needs([spec["settings"] for spec in specs], backend, there, at_once=at_once)
    told = {
        key: f"a training step needs {number / upper_bound.GIB:.1f} GiB, predicted" for key, number in needs.items()
    }
    misfits = {key: f"{told[key]}; there are {there}" for key, number in needs.items() if number > there.bytes}
    then = "it is skipped" if skip_oom else f"it runs all the same; {OPTION} would leave it out"
    warnings = []
    for variant, settings in {spec["variant"]: spec["settings"] for spec in specs}.items():
        key = content_key(settings)
        if key in misfits:
            warnings.append(f"warning: {variant}: {misfits[key]}; {then}")
        elif at_once * needs.get(key, 0) > there.bytes:
            side_by_side = f"{at_once} run side by side; there are {there}: --jobs 1 takes them one by one"
            warnings.append(f"warning: {variant}: {told[key]}, and {side_by_side}")
    return MemoryAdvice(misfits=misfits, warnings=tuple(warnings))


def skip_rule(store: Store, advised: MemoryAdvice) -> SkipRule:
    """Why a job is left out: it is predicted not to fit, or asks for no less than a run that ran out of memory here."""
    here = environment.collect_environment(threads=0)
    before = [
        (f"{row['variant']} seed {row['seed']}", row["settings"])
        for row in store.read("run").rows
        if row["status"] == "oom" and all(row["environment"].get(name) == here[name] for name in SAME_MACHINE)
    ]

    def reason(job: Job, outcomes: Sequence[Outcome]) -> str:
        settings = job.spec["settings"]
        misfit = advised.misfits.get(content_key(settings))
        if misfit:
            return f"{OPTION}: {misfit}"
        ended = [(each.job.label, each.job.spec["settings"]) for each in outcomes if each.status == "oom"]
        for label, other in (*before, *ended):
            more = upper_bound.beyond(settings, other)
            if more is not None:
                return f"{OPTION}: {label} ran out of memory, and this {f'takes {more}' if more else 'is the same'}"
        return ""

    return reason
