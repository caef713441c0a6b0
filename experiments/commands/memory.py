"""`unept-bench memory`: predict the peak memory of a training step."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.config.option_fields import nested_options, option
from bench.profiling.memory.setting import StepSetting
from experiments.commands.console import DONE, FAILED, NAME, Invocation, print_lines, print_progress
from experiments.commands.options import Verb
from experiments.commands.scaling import ScalingOptions, scaling


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Rows whose memory is predicted, and the training step."""

    row: tuple[str, ...] = option(
        (), help="Only these rows of Table 8 and its baselines.", metavar="NAME", default_text="all"
    )
    setting: StepSetting = nested_options(StepSetting)
    verify: bool = option(False, help="Also take the step on this CPU and count.")
    scale: bool = option(False, help="The older name of the verb scaling.", is_hidden=True)
    quick: bool = option(False, help="With --scale.", is_hidden=True)
    out: Path | None = option(
        None,
        help="Folder of the report.",
        metavar="FOLDER",
        default_text="study/memory",
        completes="files",
        writes="folder",
    )


def memory(options: MemoryOptions, call: Invocation) -> int:
    """Predict the peak memory of a training step for each row of Table 8, without a GPU."""
    setting = options.setting
    if options.scale:
        return _older_scaling(options, call)
    if options.quick:
        raise ValueError("--quick goes with --scale")

    from experiments.tables.table8 import masked_networks, select_memory_rows

    rows = select_memory_rows(options.row)

    from bench.profiling.memory import table
    from reports import writable_folder, write_files
    from reports.pages import memory as pages

    networks = {row.name: row.settings for row in rows}
    folder = writable_folder(options.out or Path("study/memory"))
    began = time.perf_counter()
    records = table.predict_rows(networks, setting, say=print_progress)
    records = [record | {"quoted": row.quoted} for record, row in zip(records, rows, strict=True)]
    forms = (
        {}
        if options.row or not pages.is_paper_setting(asdict(setting))
        else {r.name: r.settings for r in masked_networks()}
    )
    masks = table.predict_rows(forms, setting, say=print_progress, alone=True) if forms else []
    spent = table.prediction_cost(began)
    verified = table.verify_rows(networks, setting, say=print_progress) if options.verify else []
    files = pages.memory_report_files(records, verified, asdict(setting), call.command, masks, spent)
    page, *_ = write_files(folder, files)
    print_lines(pages.memory_lines(records))
    print(f"report: {page}")
    return FAILED if any("message" in record for record in [*records, *masks]) else DONE


def _older_scaling(options: MemoryOptions, call: Invocation) -> int:
    """Run `scaling` under its older name."""
    if options.row or options.verify or options.setting != StepSetting():
        raise ValueError("--scale goes with --quick and --out alone: it takes a layer, not a row's training step")
    newer = ScalingOptions(quick=options.quick, **({"out": options.out} if options.out else {}))
    print_progress(f"{NAME}: memory --scale is now a verb of its own: {NAME} scaling")
    return scaling(newer, call)


VERB = Verb(
    name="memory",
    run=memory,
    options=MemoryOptions,
    group="Cost",
    summary="Predict the peak memory of a training step",
    example='memory --row "Ours, DeiT" --batch 4 --precision bf16',
)
