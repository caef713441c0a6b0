"""Table 8's memory column beside predicted live tensors: each claim and each printed figure, judged, and its gap."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.units import GIB
from reports.analysis.claim_verdicts import AGREES, DISAGREES, UNDETERMINED
from reports.formats import numbers
from reports.formats.data_frames import frame
from reports.formats.markdown import bullets, table
from reports.paper import figures, printed_tables
from reports.paper.claims import claims
from reports.paper.memory_claims import COLUMN, FAR, KNOWN, MASKED, STATEMENTS, TABLE, slack

Record = Mapping[str, Any]


def beside(records: Sequence[Record]) -> pd.DataFrame:
    """A line for each claim of Table 8 on memory: the paper's difference in GB, ours in GiB as predicted."""
    found = live(records)
    lines: list[dict[str, object]] = [
        {
            "claim": claim.text,
            "quoted": claim.quoted,
            "predicted": found[claim.better] - found[claim.worse],
            "outcome": AGREES if (found[claim.better] - found[claim.worse]) * claim.sign > 0 else DISAGREES,
        }
        for claim in claims(TABLE)
        if claim.column == COLUMN and {claim.better, claim.worse} <= {*found}
    ]
    return frame(lines, ["claim", "quoted", "predicted", "outcome"], text=["claim", "outcome"])


def judged(records: Sequence[Record]) -> pd.DataFrame:
    """A line for each statement whose predicted row is there: the figure in GB as printed, and that row's in GiB."""
    found = live(records)
    outcomes = {True: AGREES, False: DISAGREES, None: UNDETERMINED}
    lines: list[dict[str, object]] = [
        {
            "statement": statement.text,
            "quoted": statement.printed,
            "predicted": found[statement.by],
            "outcome": outcomes[statement.judge(found)],
        }
        for statement in STATEMENTS
        if statement.by in found
    ]
    return frame(lines, ["statement", "quoted", "predicted", "outcome"], text=["statement", "outcome"])


def live(records: Sequence[Record]) -> dict[str, float]:
    """GiB of live tensors of each predicted row, by its name in Table 8, or that of a masked form."""
    named = [(record.get("quoted") or record["name"], record) for record in records if "plain" in record]
    known = {*figures.TABLES[TABLE].rows, *MASKED}
    return {name: record["plain"] / GIB for name, record in named if name in known}


def section(records: Sequence[Record]) -> Iterator[str]:
    """Both tables, what is known of each gap, and the paper's own table; nothing without a row of it."""
    found = live(records)
    if not any(row in found for row in figures.TABLES[TABLE].rows):
        return
    yield "## Beside the paper\n"
    yield (
        "*Quoted* in GB as printed, by a meter that the paper does not name; *predicted* in GiB of live tensors. A "
        "printed figure holds more than tensors: CUDA's context, cuDNN's work space, the allocator's slack.\n"
    )
    if not beside(records).empty:
        yield "Differences that the paper claims:\n"
        yield _table(beside(records), "claim", "+")
    yield "What each printed figure says:\n"
    yield _table(judged(records), "statement", "")
    yield _reading(found)
    yield "What is known of each gap between a printed figure and the live tensors:\n"
    yield bullets(_gaps(found))
    yield from printed_tables.quoted_section(TABLE)


def _table(found: pd.DataFrame, what: str, sign: str) -> str:
    rows = [
        [
            line[what],
            numbers.number(line["quoted"], f"{sign}.1f"),
            numbers.number(line["predicted"], f"{sign}.2f"),
            line["outcome"],
        ]
        for _, line in found.iterrows()
    ]
    return table([what, "quoted, GB", "predicted, GiB", "outcome"], rows)


def _reading(found: Mapping[str, float]) -> str:
    most = slack(found)
    text = f"*Far* is a factor of {FAR:g}, and what lies between is {UNDETERMINED}."
    if most is not None and any(form in found for form in MASKED):
        text += (
            " A form *would explain* a figure that lies above its tensors by no more than the two figures of the "
            f"paper's own network lie above theirs, {most:.1f}. The masked forms are a sparse pattern as dense "
            "attention with a mask, which gives the same results as the true sparse form; that one would explain a "
            "figure does not show that it was used."
        )
    return f"{text}\n"


def _gaps(found: Mapping[str, float]) -> Iterator[str]:
    for row in figures.TABLES[TABLE].rows:
        printed = figures.figure(TABLE, row, COLUMN).value
        if row in found and printed is not None:
            gap = printed - found[row]
            yield f"{row}: printed {abs(gap):.1f} {'above' if gap > 0 else 'below'} the live tensors; {KNOWN[row]}."
