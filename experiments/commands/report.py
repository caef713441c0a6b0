"""`unept-bench report`: make tables and reports from rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import argument, option
from experiments.commands.console import DONE, Invocation, print_lines
from experiments.commands.options import Verb
from experiments.commands.study import chosen_experiments, write_study_report


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """Studies that are reported, and how."""

    folders: tuple[Path, ...] = argument(
        help="Studies, such as study/quick-scenes.", metavar="FOLDER", completes="files"
    )
    experiment: str = option("", help="Only this one of the folders' experiments.", metavar="NAME", default_text="all")
    control: str = option(
        "", help="Compare the others with this variant.", metavar="VARIANT", default_text="the study's"
    )
    margin: float | None = option(
        None,
        help="Difference of mIoU that counts as none: say which variants are the same within it.",
        metavar="POINTS",
        default_text="the study's",
        least=0.01,
    )
    no_pictures: bool = option(False, help="Without pictures of the data, whose licence may forbid them.")


def report(options: ReportOptions, call: Invocation) -> int:
    """Make a study's tables and reports again, from its rows, and audit these for what earlier versions left in them.

    Rows of one experiment in several folders are read together, and the first of them takes the report.
    """
    from bench.results.rows import KINDS
    from bench.results.store import Store

    stores = [Store(folder, keep=True) for folder in options.folders]
    for line in [line for store in stores for line in store.mend()]:
        print_lines([line])
    names = chosen_experiments(stores, options.experiment, options.control)
    for store in stores:
        for problem in (problem for kind in KINDS for problem in store.read(kind).problems):
            print_lines([problem])
        store.write_tables()
    for name in names:
        write_study_report(
            stores,
            name,
            options.control,
            margin=options.margin,
            with_pictures=not options.no_pictures,
            audit=True,
        )
    return DONE


VERB = Verb(
    name="report",
    run=report,
    options=ReportOptions,
    group="Study",
    summary="Make a study's tables and reports again",
    example="report study/quick-scenes --control none",
)
