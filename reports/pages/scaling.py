"""Growth of memory, operations and time of one attention layer: tables, exponents and plots from plain records.

A record is that of `bench.attention_layer.scaling`: an attention at one size along one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.units import MIB, count_of
from reports.formats import html, numbers
from reports.formats.data_frames import frame_to_csv, make_frame
from reports.formats.markdown import DASH, bullet_list, code_span, heading, markdown_table
from reports.plots import scaling
from reports.plots.scaling import AXIS_TITLES

Record = Mapping[str, Any]
TITLE = "How does one attention layer grow?"
QUANTITIES = {
    "peak": "memory, predicted",
    "saved": "kept for the backward pass, predicted",
    "gmacs": "operations, derived",
    "forward": "forward, measured",
    "forward+backward": "forward + backward, measured",
}
PHASES = ("forward", "forward+backward")
STATISTICS = ("median", "q1", "q3", "n")


def scaling_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per record; seconds have quartiles and are missing where it was not timed."""
    lines = [
        {
            **{name: record[name] for name in ("attention", "axis", "at", "side", "levels", "points", "batch")},
            "tokens": tokens_per_image(record),
            "peak_mib": _mib(record, "peak"),
            "saved_mib": _mib(record, "saved"),
            "gmacs": record.get("gmacs"),
            **{f"{_word(phase)}_{part}": _seconds(record, phase, part) for phase in PHASES for part in STATISTICS},
            "message": record.get("message", ""),
        }
        for record in records
    ]
    times = [f"{_word(phase)}_{part}" for phase in PHASES for part in STATISTICS]
    columns = ["attention", "axis", "at", "side", "levels", "points", "batch", "tokens"]
    columns += ["peak_mib", "saved_mib", "gmacs", *times, "message"]
    return make_frame(lines, columns, text=["attention", "axis", "message"])


def exponents_frame(exponents: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per exponent, with the number and the range of its sizes."""
    columns = ["attention", "axis", "quantity", "exponent", "sizes", "from", "to"]
    return make_frame([dict(line) for line in exponents], columns, text=["attention", "axis", "quantity"])


def scaling_report_files(
    records: Sequence[Record], exponents: Sequence[Record], protocol: Mapping[str, Any], command: str = ""
) -> dict[str, bytes]:
    """Return every file of the report by name: pages, tables as CSV, and plots."""
    made = {
        "scaling.csv": frame_to_csv(scaling_frame(records)).encode(),
        "exponents.csv": frame_to_csv(exponents_frame(exponents)).encode(),
    }
    made |= scaling.draw_scaling(records)
    text = "\n".join(_sections(records, exponents, protocol, command))
    made["report.md"] = text.encode()
    made["report.html"] = html.html_page(text, made, title=TITLE).encode()
    return made


def scaling_lines(exponents: Sequence[Record]) -> Iterator[str]:
    """Yield the exponents against tokens in plain text, with the range of their sizes."""
    columns, rows = _exponent_rows(exponents, "side")
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def tokens_per_image(record: Record) -> int:
    """Return the tokens of one image, over all levels."""
    return int(record["levels"] * record["side"] ** 2)


def _sections(
    records: Sequence[Record], exponents: Sequence[Record], protocol: Mapping[str, Any], command: str
) -> Iterator[str]:
    base = protocol["base"]
    maps, images = count_of(base["levels"], "square map"), count_of(base["batch"], "image")
    rounds, threads = count_of(protocol["rounds"], "round"), count_of(protocol["threads"], "thread")
    yield f"# {TITLE}\n"
    yield (
        f"One self-attention layer of width {protocol['width']} with {protocol['heads']} heads. Each attention has its "
        f"own default parameters, except those in its name. The base size is {maps} of {base['side']} x {base['side']} "
        f"tokens, {base['points']} points, {images}; "
        "along each axis one of these changes. "
        "Memory is *predicted* on tensors without data, for CUDA: the peak of a forward and backward pass "
        f"with dropout {protocol['dropout']:g}, beyond inputs and parameters. Operations are *derived*: "
        "multiply-adds of a forward pass, every product and every sample. An attention that works in chunks of a "
        "bounded size holds about one chunk on a small map, so its peak grows more slowly than the tokens; the memory "
        "kept for the backward pass shows the growth on larger maps.\n"
    )
    yield (
        f"Time is *measured* here in interleaved rounds, {rounds} or more after a warm-up: {protocol['processor']}, "
        f"{threads}, without dropout. A layer is timed where it has at most {protocol['most_gmacs']:g} GMACs and "
        f"{protocol['most_gib']:g} GiB and where its cost changes along the axis.\n"
    )
    for axis, name in AXIS_TITLES.items():
        columns, rows = _exponent_rows(exponents, axis)
        yield heading(f"Exponents against {name}")
        yield (
            "The slope in log-log, by least squares over the sizes in brackets; "
            f"{DASH} where nothing changes, or fewer than two sizes have a value.\n"
        )
        yield markdown_table(columns, rows)
    for quantity in scaling.plotted_quantities(records):
        yield f"![{quantity}](scaling-{quantity}.png)\n"
    yield "## Every figure\n"
    yield markdown_table(
        ["attention", "axis", "at", "memory, MiB", "GMACs", *(f"{phase}, ms" for phase in PHASES)], _cells(records)
    )
    messages = dict.fromkeys(f"{record['attention']}: {record['message']}" for record in records if "message" in record)
    if messages:
        yield bullet_list(messages)
    if command:
        yield f"Command: {code_span(command)}\n"


def _exponent_rows(exponents: Sequence[Record], axis: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of one axis: an attention a row, a quantity a column."""
    exponent_of = {
        (exponent["attention"], exponent["quantity"]): exponent for exponent in exponents if exponent["axis"] == axis
    }
    names = dict.fromkeys(name for name, _ in exponent_of)
    rows = [[name, *(_exponent(exponent_of.get((name, quantity))) for quantity in QUANTITIES)] for name in names]
    return ["attention", *QUANTITIES.values()], rows


def _exponent(line: Record | None) -> str:
    """Two decimals and the sizes; what rounds to zero has no sign."""
    return DASH if line is None else f"{round(line['exponent'], 2) + 0.0:.2f} ({line['from']} to {line['to']})"


def _cells(records: Sequence[Record]) -> Iterator[list[str]]:
    for record in records:
        if "message" not in record:
            yield [
                record["attention"],
                AXIS_TITLES[record["axis"]],
                str(scaling.axis_value(record)),
                f"{record['peak'] / MIB:.1f}",
                f"{record['gmacs']:.3f}",
                *(_milliseconds(record, phase) for phase in PHASES),
            ]


def _milliseconds(record: Record, phase: str) -> str:
    """Median (quartiles)."""
    seconds = [_seconds(record, phase, part) for part in STATISTICS[:3]]
    if None in seconds:
        return DASH
    median, q1, q3 = (numbers.three_significant_digits(1000 * value) for value in seconds if value is not None)
    return f"{median} ({q1} to {q3})"


def _seconds(record: Record, phase: str, part: str) -> float | None:
    seconds = record.get("seconds", {}).get(phase)
    return None if seconds is None else float(seconds[part])


def _mib(record: Record, name: str) -> float | None:
    return record[name] / MIB if name in record else None


def _word(phase: str) -> str:
    return f"{phase.replace('+', '_')}_seconds"
