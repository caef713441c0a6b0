"""Report of networks' cost: parameters and operations in two conventions, and the paper's Table 7 beside them.

A record is the plain dictionary of `bench.profiling.complexity`, with `times` where they were taken. Operations of ours
and figures of the paper never share a row: beside the paper stands a difference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.units import count_of
from reports.analysis.claim_verdicts import AGREES, DISAGREES
from reports.formats import html, numbers, operation_counts
from reports.formats.data_frames import frame_to_csv, make_frame
from reports.formats.markdown import DASH, bullet_list, code_span, markdown_table
from reports.paper import figures as paper
from reports.paper import printed_tables
from reports.paper.claims import Claim, claims_of_table
from reports.plots import complexity

Record = Mapping[str, Any]
TABLE = 7
PRINTED_SIZE = [480, 480]  # of the paper's figures, but for one row
TOLERANCE = 0.1  # in the printed unit, 1e9 operations
PHASES = ("inference", "training")
REPRODUCED, NOT_REPRODUCED, NOT_PRINTED = "reproduced", "not reproduced", "not printed"
OURS, OTHER = "Ours", "Ours, ResNet50"
CONVENTIONS = {"module": "module_gmacs", "complete": "gmacs"}
TITLE = "Parameters and operations of the networks of Table 7"
MEANING = (
    "Parameters and operations are derived by counting one image on torch's meta device, without weights or data. "
    "Parameters include auxiliary heads. Operations do not, because those heads do not run at test. GFLOPs are twice "
    "the GMACs. *module* counts what the paper's tool counts: modules of convolution, linear layers, pooling, "
    "activation, upsampling and layer norm. That tool counts a multiply-add as one operation: compare the paper's "
    "GFLOPs with module GMACs. *complete* counts every convolution, matrix product, attention product and sampling, "
    "also products written as a multiplication and a sum. Norms, pooling and resizing count as zero. The elements of "
    "element-wise operators are counted apart. Any other operator is an error."
)


def complexity_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per network; each column's name ends in its source, `derived` or `measured`."""
    lines = []
    for record in records:
        line: dict[str, object] = {
            "network": record["name"],
            "height": record["size"][0],
            "width": record["size"][1],
            "parameters_derived": record["parameters"],
            "module_gmacs_derived": record["module_gmacs"],
            "module_gflops_derived": 2 * record["module_gmacs"],
            "gmacs_derived": record["gmacs"],
            "gflops_derived": 2 * record["gmacs"],
            "sampling_gmacs_derived": record["sampling_gmacs"],
            "elementwise_gops_derived": record.get("elementwise_gops"),
        }
        times = record.get("times") or {}
        for phase in PHASES:
            for part, value in (times.get(phase) or {}).items():
                line[f"{phase}_seconds_{part}_measured"] = value
        lines.append(line)
    timed = [f"{phase}_seconds_{part}_measured" for phase in PHASES for part in ("median", "q1", "q3", "n")]
    names = ["network", "height", "width", "parameters_derived", "module_gmacs_derived", "module_gflops_derived"]
    names += ["gmacs_derived", "gflops_derived", "sampling_gmacs_derived", "elementwise_gops_derived"]
    whole = ("height", "width", "parameters_derived", *(name for name in timed if "_n_" in name))
    return make_frame(lines, [*names, *timed], whole=whole, text=("network",))


