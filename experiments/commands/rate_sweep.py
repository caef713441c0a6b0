"""The runs that choose each row's learning rate, before `table` runs the rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from bench.config.presets import preset
from experiments.commands.console import Invocation, print_lines
from experiments.commands.study import run_due, with_tasks

if TYPE_CHECKING:
    from bench.results.rows import Row
    from bench.study.options import StudyRequest
    from bench.study.request import VariantFactory


def sweep_rows(
    name: str, make: VariantFactory, request: StudyRequest, call: Invocation, dry_run: bool
) -> Sequence[Row] | None:
    """Return the rows that learning rates are chosen from; None while some are still due, in `dry_run` or elsewhere.

    They have the preset's steps even where the table has more, so that tables of several lengths share them.
    """
    from bench.study.plan import dry_run_lines, is_complete
    from bench.study.request import build_study
    from bench.study.run import study_rows
    from experiments.tables.lr_sweep import SWEEP_SEEDS
    from reports.analysis.lr_sweep import LR_SWEEP_KIND

    longer = request.steps >= preset(request.preset).train.steps
    request = replace(request, seeds=min(SWEEP_SEEDS, request.seeds), steps=0 if longer else request.steps, control="")
    study = with_tasks(build_study(LR_SWEEP_KIND, name, make, request, dry_run=dry_run), call)
    study = replace(study, tasks=replace(study.tasks, measure=""))
    if not dry_run:
        run_due(study)
    if is_complete(study):
        return study_rows(study)
    if dry_run:
        print_lines(dry_run_lines(study))
        print("then the table, each row at the learning rate that is chosen from these")
    else:
        print("the table follows once the other shards have tried their rates: by the same command again")
    return None
