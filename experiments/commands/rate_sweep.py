"""A study whose rows have each a learning rate of their own, chosen first: `ablate --rates` and `table --rates`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.config.presets import preset
from bench.study.options import StudyRequest, study_settings
from experiments.commands.console import DONE, FAILED, INTERRUPTED, NAME, Invocation, print_lines, print_progress
from experiments.commands.study import (
    RunsMissing,
    StudyStopped,
    run_and_report,
    run_part,
    with_tasks,
    write_study_report,
)

if TYPE_CHECKING:
    from bench.config.grid import Variant
    from bench.results.rows import Row
    from bench.study.request import VariantFactory
    from bench.study.study import Study
    from experiments.tables.lr_sweep import SeedPlans

NOTE = "the runs at the chosen rates follow once the other shards have tried theirs: by the same command again"


@dataclass(frozen=True, kw_only=True)
class RateSweep:
    """The runs that choose the rates, as far as they are decided.

    Args:
        study: Every candidate with its seeds.
        plans: The seeds of each row at each rate.
        runs: The rows of the runs that are there.
        is_complete: True if every run has a row, so that the rates are chosen.
    """

    study: Study
    plans: SeedPlans
    runs: Sequence[Row]
    is_complete: bool


def run_at_own_rates(
    kind: str,
    grid: str,
    make: VariantFactory,
    request: StudyRequest,
    call: Invocation,
    rates: Sequence[float],
    *,
    dry_run: bool,
    after: Callable[[Study], None] | None = None,
) -> int:
    """Choose each row's learning rate, then run the study and report it; as `run_and_report` where `rates` is ().

    What only the study needs is checked before the first run that chooses rates: its split, rows and folders.
    """
    if not rates:
        return run_and_report(kind, grid, make, request, call, dry_run=dry_run, after=after)
    from bench.config.output_path import check_output
    from bench.study.request import build_study
    from experiments.tables import lr_sweep
    from reports import report_folder

    lr_sweep.check_score_split(study_settings(request))
    grid = " ".join(filter(None, [grid, f"rates={lr_sweep.rates_text(rates)}"]))
    request = replace(request, rate_split=lr_sweep.CHOICE_SPLIT)
    last = build_study(kind, grid, lr_sweep.at_chosen_rates(make, {}), request, dry_run=dry_run)
    check_output(report_folder(last.out, last.name), "--out")
    try:
        sweep = _sweep(f"{kind} {grid}", make, request, call, rates, dry_run=dry_run)
    except StudyStopped:
        return INTERRUPTED
    except RunsMissing:
        return FAILED
    if not sweep.is_complete:
        print_lines(_dry_run_lines(sweep, last, rates) if dry_run else [NOTE])
        return DONE
    best = lr_sweep.at_chosen_rates(make, lr_sweep.chosen_rates(sweep.plans, sweep.runs))
    return run_and_report(kind, grid, best, request, call, dry_run=dry_run, after=after)


def _sweep(
    name: str, make: VariantFactory, request: StudyRequest, call: Invocation, rates: Sequence[float], *, dry_run: bool
) -> RateSweep:
    """Return the runs that choose the rates, all of them unless `dry_run`, or unless other shards have some to do.

    They have the preset's steps even where the study has more, so that studies of several lengths share them.
    """
    from bench.config.grid import merge_equal
    from bench.config.output_path import check_output
    from bench.results.store import Store
    from bench.study.plan import unfinished_line
    from bench.study.request import build_study
    from bench.units import count_of
    from experiments.tables import lr_sweep
    from reports import report_folder
    from reports.analysis.rate_choice import FIRST_SEEDS, FURTHER_SEEDS, LR_SWEEP_KIND

    seeds = len(FIRST_SEEDS) + len(FURTHER_SEEDS)
    longer = request.steps >= preset(request.preset).train.steps
    request = replace(request, seeds=seeds, steps=0 if longer else request.steps, split="", control="", rate_split="")
    rows, _ = merge_equal(make(study_settings(request)))
    plans = lr_sweep.first_plans(rows, rates)
    name = f"{name} seeds={FIRST_SEEDS[0]}-{FURTHER_SEEDS[-1]}"
    study = build_study(
        LR_SWEEP_KIND, name, lambda _: lr_sweep.candidate_variants(rows, plans), request, dry_run=dry_run
    )
    study = with_tasks(study, call)
    study = replace(study, tasks=replace(study.tasks, measure=""), margin=None)
    sweep = _decided(study, rows, rates)
    if dry_run:
        return sweep
    check_output(report_folder(study.out, study.name), "--out")
    while True:
        run_part(sweep.study)
        if unfinished := unfinished_line(sweep.study):
            print_progress(f"{NAME}: {unfinished}")
            raise RunsMissing
        before, sweep = sweep, _decided(replace(study, retry=()), rows, rates)
        if sweep.plans == before.plans:
            break
        more = sum(1 for _ in sweep.study.planned_runs()) - sum(1 for _ in before.study.planned_runs())
        print_progress(f"choosing learning rates: {count_of(more, 'run')} more after those so far")
    if sweep.is_complete:
        write_study_report([Store(study.out, keep=True)], study.name)
    return sweep


def _decided(study: Study, rows: Sequence[Variant], rates: Sequence[float]) -> RateSweep:
    """Return the sweep as far as the runs that are there decide it."""
    from bench.study.plan import finished_runs
    from experiments.tables import lr_sweep

    plans = lr_sweep.first_plans(rows, rates)
    while True:
        seeds = lr_sweep.candidate_seeds(plans)
        study = replace(study, variants=lr_sweep.candidate_variants(rows, plans), variant_seeds=seeds)
        runs = finished_runs(study)
        further = lr_sweep.next_plans(plans, rates, runs)
        if further == plans:
            is_complete = len(runs) == sum(map(len, seeds.values()))
            return RateSweep(study=study, plans=plans, runs=runs, is_complete=is_complete)
        plans = further


def _dry_run_lines(sweep: RateSweep, last: Study, rates: Sequence[float]) -> list[str]:
    """Return what is due of the choice now, and the least and the most runs, with their time, until the study's end."""
    from bench.launchers import eta
    from bench.study.plan import dry_run_lines, plan_study
    from bench.units import count_of
    from reports.analysis.rate_choice import least_runs, most_runs, row_of_candidate

    seconds = {row_of_candidate(job.spec["variant"]): job.estimate for job in plan_study(sweep.study).runs}
    done = [row_of_candidate(run["variant"]) for run in sweep.runs]
    study_runs = [job.estimate for job in plan_study(last).runs]
    said = []
    for word, runs_of_row in (("least", least_runs), ("most", most_runs)):
        choice = [
            each
            for row, plan in sweep.plans.items()
            for each in [seconds[row]] * (max(runs_of_row(rates), sum(map(len, plan.values()))) - done.count(row))
        ]
        total = eta.remaining_seconds([*choice, *study_runs], [], last.jobs or 1)
        takes = "time not known yet" if total is None else f"about {eta.format_duration(total)}"
        runs = count_of(len(choice) + len(study_runs), "run")
        said.append(f"at {word} {runs}, {takes}: {len(choice)} to choose rates, {len(study_runs)} at the chosen rates")
    return [*dry_run_lines(sweep.study), *said]
