"""Policy for runs that may not fit into memory: warnings before a study, and which runs `--skip-oom` leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import environment
from bench.launchers.queue import Job, Outcome, SkipRule
from bench.profiling.memory import upper_bound
from bench.results.rows import content_key
from bench.results.store import Store
from bench.units import GIB

OPTION = "--skip-oom"
SAME_MACHINE = ("memory_gib", "accelerators")  # of two environments: what fails to fit into one fails in the other


@dataclass(frozen=True, kw_only=True)
class MemoryAdvice:
    """Runs that are predicted not to fit into memory.

    Args:
        misfits: The reason, by `content_key` of the run's settings.
        warnings: One line for each variant.
    """

    misfits: Mapping[str, str]
    warnings: tuple[str, ...]


def advise_on_memory(specs: Sequence[Mapping[str, Any]], backend: str, *, at_once: int, skip_oom: bool) -> MemoryAdvice:
    """Predict which runs and measures fit into the memory of this machine.

    It takes no time where a bound shows that all fit; else a training step of each doubtful setting is traced.

    Args:
        specs: The jobs due.
        backend: Attention backend.
        at_once: Number of runs side by side.
        skip_oom: True if what does not fit will be skipped, which the warnings say.
    """
    if not specs:
        return MemoryAdvice(misfits={}, warnings=())
    there = upper_bound.available_memory()
    needs = upper_bound.predict_needs([spec["settings"] for spec in specs], backend, there, at_once=at_once)
    reasons = {key: f"a training step needs {number / GIB:.1f} GiB, predicted" for key, number in needs.items()}
    misfits = {key: f"{reasons[key]}; there are {there}" for key, number in needs.items() if number > there.bytes}
    then = "it is skipped" if skip_oom else f"it runs all the same; {OPTION} would leave it out"
    warnings = []
    for variant, settings in {spec["variant"]: spec["settings"] for spec in specs}.items():
        key = content_key(settings)
        if key in misfits:
            warnings.append(f"warning: {variant}: {misfits[key]}; {then}")
        elif at_once * needs.get(key, 0) > there.bytes:
            side_by_side = f"{at_once} run side by side; there are {there}: --jobs 1 takes them one by one"
            warnings.append(f"warning: {variant}: {reasons[key]}, and {side_by_side}")
    return MemoryAdvice(misfits=misfits, warnings=tuple(warnings))


def skip_rule(store: Store, advised: MemoryAdvice) -> SkipRule:
    """Return the rule that skips a job predicted not to fit, or needing no less than a run that ran out of memory here.

    Args:
        store: Its rows of status `oom`, made on a machine with this one's memory and accelerators, are counted.
        advised: What `advise_on_memory` returned.
    """
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
        ended = [(outcome.job.label, outcome.job.spec["settings"]) for outcome in outcomes if outcome.status == "oom"]
        for label, other in (*before, *ended):
            more = upper_bound.extra_demand(settings, other)
            if more is not None:
                return f"{OPTION}: {label} ran out of memory, and this {f'takes {more}' if more else 'is the same'}"
        return ""

    return reason
