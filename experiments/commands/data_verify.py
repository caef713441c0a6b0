"""`unept-bench data verify`: read a data set and say what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import argument, option
from bench.dataset_check import MAX_JOBS
from experiments.commands.console import DONE, FAILED, Invocation, print_lines
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """The data set that `data verify` reads, and how much of it."""

    spec: str = argument(
        help="Data set as --data takes it, or a folder of one of its layouts.", metavar="DATA", completes="data"
    )
    jobs: int = option(
        0,
        help="Files read at a time.",
        metavar="N",
        default_text="one a processor",
        least=0,
        most=MAX_JOBS,
    )
    out: Path | None = option(
        None,
        help="Write the tables there as CSV files too.",
        metavar="FOLDER",
        default_text="none",
        completes="files",
        writes="folder",
    )


def verify(options: VerifyOptions, call: Invocation) -> int:
    """Read every picture and label of a data set and say what is wrong with it, and what to do.

    The exit code is 1 if something is wrong.
    """
    from bench.dataset_check import check_dataset
    from bench.launchers.progress import ProgressCounter
    from reports import write_files

    with ProgressCounter("reading") as progress:
        verification = check_dataset(options.spec, jobs=options.jobs, progress=progress)

    from reports.pages import dataset_check as pages

    record = verification.record()
    print_lines(pages.dataset_check_lines(record))
    if options.out is not None:
        write_files(options.out, pages.dataset_check_files(record))
        print(f"tables: {options.out}")
    return FAILED if verification.wrong else DONE


VERB = Verb(
    name="verify",
    run=verify,
    options=VerifyOptions,
    group="Data",
    summary="Read every file and say what is wrong",
    example="data verify ade20k:PATH",
)
