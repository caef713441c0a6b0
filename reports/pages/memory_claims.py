"""Table 8's memory column beside predicted live tensors: each claim and each printed figure, judged, and its gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.units import GIB
from reports.analysis.claim_verdicts import AGREES, DISAGREES, UNDETERMINED
from reports.formats import numbers
from reports.formats.data_frames import make_frame
from reports.formats.markdown import bullet_list, markdown_table
from reports.paper import figures, printed_tables
from reports.paper.claims import claims_of_table
from reports.paper.memory_claims import (
    FAR_FACTOR,
    KNOWN_GAPS,
    MASKED_FORMS,
    MEMORY_COLUMN,
    MEMORY_STATEMENTS,
    MEMORY_TABLE,
    largest_slack,
)

Record = Mapping[str, Any]


def memory_differences_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per memory claim of Table 8: the paper's difference in GB, ours predicted in GiB."""
    gib = live_tensors_gib(records)
    lines: list[dict[str, object]] = [
        {
            "claim": claim.text,
            "quoted": claim.quoted,
            "predicted": gib[claim.better] - gib[claim.worse],
            "outcome": AGREES if (gib[claim.better] - gib[claim.worse]) * claim.sign > 0 else DISAGREES,
        }
        for claim in claims_of_table(MEMORY_TABLE)
        if claim.column == MEMORY_COLUMN and {claim.better, claim.worse} <= {*gib}
    ]
    return make_frame(lines, ["claim", "quoted", "predicted", "outcome"], text=["claim", "outcome"])


def memory_statements_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per statement with a predicted row: printed GB and predicted GiB."""
    gib = live_tensors_gib(records)
    outcomes = {True: AGREES, False: DISAGREES, None: UNDETERMINED}
    lines: list[dict[str, object]] = [
        {
            "statement": statement.text,
            "quoted": statement.printed,
            "predicted": gib[statement.by],
            "outcome": outcomes[statement.judge(gib)],
        }
        for statement in MEMORY_STATEMENTS
        if statement.by in gib
    ]
    return make_frame(lines, ["statement", "quoted", "predicted", "outcome"], text=["statement", "outcome"])


def live_tensors_gib(records: Sequence[Record]) -> dict[str, float]:
    """Return GiB of live tensors of each predicted row, by its name in Table 8 or that of a masked form."""
    named = [(record.get("quoted") or record["name"], record) for record in records if "plain" in record]
    known = {*figures.TABLES[MEMORY_TABLE].rows, *MASKED_FORMS}
    return {name: record["plain"] / GIB for name, record in named if name in known}


def memory_claims_section(records: Sequence[Record]) -> Iterator[str]:
    """Yield both tables, what is known of each gap, and the paper's own table; nothing without a row of it."""
    gib = live_tensors_gib(records)
    if not any(row in gib for row in figures.TABLES[MEMORY_TABLE].rows):
        return
    yield "## Beside the paper\n"
    yield (
        "*Quoted* figures are GB as printed; the paper does not name its meter. *Predicted* figures are GiB of live "
        "tensors. A printed figure includes more than tensors: CUDA's context, cuDNN's work space, the allocator's "
        "slack.\n"
    )
    if not memory_differences_frame(records).empty:
        yield "Differences that the paper claims:\n"
        yield _table(memory_differences_frame(records), "claim", "+")
    yield "Statements that follow from each printed figure:\n"
    yield _table(memory_statements_frame(records), "statement", "")
    yield _reading(gib)
    yield "Gaps between the printed figures and the live tensors:\n"
    yield bullet_list(_gaps(gib))
    yield from printed_tables.printed_section(MEMORY_TABLE)


def _table(claims: pd.DataFrame, column: str, sign: str) -> str:
    rows = [
        [
            line[column],
            numbers.format_number(line["quoted"], f"{sign}.1f"),
            numbers.format_number(line["predicted"], f"{sign}.2f"),
            line["outcome"],
        ]
        for _, line in claims.iterrows()
    ]
    return markdown_table([column, "quoted, GB", "predicted, GiB", "outcome"], rows)


def _reading(gib: Mapping[str, float]) -> str:
    most = largest_slack(gib)
    text = f"*Far* means a factor of {FAR_FACTOR:g} or more; a smaller one in that direction is {UNDETERMINED}."
    if most is not None and any(form in gib for form in MASKED_FORMS):
        text += (
            " A form *would explain* a printed figure that exceeds its live tensors by no more than the paper's own "
            f"two figures exceed theirs, {most:.1f}. A masked form computes a sparse pattern as dense attention with a "
            "mask. It gives the same results as the sparse form. A form that would explain a figure was not "
            "necessarily used."
        )
    return f"{text}\n"


def _gaps(gib: Mapping[str, float]) -> Iterator[str]:
    for row in figures.TABLES[MEMORY_TABLE].rows:
        printed = figures.printed_figure(MEMORY_TABLE, row, MEMORY_COLUMN).value
        if row in gib and printed is not None:
            gap = printed - gib[row]
            side = "above" if gap > 0 else "below"
            yield f"{row}: printed {abs(gap):.1f} {side} the live tensors; {KNOWN_GAPS[row]}."