def parts_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per part of each network."""
    lines = [
        {
            "network": record["name"],
            "part": part["name"],
            "parameters_derived": part["parameters"],
            "module_gmacs_derived": part["module_gmacs"],
            "gmacs_derived": part["gmacs"],
        }
        for record in records
        for part in record["parts"]
    ]
    columns = ["network", "part", "parameters_derived", "module_gmacs_derived", "gmacs_derived"]
    return make_frame(lines, columns, whole=("parameters_derived",), text=("network", "part"))


def reproduction_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per row of Table 7 counted at the paper's size: derived less quoted, and the verdict.

    A figure is reproduced within 0.1 for operations, and within the paper's rounding to millions, up or down, for
    parameters.
    """
    lines = []
    for record in _printed(records):
        parameters = paper.printed_figure(TABLE, record["quoted"], "#Params.").value
        operations = paper.printed_figure(TABLE, record["quoted"], "GFLOPs").value
        line: dict[str, object] = {"row": record["quoted"], "parameters": NOT_PRINTED, "operations": NOT_PRINTED}
        if parameters is not None:
            line["parameters_difference"] = record["parameters"] / 1e6 - parameters
            line["parameters"] = _verdict(record["parameters"] / 1e6, parameters, 1.0)
        if operations is not None:
            line["gflops_difference"] = record["module_gmacs"] - operations
            line["operations"] = _verdict(record["module_gmacs"], operations, TOLERANCE)
            if line["operations"] == NOT_REPRODUCED:
                line["operations"] = _elsewhere(records, record["quoted"], operations)
        lines.append(line)
    columns = ["row", "parameters_difference", "parameters", "gflops_difference", "operations"]
    return make_frame(lines, columns, text=("row", "parameters", "operations"))


def efficiency_claims_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per claim of Table 7 on operations or parameters: differences and outcomes by
    convention.

    The claims are about the DeiT model. The columns `resnet50_` judge them for the ResNet-50 model, of which the paper
    prints no figure.
    """
    by_name = {record["name"]: record for record in records if record["size"] == PRINTED_SIZE}
    lines = []
    for claim in claims_of_table(TABLE):
        if claim.column not in ("GFLOPs", "#Params.") or claim.worse not in by_name:
            continue
        line: dict[str, object] = {"claim": claim.text, "unit": claim.unit, "quoted": claim.quoted}
        for prefix, better in (("", OURS), ("resnet50_", OTHER)):
            if better in by_name:
                line |= _judged(claim, by_name[better], by_name[claim.worse], prefix)
        lines.append(line)
    names = [f"{p}{c}" for p in ("", "resnet50_") for c in CONVENTIONS]
    columns = ["claim", "unit", "quoted", *(column for name in names for column in (name, f"{name}_outcome"))]
    return make_frame(lines, columns, text=["claim", "unit", *(f"{name}_outcome" for name in names)])


def complexity_findings(records: Sequence[Record]) -> Iterator[str]:
    """Yield a sentence for each finding that the counts of Table 7 allow."""
    rows = list(_printed(records))
    if not any(record["name"] == OURS for record in rows):
        return
    absent = [row for row in paper.TABLES[TABLE].rows if row not in {record["quoted"] for record in rows}]
    for convention, column in CONVENTIONS.items():
        order = sorted(rows, key=lambda record: record[column])
        least, *_ = order
        rank = [record["name"] for record in order].index(OURS) + 1
        figures = ", ".join(f"{record['name']} {record[column]:.1f}" for record in order[:3])
        if least["name"] != OURS:
            claimed = "does not hold"
        else:
            claimed = f"is not decided without {', '.join(absent)}," if absent else "holds"
        yield (
            f"'The lowest GFLOPs among all methods' {claimed} in the {convention} convention at 480x480: ours is "
            f"number {rank} of {len(rows)} (GMACs, derived: {figures})."
        )
    by_name = {record["name"]: record for record in records}
    if OTHER in by_name:
        both = all(by_name[OTHER][column] > by_name[OURS][column] for column in CONVENTIONS.values())
        yield (
            f"The ResNet-50 model has {'more' if both else 'not more'} operations than the DeiT model in both "
            f"conventions ({by_name[OTHER]['module_gmacs']:.1f} and {by_name[OTHER]['gmacs']:.1f} GMACs, derived)."
        )
    judged = reproduction_frame(records)
    missed = judged.loc[judged["operations"].str.startswith(NOT_REPRODUCED), "row"].tolist()
    printed = int((judged["operations"] != NOT_PRINTED).sum())
    yield f"Of {printed} printed figures of operations, {printed - len(missed)} are reproduced within {TOLERANCE}" + (
        f"; not {', '.join(missed)}." if missed else "."
    )


def complexity_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield the main table in plain text, then the findings."""
    cells = _overview_cells(records)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for name, *others in cells:
        texts = (f"{text:>{width}}" for text, width in zip(others, widths[1:], strict=True))
        yield "  ".join([f"{name:<{widths[0]}}", *texts]).rstrip()
    if any(map(operation_counts.is_mostly_elementwise, records)):
        yield operation_counts.NOTE
    yield from complexity_findings(records)
    yield from (f"{name}: {message}" for name, message in _failed(records))


