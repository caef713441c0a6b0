"""`unept-bench hours`: predict GPU-hours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.config.option_fields import option
from bench.results.gpu_assumption import GpuAssumption
from experiments.commands.console import DONE, Invocation, print_progress
from experiments.commands.options import Verb


@dataclass(frozen=True, kw_only=True)
class HoursOptions:
    """Assumed speed of the GPU, and the number of trainings."""

    tflops: float = option(GpuAssumption.peak, help="The card's printed peak, TFLOP/s.", metavar="TFLOPS")
    utilisation: float = option(GpuAssumption.share, help="The share of it that is sustained.", metavar="SHARE")
    card: str = option("", help="Its name, for the page.", metavar="NAME", default_text=GpuAssumption.name)
    seeds: int = option(5, help="Trainings of each row.", metavar="N", least=1)
    out: Path = option(
        Path("study/hours"), help="Folder of the page.", metavar="FOLDER", completes="files", writes="folder"
    )


def hours(options: HoursOptions, call: Invocation) -> int:
    """Predict the GPU-hours of Tables 5 to 8 at the paper's size, by counting operations: no GPU."""
    is_other = (options.tflops, options.utilisation) != (GpuAssumption.peak, GpuAssumption.share)
    name = options.card or ("a card of yours" if is_other else GpuAssumption.name)
    card = GpuAssumption(name=name, peak=options.tflops, share=options.utilisation)

    from bench.profiling.gpu_hours import DEFAULT_IMAGE_SIZE
    from experiments.tables.gpu_hours import count_table_hours
    from reports import writable_folder, write_files
    from reports.pages import gpu_hours as pages

    folder = writable_folder(options.out)
    records = count_table_hours(print_progress)
    page, *_ = write_files(folder, pages.gpu_hours_report_files(records, card, options.seeds, DEFAULT_IMAGE_SIZE))
    print(pages.totals_table(records, card, options.seeds), end="")
    print(f"report: {page}")
    return DONE


VERB = Verb(
    name="hours",
    run=hours,
    options=HoursOptions,
    group="Cost",
    summary="Predict the GPU-hours of Tables 5 to 8",
    example='hours --card "our card" --tflops 60 --utilisation 0.4',
)
