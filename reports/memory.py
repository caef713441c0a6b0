"""What a training step holds at its peak, as a report: predicted for each row, verified where asked, beside Table 8.

A record is the plain dictionary that `bench.memory.table` gives, with `quoted`, the row's name in Table 8 or "".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import pandas as pd

from experiments import paper
from experiments.claims import Claim, claims
from reports import background, drawing, html, words
from reports.claims import AGREES, DISAGREES
from reports.markdown import DASH, bullets, table
from reports.tables import csv, frame

Record = Mapping[str, Any]
TABLE, COLUMN = 8, "Mem Cost"
GIB = 1 << 30
CARDS = (8, 11, 16, 24, 40, 80)  # GiB
ALLOWANCE = 1.0  # GiB of a card that a step cannot have: context, libraries, the allocator's slack
TITLE = "What does a training step hold?"
HEADING = "Live tensors, predicted: a lower bound of what a GPU shows"
KINDS = ("parameters", "gradients", "optimizer state", "inputs", "activations", "temporaries")
PRINTED = {"batch": 2, "size": 480, "precision": "fp32", "optimizer": "adamw", "checkpointing": False}


def overview(records: Sequence[Record]) -> pd.DataFrame:
    """A line for each row: GiB at the peak with the losses as written and bounded, and what the former is made of."""
    lines = [
        {
            "row": record["name"],
            "gib": record["plain"] / GIB,
            "bounded_gib": record["bounded"] / GIB,
            "twice_gib": record["twice"] / GIB,
            **{kind.replace(" ", "_"): record["kinds"][kind] / GIB for kind in KINDS},
            "peak_at": record["place"],
            "bounded_peak_at": record["place_bounded"],
            **{f"images_on_{card}_gib": largest_batch(record, card) for card in CARDS if "batch" in record},
        }
        for record in records
        if "plain" in record
    ]
    kinds = [kind.replace(" ", "_") for kind in KINDS]
    cards = [f"images_on_{card}_gib" for card in CARDS]
    columns = ["row", "gib", "bounded_gib", "twice_gib", *kinds, "peak_at", "bounded_peak_at", *cards]
    return frame(lines, columns, text=["row", "peak_at", "bounded_peak_at"])


def largest_batch(record: Record, card: float) -> int:
    """Images of a step with bounded losses that fit on a card of so many GiB, from the peaks at two batches."""
    each = (record["twice"] - record["bounded"]) / record["batch"]
    fixed = record["bounded"] - each * record["batch"]
    return max(0, int(((card - ALLOWANCE) * GIB - fixed) // each))


def beside(records: Sequence[Record]) -> pd.DataFrame:
    """A line for each claim of Table 8 on memory: the paper's difference in GB, ours in GiB as predicted."""
    found = {record["quoted"]: record for record in records if record.get("quoted") and "plain" in record}
    lines = [
        _judged(claim, found)
        for claim in claims(TABLE)
        if claim.column == COLUMN and {claim.better, claim.worse} <= {*found}
    ]
    return frame(lines, ["claim", "quoted", "predicted", "outcome"], text=["claim", "outcome"])


def _judged(claim: Claim, found: Mapping[str, Record]) -> dict[str, object]:
    difference = (found[claim.better]["plain"] - found[claim.worse]["plain"]) / GIB
    outcome = AGREES if difference * claim.sign > 0 else DISAGREES
    return {"claim": claim.text, "quoted": claim.quoted, "predicted": difference, "outcome": outcome}


def checked(verified: Sequence[Record]) -> pd.DataFrame:
    """A line for each verified row: GiB predicted for a CPU, GiB counted there, the ratio, or why there is none."""
    lines = [
        {
            "row": record["name"],
            "predicted_gib": record["predicted"] / GIB if "predicted" in record else None,
            "measured_gib": record["measured"] / GIB if "measured" in record else None,
            "ratio": record["predicted"] / record["measured"] if "measured" in record else None,
            "message": record.get("message", ""),
        }
        for record in verified
    ]
    return frame(lines, ["row", "predicted_gib", "measured_gib", "ratio", "message"], text=["row", "message"])


def files(
    records: Sequence[Record], verified: Sequence[Record], setting: Mapping[str, Any], command: str = ""
) -> dict[str, bytes]:
    """Every file of the report by name: pages, tables as CSV, and the plot."""
    made = {"memory.csv": csv(overview(records)).encode()}
    if verified:
        made["verified.csv"] = csv(checked(verified)).encode()
    if not beside(records).empty and _is_printed(setting):
        made["claims.csv"] = csv(beside(records)).encode()
    made |= {f"memory.{suffix}": data for suffix, data in draw(records).items()}
    text = "\n".join(_sections(records, verified, setting, command))
    made["report.md"] = text.encode()
    made["report.html"] = html.page(text, made, title=TITLE).encode()
    return made


def lines(records: Sequence[Record]) -> Iterator[str]:
    """The main table in plain text."""
    width = max([len(record["name"]) for record in records], default=0)
    yield f"{'row':<{width}}     GiB  bounded  peak at"
    for record in records:
        if "plain" in record:
            figures = f"{record['plain'] / GIB:7.2f}  {record['bounded'] / GIB:7.2f}"
            yield f"{record['name']:<{width}} {figures}  {record['place']}"
        else:
            yield f"{record['name']:<{width}}  {record['message']}"