def complexity_report_files(
    records: Sequence[Record], command: str = "", timing: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Return every file of the report by name: pages, tables as CSV, and the plot.

    Args:
        records: Counted networks.
        command: Command line to print; "" for none.
        timing: Protocol of the times; None where none were taken.
    """
    frames = {"complexity.csv": complexity_frame(records), "parts.csv": parts_frame(records)}
    if any(_printed(records)):
        frames |= {"reproduced.csv": reproduction_frame(records), "claims.csv": efficiency_claims_frame(records)}
    made = {name: frame_to_csv(frame).encode() for name, frame in frames.items()}
    marks = [
        complexity.complexity_mark(record["name"], record) for record in records if record["size"] == _size(records)
    ]
    made |= {f"complexity.{suffix}": data for suffix, data in complexity.draw_complexity(marks).items()}
    text = "\n".join(_sections(records, command, timing))
    made["report.md"] = text.encode()
    made["report.html"] = html.html_page(text, made, title=TITLE).encode()
    return made


def _sections(records: Sequence[Record], command: str, timing: Mapping[str, Any] | None) -> Iterator[str]:
    yield f"# {TITLE}\n"
    yield f"{MEANING}\n"
    yield bullet_list(complexity_findings(records))
    yield "## Parameters and operations, derived\n"
    header, *cells = _overview_cells(records)
    yield markdown_table(header, cells)
    if any(map(operation_counts.is_mostly_elementwise, records)):
        yield f"{operation_counts.NOTE}\n"
    if timing:
        yield (
            f"Times, measured: seconds a step, median (quartiles) of {timing['rounds']} rounds in which the networks "
            f"take turns; batch {timing['batch']}, {timing['size'][0]}x{timing['size'][1]} pixels, "
            f"{count_of(timing['threads'], 'thread')}, {timing['device']}.\n"
        )
    if any(_failed(records)):
        yield bullet_list(f"{name}: {message}" for name, message in _failed(records))
    yield "![operations against parameters](complexity.png)\n"
    if any(_printed(records)):
        yield from _beside_the_paper(records)
    yield "## By part, derived\n"
    yield markdown_table(
        ["network", "part", "parameters", "module GMACs", "complete GMACs"], _part_cells(records), left=2
    )
    if command:
        yield f"Command: {code_span(command)}\n"


def _beside_the_paper(records: Sequence[Record]) -> Iterator[str]:
    yield "## Are the paper's figures reproduced?\n"
    yield "Each difference is our derived figure, in the module convention at 480x480, minus the quoted one.\n"
    cells = [
        [
            line["row"],
            numbers.format_number(line["parameters_difference"], "+.2f"),
            line["parameters"],
            numbers.format_number(line["gflops_difference"], "+.3f"),
            line["operations"],
        ]
        for _, line in reproduction_frame(records).iterrows()
    ]
    yield markdown_table(["row", "parameters, M", "outcome", "GFLOPs as printed", "outcome"], cells)
    yield "## Which claims of efficiency hold?\n"
    yield (
        "Each difference is the first network minus the second, in GMACs or million parameters. Figures of the paper "
        "are quoted; ours are derived.\n"
    )
    claims = efficiency_claims_frame(records)
    names = [name.removesuffix("_outcome") for name in map(str, claims) if name.endswith("_outcome")]
    columns = ["claim", "quoted", *(name.replace("resnet50_", "ResNet-50, ") for name in names)]
    lines = [
        [line["claim"], numbers.format_number(line["quoted"], "+.1f"), *(_said(line, name) for name in names)]
        for _, line in claims.iterrows()
    ]
    yield markdown_table(columns, lines)
    yield from printed_tables.printed_section(TABLE)


def _said(line: pd.Series, name: str) -> str:
    return DASH if pd.isna(line[name]) else f"{line[name]:+.1f} {line[f'{name}_outcome']}"


def _printed(records: Sequence[Record]) -> Iterator[Record]:
    """The records that stand for a row of the table, at the size of its figures."""
    return (record for record in records if record["quoted"] and record["size"] == PRINTED_SIZE)


def _size(records: Sequence[Record]) -> list[int]:
    """The size that most records were counted at: operations at different sizes do not belong in one plot."""
    sizes = [list(record["size"]) for record in records]
    return max(sizes, key=sizes.count)


def _verdict(derived: float, quoted: float, tolerance: float) -> str:
    return REPRODUCED if abs(derived - quoted) <= tolerance else NOT_REPRODUCED


def _elsewhere(records: Sequence[Record], row: str, quoted: float) -> str:
    """Not reproduced, and the size at which the figure comes out where one of the records has it."""
    for record in records:
        own = record["name"].partition(",")[0] == row and record["size"] != PRINTED_SIZE
        if own and abs(record["module_gmacs"] - quoted) <= TOLERANCE:
            height, width = record["size"]
            return f"{NOT_REPRODUCED}; it is the figure at {width}x{height}"
    return NOT_REPRODUCED


def _judged(claim: Claim, better: Record, worse: Record, prefix: str) -> dict[str, object]:
    line: dict[str, object] = {}
    for name, column in CONVENTIONS.items():
        if claim.column == "#Params.":
            if name == "complete":  # parameters are the same in both
                continue
            difference = (better["parameters"] - worse["parameters"]) / 1e6
        else:
            difference = better[column] - worse[column]
        line[f"{prefix}{name}"] = difference
        line[f"{prefix}{name}_outcome"] = AGREES if difference * claim.sign > 0 else DISAGREES
    return line


def _overview_cells(records: Sequence[Record]) -> list[list[str]]:
    """The header, then a line a network; times where there are any."""
    timed = [phase for phase in PHASES if any(phase in (record.get("times") or {}) for record in records)]
    by_element = any(record.get("elementwise_gops") is not None for record in records)
    header = ["network", "size", "parameters, M", "module GMACs", "module GFLOPs", "complete GMACs", "complete GFLOPs"]
    header += ["element-wise, 1e9"] * by_element
    cells = [
        [
            record["name"],
            "x".join(map(str, record["size"])),
            f"{record['parameters'] / 1e6:.3f}",
            f"{record['module_gmacs']:.3f}",
            f"{2 * record['module_gmacs']:.3f}",
            operation_counts.format_gmacs(record, ".3f"),
            operation_counts.format_gmacs(record, ".3f", factor=2),
            *[numbers.format_number(record.get("elementwise_gops"), ".3f")] * by_element,
            *(_time((record.get("times") or {}).get(phase)) for phase in timed),
        ]
        for record in records
    ]
    return [header + [f"{phase}, s (measured)" for phase in timed], *cells]


def _part_cells(records: Sequence[Record]) -> list[list[str]]:
    return [
        [
            record["name"],
            part["name"],
            f"{part['parameters']:,d}",
            f"{part['module_gmacs']:.3f}",
            f"{part['gmacs']:.3f}",
        ]
        for record in records
        for part in record["parts"]
    ]


def _time(spread: Mapping[str, Any] | None) -> str:
    return f"{spread['median']:.3g} ({spread['q1']:.3g} to {spread['q3']:.3g})" if spread else DASH


def _failed(records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Networks that could not be timed, and why."""
    for record in records:
        message = (record.get("times") or {}).get("message")
        if message:
            yield record["name"], f"not timed, {message}"
