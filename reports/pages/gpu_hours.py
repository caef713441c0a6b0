"""GPU-hours of the paper's tables, predicted: counted operations over an assumed rate.

A record is the plain dictionary that `bench.profiling.gpu_hours.gpu_hours_records` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.results.gpu_assumption import GpuAssumption
from reports.formats.data_frames import frame_to_csv, make_frame
from reports.formats.markdown import bullet_list, markdown_table

Record = Mapping[str, Any]
COUNT_COLUMNS = ("gmacs", "training_tflop", "evaluation_tflop")


def gpu_hours_report_files(
    records: Sequence[Record], gpu: GpuAssumption, seeds: int, size: tuple[int, int]
) -> dict[str, bytes]:
    """Return the page and the counts behind it, by file name.

    Args:
        records: Work of each row.
        gpu: Assumed speed of the GPU.
        seeds: Runs of each row.
        size: Height and width of the validation images, pixels.
    """
    lines = [{name: record[name] for name in ("table", "row", "same_as", *COUNT_COLUMNS)} for record in records]
    made = make_frame(lines, ["table", "row", "same_as", *COUNT_COLUMNS], text=("table", "row", "same_as"))
    return {
        "report.md": gpu_hours_markdown(records, gpu, seeds, size).encode(),
        "hours.csv": frame_to_csv(made).encode(),
    }


def gpu_hours_markdown(records: Sequence[Record], gpu: GpuAssumption, seeds: int, size: tuple[int, int]) -> str:
    """Return the hours of each table, the assumptions, and the hours of each row's run, in Markdown."""
    return f"{totals_table(records, gpu, seeds)}\n{bullet_list(assumptions(gpu, size))}\n{runs_table(records, gpu)}"


def totals_table(records: Sequence[Record], gpu: GpuAssumption, seeds: int) -> str:
    """Return a line for each table and one for all; a run that several tables share is trained once."""
    rows = [
        _total(name, [record for record in records if record["table"] == name], gpu, seeds)
        for name in dict.fromkeys(record["table"] for record in records)
    ]
    once = [record for record in records if not record["same_as"]]
    rows.append(_total("all, shared runs once", once, gpu, seeds))
    return markdown_table(
        ["table", "rows", f"runs, {seeds} seeds", "training, GPU-h", "evaluation, GPU-h", "GPU-h"], rows
    )


def _total(name: str, records: Sequence[Record], gpu: GpuAssumption, seeds: int) -> list[str]:
    training, evaluation = (
        seeds * sum(gpu.hours(record[part]) for record in records) for part in ("training_tflop", "evaluation_tflop")
    )
    numbers = (training, evaluation, training + evaluation)
    return [name, str(len(records)), str(seeds * len(records)), *(f"{number:,.0f}" for number in numbers)]


def runs_table(records: Sequence[Record], gpu: GpuAssumption) -> str:
    """Return a line for each row: its operations and the hours of one run."""
    rows = [
        [
            record["table"],
            record["row"],
            f"{record['gmacs']:.1f}",
            *(f"{gpu.hours(record[part]):.1f}" for part in ("training_tflop", "evaluation_tflop")),
            record["same_as"],
        ]
        for record in records
    ]
    columns = ["table", "row", "GMACs an image", "training a run, GPU-h", "evaluation a run, GPU-h", "the same run as"]
    return markdown_table(columns, rows, left=2)


def assumptions(gpu: GpuAssumption, size: tuple[int, int]) -> list[str]:
    """Return the assumptions behind the hours, a line each."""
    return [
        f"Assumed: {gpu.name}, a printed peak of {gpu.peak:g} TFLOP/s, of which {gpu.share:.0%} is sustained. The "
        "hours fall in proportion to what your card sustains.",
        "Assumed: a training step is worth three forward passes of its batch; the loss, the optimizer, auxiliary heads "
        "and waiting for data cost nothing.",
        f"Assumed: validation pictures of {size[0]} x {size[1]} pixels; their windows are those of the protocol.",
        "Derived: operations of the forward pass, every matrix product and sampling counted.",
    ]


def gpu_hours_lines(
    records: Sequence[Record], due: Mapping[str, int], gpu: GpuAssumption, size: tuple[int, int]
) -> list[str]:
    """Return for a terminal the hours of one run of each row, and of all the runs that are `due`."""
    rows = []
    total = 0.0
    for record in records:
        training, evaluation = (gpu.hours(record[part]) for part in ("training_tflop", "evaluation_tflop"))
        total += due[record["row"]] * (training + evaluation)
        rows.append(
            f"{record['row']}: {record['gmacs']:.1f} GMACs an image, {training + evaluation:.1f} GPU-hours a run, "
            f"{evaluation:.1f} of them evaluation"
        )
    return [
        *rows,
        f"predicted: {total:,.0f} GPU-hours for the {sum(due.values())} runs due, if {gpu.name} sustains "
        f"{gpu.share:.0%} of {gpu.peak:g} TFLOP/s and pictures have {size[0]} x {size[1]} pixels (docs/scaling.md)",
    ]