def draw(records: Sequence[Record]) -> dict[str, bytes]:
    """Stacked bars of what the peak is made of, a row each, as files by suffix; {} without a row."""
    rows = [record for record in records if "plain" in record][::-1]
    if not rows:
        return {}
    with matplotlib.rc_context(drawing.STYLE):
        figure = drawing.canvas(1.6 + 0.34 * len(rows))
        axis = figure.subplots()
        left = [0.0] * len(rows)
        for index, kind in enumerate(KINDS):
            widths = [record["kinds"][kind] / GIB for record in rows]
            axis.barh(range(len(rows)), widths, left=left, color=drawing.COLOURS[index], height=0.7, label=kind)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(rows)), [record["name"] for record in rows])
        axis.set_xlabel("GiB at the peak (predicted)")
        axis.grid(axis="x", **drawing.GRID)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
        drawing.write_under(figure, "One training step; losses as they are written.")
        return drawing.files(figure)


def _sections(
    records: Sequence[Record], verified: Sequence[Record], setting: Mapping[str, Any], command: str
) -> Iterator[str]:
    yield f"# {TITLE}\n"
    yield (
        f"One training step of {words.count(setting['batch'], 'image')} of {setting['size']}x{setting['size']} pixels, "
        f"{setting['precision']}, {setting['optimizer']}"
        f"{', activations of each block recomputed' if setting['checkpointing'] else ''}: forward, loss, backward, "
        "optimiser. *Predicted* by tracing that very step on tensors without data. Counted are storages that something "
        f"refers to, with the temporaries of {setting['device']}: on cuda, dropout masks of a byte an element and "
        "fused products that hold no weights. Not counted are an operator's own work space, the allocator's rounding "
        "and what the driver keeps. *Bounded* computes the two segmentation terms of Eq. 7 without ever holding "
        "enlarged logits, as training does; the rivals' own losses have no bounded form.\n"
    )
    yield f"## {HEADING}\n"
    yield table(["row", "GiB", "GiB, bounded losses", *KINDS, "peak at"], _cells(records))
    yield "![what the peak is made of](memory.png)\n"
    if any("message" in record for record in records):
        yield bullets(f"{record['name']}: {record['message']}" for record in records if "message" in record)
    yield "## The largest batch that fits, predicted\n"
    yield (
        f"Images a step with bounded losses, on cards of so many GiB, less {ALLOWANCE:g} GiB for context, libraries "
        "and the allocator's slack, which differ from one machine to the next. From the peaks at two batches.\n"
    )
    fits = [
        [record["name"], *(str(largest_batch(record, card)) for card in CARDS)]
        for record in records
        if "plain" in record
    ]
    yield table(["row", *(f"{card} GiB" for card in CARDS)], fits)
    if verified:
        yield "## Is the prediction right?\n"
        yield (
            "The same step run on this machine's CPU, its allocations *measured* at malloc, against what is "
            "*predicted* for a CPU (float dropout masks, torch's own products).\n"
        )
        yield table(["row", "predicted, GiB", "measured, GiB", "predicted over measured"], _checked_cells(verified))
    if _is_printed(setting):
        yield from _beside_the_paper(records)
    if command:
        yield f"Command: `{command}`\n"


def _beside_the_paper(records: Sequence[Record]) -> Iterator[str]:
    found = beside(records)
    if found.empty:
        return
    yield "## Beside the paper\n"
    yield (
        "Each claim's difference: *quoted* in GB as printed, by a meter that the paper does not name, and *predicted* "
        "in GiB of live tensors. A printed figure holds more than tensors: CUDA's context, cuDNN's work space, the "
        "allocator's slack.\n"
    )
    rows = [
        [line["claim"], words.number(line["quoted"], "+.1f"), words.number(line["predicted"], "+.2f"), line["outcome"]]
        for _, line in found.iterrows()
    ]
    yield table(["claim", "quoted, GB", "predicted, GiB", "outcome"], rows)
    yield bullets(_gaps(records))
    yield from background.quoted(TABLE)


def _gaps(records: Sequence[Record]) -> Iterator[str]:
    """For each printed figure, how far it lies from the live tensors."""
    for record in records:
        if record.get("quoted") and "plain" in record:
            printed = paper.figure(TABLE, record["quoted"], COLUMN).value
            if printed is not None:
                gap = printed - record["plain"] / GIB
                word = "above" if gap > 0 else "below"
                yield f"{record['name']}: the printed figure lies {abs(gap):.1f} {word} the predicted live tensors."


def _is_printed(setting: Mapping[str, Any]) -> bool:
    return all(setting[name] == value for name, value in PRINTED.items())


def _cells(records: Sequence[Record]) -> Iterator[list[str]]:
    for record in records:
        if "plain" in record:
            figures = [record["plain"], record["bounded"], *(record["kinds"][kind] for kind in KINDS)]
            yield [record["name"], *(f"{figure / GIB:.2f}" for figure in figures), record["place"]]


def _checked_cells(verified: Sequence[Record]) -> Iterator[list[str]]:
    for record in verified:
        if "measured" in record:
            ratio = record["predicted"] / record["measured"]
            yield [
                record["name"],
                f"{record['predicted'] / GIB:.3f}",
                f"{record['measured'] / GIB:.3f}",
                f"{ratio:.4f}",
            ]
        else:
            yield [record["name"], DASH, DASH, record["message"]]
