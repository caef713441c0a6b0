"""How memory, operations and time of one attention layer grow: tables, exponents and plots from plain records.

A record is what `bench.attention_layer.scaling.measure_layer_scaling` gives: an attention at one size along one axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from reports.analysis.frames import csv, frame
from reports.formats import html, numbers
from reports.formats.markdown import DASH, bullets, table
from reports.plots import scaling
from reports.plots.scaling import AXES

Record = Mapping[str, Any]
MIB = 1 << 20
TITLE = "How does one attention layer grow?"
QUANTITIES = {
    "peak": "memory, predicted",
    "saved": "kept for the backward pass, predicted",
    "gmacs": "operations, derived",
    "forward": "forward, measured",
    "forward+backward": "forward + backward, measured",
}
PHASES = ("forward", "forward+backward")
PARTS = ("median", "q1", "q3", "n")


def overview(records: Sequence[Record]) -> pd.DataFrame:
    """A line for each record, seconds with their quartiles; empty where it was not timed."""
    lines = [
        {
            **{name: record[name] for name in ("attention", "axis", "at", "side", "levels", "points", "batch")},
            "tokens": tokens(record),
            "peak_mib": _mib(record, "peak"),
            "saved_mib": _mib(record, "saved"),
            "gmacs": record.get("gmacs"),
            **{f"{_word(phase)}_{part}": _seconds(record, phase, part) for phase in PHASES for part in PARTS},
            "message": record.get("message", ""),
        }
        for record in records
    ]
    times = [f"{_word(phase)}_{part}" for phase in PHASES for part in PARTS]
    columns = ["attention", "axis", "at", "side", "levels", "points", "batch", "tokens"]
    columns += ["peak_mib", "saved_mib", "gmacs", *times, "message"]
    return frame(lines, columns, text=["attention", "axis", "message"])


def slopes(exponents: Sequence[Record]) -> pd.DataFrame:
    """A line for each exponent, with how many sizes it is from and between which."""
    columns = ["attention", "axis", "quantity", "exponent", "sizes", "from", "to"]
    return frame([dict(line) for line in exponents], columns, text=["attention", "axis", "quantity"])


def files(
    records: Sequence[Record], exponents: Sequence[Record], protocol: Mapping[str, Any], command: str = ""
) -> dict[str, bytes]:
    """Every file of the report by name: pages, tables as CSV, and plots."""
    made = {"scaling.csv": csv(overview(records)).encode(), "exponents.csv": csv(slopes(exponents)).encode()}
    made |= scaling.draw(records)
    text = "\n".join(_sections(records, exponents, protocol, command))
    made["report.md"] = text.encode()
    made["report.html"] = html.page(text, made, title=TITLE).encode()
    return made


def lines(exponents: Sequence[Record]) -> Iterator[str]:
    """The exponents against tokens in plain text, with the sizes that they are from."""
    columns, rows = _exponent_rows(exponents, "side")
    widths = [max(map(len, cells)) for cells in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def tokens(record: Record) -> int:
    """Tokens of one image, of all levels."""
    return int(record["levels"] * record["side"] ** 2)


def _sections(
    records: Sequence[Record], exponents: Sequence[Record], protocol: Mapping[str, Any], command: str
) -> Iterator[str]:
    base = protocol["base"]
    yield f"# {TITLE}\n"
    yield (
        f"One self-attention layer of width {protocol['width']} with {protocol['heads']} heads, each attention with "
        f"its own defaults but what its name says, on {numbers.count(base['levels'], 'square map')} of {base['side']} "
        f"x {base['side']} tokens, {base['points']} points, {numbers.count(base['batch'], 'image')}; along each axis "
        "one of these changes. "
        "Memory is *predicted* on tensors without data, as a CUDA card holds it: the most at any time of a forward and "
        f"backward pass with dropout {protocol['dropout']:g}, beyond inputs and parameters. Operations are *derived*: "
        "multiply-adds of a forward pass, every product and every sample. An attention that works through pieces of a "
        "bounded size holds little but one of them on a small map: then the peak grows by less than the tokens, and "
        "what is kept for the backward pass tells how it goes on.\n"
    )
    yield (
        f"Time is *measured* here, in turns, {numbers.count(protocol['rounds'], 'round')} or more after a first: "
        f"{protocol['processor']}, {numbers.count(protocol['threads'], 'thread')}, without dropout, where a layer has "
        f"at most {protocol['most_gmacs']:g} GMACs and {protocol['most_gib']:g} GiB, and where its cost changes along "
        "the axis at all; larger ones and unchanging ones are not timed.\n"
    )
    for axis, name in AXES.items():
        columns, rows = _exponent_rows(exponents, axis)
        yield f"## Exponents against {name}\n"
        yield (
            "The slope in log-log, by least squares over the sizes in brackets; "
            f"{DASH} where nothing changes, or fewer than two sizes have a value.\n"
        )
        yield table(columns, rows)
    for quantity in scaling.drawn(records):
        yield f"![{quantity}](scaling-{quantity}.png)\n"
    yield "## Every figure\n"
    yield table(
        ["attention", "axis", "at", "memory, MiB", "GMACs", *(f"{phase}, ms" for phase in PHASES)], _cells(records)
    )
    messages = dict.fromkeys(f"{each['attention']}: {each['message']}" for each in records if "message" in each)
    if messages:
        yield bullets(messages)
    if command:
        yield f"Command: `{command}`\n"


def _exponent_rows(exponents: Sequence[Record], axis: str) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of one axis: an attention a row, a quantity a column."""
    found = {(each["attention"], each["quantity"]): each for each in exponents if each["axis"] == axis}
    names = dict.fromkeys(name for name, _ in found)
    rows = [[name, *(_exponent(found.get((name, quantity))) for quantity in QUANTITIES)] for name in names]
    return ["attention", *QUANTITIES.values()], rows


def _exponent(line: Record | None) -> str:
    """Two decimals and the sizes; what rounds to zero has no sign."""
    return DASH if line is None else f"{round(line['exponent'], 2) + 0.0:.2f} ({line['from']} to {line['to']})"


def _cells(records: Sequence[Record]) -> Iterator[list[str]]:
    for record in records:
        if "message" not in record:
            yield [
                record["attention"],
                AXES[record["axis"]],
                str(scaling.place(record)),
                f"{record['peak'] / MIB:.1f}",
                f"{record['gmacs']:.3f}",
                *(_milliseconds(record, phase) for phase in PHASES),
            ]


def _milliseconds(record: Record, phase: str) -> str:
    """Median (quartiles)."""
    found = [_seconds(record, phase, part) for part in PARTS[:3]]
    if None in found:
        return DASH
    median, q1, q3 = (numbers.three_figures(1000 * value) for value in found if value is not None)
    return f"{median} ({q1} to {q3})"


def _seconds(record: Record, phase: str, part: str) -> float | None:
    seconds = record.get("seconds", {}).get(phase)
    return None if seconds is None else float(seconds[part])


def _mib(record: Record, name: str) -> float | None:
    return record[name] / MIB if name in record else None


def _word(phase: str) -> str:
    return f"{phase.replace('+', '_')}_seconds"
