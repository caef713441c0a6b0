"""Run a study, then report it: what `ablate` and `table` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from experiments.commands.console import DONE, FAILED, INTERRUPTED, NAME, Invocation, print_lines, print_progress

if TYPE_CHECKING:
    from bench.results.rows import Row
    from bench.results.store import Store
    from bench.study.options import StudyRequest
    from bench.study.request import VariantFactory
    from bench.study.study import Study


class StudyStopped(Exception):
    """The study was stopped by a signal; the same command continues."""


class RunsMissing(Exception):
    """Workers were ended from outside, so that runs have no row; the same command continues."""


def run_and_report(
    kind: str,
    grid: str,
    make: VariantFactory,
    request: StudyRequest,
    call: Invocation,
    *,
    dry_run: bool,
    after: Callable[[Study], None] | None = None,
) -> int:
    """Run the study and write its report, or say what it would do. Returns the exit code: 1 where runs failed."""
    from bench.study.plan import dry_run_lines
    from bench.study.request import build_study

    study = with_tasks(build_study(kind, grid, make, request, dry_run=dry_run), call)
    if dry_run:
        print_lines(dry_run_lines(study))
        if study.preset == "paper":
            _print_hours(study)
        return DONE
    try:
        rows = run_due(study, after)
    except StudyStopped:
        return INTERRUPTED
    except RunsMissing:
        return FAILED
    return FAILED if any(row["status"] == "failed" for row in rows) else DONE


def with_tasks(study: Study, call: Invocation) -> Study:
    """Return `study` with the tasks of the invocation where it has any."""
    return replace(study, tasks=call.tasks) if call.tasks else study


def run_due(study: Study, after: Callable[[Study], None] | None = None) -> Sequence[Row]:
    """Run what is due, write the report once nothing is missing, then call `after`; returns the rows.

    Raises ValueError at once where no report could be written, and StudyStopped, and RunsMissing once the report is
    written, after it has said how to go on.
    """
    from bench.config.output_path import check_output
    from bench.results.store import Store
    from bench.study import plan
    from reports import report_folder

    check_output(report_folder(study.out, study.name), "--out")
    rows = run_part(study)
    unfinished = plan.unfinished_line(study)
    left = "" if study.shard.whole else plan.remaining_work_line(study)
    if left:
        print(f"shard {study.shard} is {'not done' if unfinished else 'done'}; {left}")
    else:
        write_study_report([Store(study.out, keep=True)], study.name)
        if after:
            after(study)
    if unfinished:
        print_progress(f"{NAME}: {unfinished}")
        raise RunsMissing
    return rows


def run_part(study: Study) -> Sequence[Row]:
    """Run what is due, say how it ended, and return the rows. Raises StudyStopped after it has said how to go on."""
    from bench.launchers.queue import Interrupted
    from bench.study import plan
    from bench.study.run import run_study
    from bench.study.summary import summary_lines

    try:
        rows = run_study(study, say=print_progress)
    except Interrupted as stop:
        done, total = plan.count_finished_runs(study)
        print_progress(f"{NAME}: stopped by {stop}; {done} of {total} runs are done, the same command continues")
        raise StudyStopped from None
    print_lines(summary_lines(rows, plan.count_finished_runs(study)[1]))
    return rows


def write_study_report(
    stores: Sequence[Store],
    experiment: str,
    control: str = "",
    *,
    margin: float | None = None,
    with_pictures: bool = True,
    audit: bool = False,
) -> None:
    """Write one experiment's report and print its table and what an audit of its rows finds.

    `audit` prints a line where it finds nothing, too.
    """
    from reports import read_study, write_report
    from reports.study import terminal

    page, html, *_ = write_report(stores, experiment, control=control, margin=margin, with_pictures=with_pictures)
    study = read_study(stores, experiment, control, margin)
    print_lines([*terminal.study_lines(study), *terminal.audit_lines(study, always=audit)])
    print_lines([f"report of {experiment}: {page} and {html.name}"])


def chosen_experiments(stores: Sequence[Store], name: str, control: str) -> list[str]:
    """Return the experiment called `name`, or all that the studies list for "", by their lists of runs alone.

    Raises:
        ValueError: A folder is no study, none lists such an experiment, or one of them has no variant `control`.
    """
    listing = [store.experiments() for store in stores]
    known = list(dict.fromkeys(experiment for listed in listing for experiment in listed))
    if name and name not in known:
        places = ", ".join(str(store.out) for store in stores)
        raise ValueError(f"{places}: no experiment {name!r}; there are: {', '.join(known)}")
    names = [name] if name else known
    for experiment in names if control else ():
        runs = [run for listed in listing for run in listed.get(experiment, {}).get("runs", ())]
        variants = list(dict.fromkeys(str(run.get("variant")) for run in runs))
        if control not in variants:
            raise ValueError(f"--control {control}: {experiment} has {', '.join(variants)}")
    return names


def _print_hours(study: Study) -> None:
    """Print how many GPU-hours the runs that are due take."""
    from bench.profiling import gpu_hours
    from bench.results.gpu_assumption import GpuAssumption
    from bench.study.plan import count_due_runs
    from reports.pages import gpu_hours as pages
    from unept.data import open_data

    settings = study.variants[0].settings
    pictures = settings.evaluation.images or len(open_data(settings.data, settings.evaluation.split, settings.scenes))
    records = list(gpu_hours.gpu_hours_records(study.name, study.variants, pictures=pictures, known={}))
    print_lines(pages.gpu_hours_lines(records, count_due_runs(study), GpuAssumption(), gpu_hours.DEFAULT_IMAGE_SIZE))
