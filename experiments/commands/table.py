"""`unept-bench table`: run the rows of one of the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.config.grid import parse_axes
from bench.config.option_fields import argument, nested_options, option
from bench.config.shared_options import fields_option
from bench.study.options import RECIPE, StudyRequest, study_settings
from experiments.commands.complexity import write_complexity
from experiments.commands.console import Invocation
from experiments.commands.options import Verb
from experiments.commands.rate_sweep import run_at_own_rates

if TYPE_CHECKING:
    from bench.study.study import Study

TABLES = ("5", "6", "7", "8")
NETWORKS_FOLDER = "complexity"  # in the folder of a study of Table 7


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """A study's options and what is run of the table."""

    number: int = argument(
        name="table",
        help="5 (components), 6 (N and L), 7 (published networks) or 8 (drop-ins).",
        metavar="NUMBER",
        choices=TABLES,
        completes="choices",
    )
    row: tuple[str, ...] = option(
        (),
        help="Only these rows of it; in table 8 also module:Class, an attention of your own.",
        metavar="NAME",
        group=RECIPE,
        default_text="all",
    )
    rates: str = option(
        "",
        help="Choose each row's rate from these and beyond on the validation split, then score the test split.",
        metavar="RATES",
        group=RECIPE,
        default_text="the recipe's rate; table 8 of quick: half, once and twice that",
    )
    fields: tuple[str, ...] = fields_option("Any field, for all rows: size=128 probes=0.", RECIPE)
    dry_run: bool = option(False, help="Only say which runs are due and how long they may take.")
    study: StudyRequest = nested_options(StudyRequest)


def table(options: TableOptions, call: Invocation) -> int:
    """Run the rows of one of the paper's tables, and write the table beside the paper's own."""
    request = replace(options.study, command=call.command)
    axes = parse_axes(options.fields) if options.fields else ()
    base = study_settings(request)  # refuses what arguments and paths alone can tell, before torch is imported

    from bench.config.checks import default_study_folder
    from bench.config.output_path import check_output
    from experiments.tables import lr_sweep
    from experiments.tables.baselines import NONE, with_control
    from experiments.tables.overrides import with_overrides
    from experiments.tables.registry import only_rows, trained_table

    number, fields = options.number, options.fields
    chosen = trained_table(number)
    control = request.control or (chosen.control if not options.row or chosen.control in options.row else "")
    request = replace(request, control=control)
    make = with_overrides(with_control(only_rows(chosen, options.row), control), fields)
    name = [*options.row, *[NONE] * (control == NONE and number in (6, 7)), *fields]
    rates = lr_sweep.rates_to_try(options.rates, table=number, preset_name=request.preset)
    if rates:
        lr_sweep.check_sweep_request(request, axes, said="--set")
    after = _count_networks if number == 7 else None
    if after:
        check_output((request.out or default_study_folder(request.preset, base.data)) / NETWORKS_FOLDER, "--out")
    return run_at_own_rates(
        f"table {number}", " ".join(name), make, request, call, rates, dry_run=options.dry_run, after=after
    )


def _count_networks(study: Study) -> None:
    """Count the published networks of Table 7 into the study's folder: what is trained there is smaller."""
    from experiments.tables.published_networks import count_networks, select_networks

    write_complexity(count_networks(select_networks((480, 480))), study.out / NETWORKS_FOLDER, study.command, None)


VERB = Verb(
    name="table",
    run=table,
    options=TableOptions,
    group="Study",
    summary="Run the rows of one of the paper's tables",
    example="table 6 --preset small --data folder:PATH --seeds 3",
    spread="--set",
)
