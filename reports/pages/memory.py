"""Report of a training step's peak memory: predicted for each row, verified where asked, beside Table 8.

A record is the plain dictionary of `bench.profiling.memory.table`, with `quoted`, the row's name in Table 8 or "".
Masked forms have records too, of the peak alone; they appear only beside the paper's figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.units import GIB, count_of
from reports.formats import html, numbers
from reports.formats.data_frames import frame_to_csv, make_frame
from reports.formats.markdown import DASH, bullet_list, code_span, heading, markdown_table
from reports.pages import memory_claims
from reports.plots import memory as plots
from reports.plots.memory import KINDS

Record = Mapping[str, Any]
GPU_SIZES = (8, 11, 16, 24, 40, 80)  # GiB
RESERVED_GIB = 1.0  # GiB of a card that a step cannot have: context, libraries, the allocator's slack
TITLE = "Peak memory of a training step"
HEADING = "Live tensors, predicted: a lower bound of what a GPU shows"
PAPER_SETTING = {"batch": 2, "size": 480, "precision": "fp32", "optimizer": "adamw", "checkpointing": False}


def memory_frame(records: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per row: GiB at the peak with plain and bounded losses, and its parts by kind."""
    lines = [
        {
            "row": record["name"],
            "gib": record["plain"] / GIB,
            "bounded_gib": record["bounded"] / GIB,
            "twice_gib": record["twice"] / GIB,
            **{kind.replace(" ", "_"): record["kinds"][kind] / GIB for kind in KINDS},
            "peak_at": record["place"],
            "bounded_peak_at": record["place_bounded"],
            **{f"images_on_{card}_gib": largest_batch(record, card) for card in GPU_SIZES if "batch" in record},
        }
        for record in records
        if "plain" in record
    ]
    kinds = [kind.replace(" ", "_") for kind in KINDS]
    cards = [f"images_on_{card}_gib" for card in GPU_SIZES]
    columns = ["row", "gib", "bounded_gib", "twice_gib", *kinds, "peak_at", "bounded_peak_at", *cards]
    return make_frame(lines, columns, text=["row", "peak_at", "bounded_peak_at"])


def largest_batch(record: Record, card: float) -> int:
    """Return the images of a step with bounded losses that fit on a GPU of `card` GiB, from the peaks at two batch
    sizes.
    """
    per_image = (record["twice"] - record["bounded"]) / record["batch"]
    fixed = record["bounded"] - per_image * record["batch"]
    return max(0, int(((card - RESERVED_GIB) * GIB - fixed) // per_image))


def verified_frame(verified: Sequence[Record]) -> pd.DataFrame:
    """Return a frame with a line per verified row: GiB predicted and measured, their ratio, or the reason for none."""
    lines = [
        {
            "row": record["name"],
            "predicted_gib": _gib(record.get("predicted")),
            "measured_gib": _gib(record.get("measured")),
            "ratio": record["predicted"] / record["measured"] if "measured" in record else None,
            "message": record.get("message", ""),
            **_card(record.get("card", {})),
        }
        for record in verified
    ]
    columns = ["row", "predicted_gib", "measured_gib", "ratio", "message"]
    more = [*_card({})] if any("card" in record for record in verified) else []
    return make_frame(lines, [*columns, *more], text=["row", "message", *more[:1], *more[-2:]])


def _card(card: Record) -> dict[str, Any]:
    """Measurements of a CUDA GPU, in the columns of a CSV."""
    figures = {f"card_{name}_gib": _gib(card.get(name)) for name in ("predicted", "allocated", "reserved", "nvml")}
    benchmark = {None: "", True: "on", False: "off"}[card.get("cudnn_benchmark")]
    note = card.get("message") or card.get("reason") or ""
    return {"card": card.get("gpu", ""), **figures, "cudnn_benchmark": benchmark, "card_note": note}


def _gib(number: int | None) -> float | None:
    return None if number is None else number / GIB


def memory_report_files(
    records: Sequence[Record],
    verified: Sequence[Record],
    setting: Mapping[str, Any],
    command: str = "",
    masked: Sequence[Record] = (),
    spent: Mapping[str, Any] | None = None,
) -> dict[str, bytes]:
    """Return every file of the report by name: pages, tables as CSV, and the plot.

    Args:
        records: Predicted rows.
        verified: Rows that were run and measured.
        setting: The step: batch, size, precision, optimizer, checkpointing, device.
        command: Command line to print; "" for none.
        masked: Records of the masked forms.
        spent: Seconds, cores and resident GiB of the prediction itself.
    """
    both = [*records, *masked]
    made = {"memory.csv": frame_to_csv(memory_frame(records)).encode()}
    if verified:
        made["verified.csv"] = frame_to_csv(verified_frame(verified)).encode()
    if is_paper_setting(setting):
        tables = {
            "claims.csv": memory_claims.memory_differences_frame(both),
            "statements.csv": memory_claims.memory_statements_frame(both),
        }
        made |= {name: frame_to_csv(table).encode() for name, table in tables.items() if not table.empty}
    made |= {f"memory.{suffix}": data for suffix, data in plots.draw_memory(records).items()}
    text = "\n".join(_sections(records, verified, setting, command, masked, spent))
    made["report.md"] = text.encode()
    made["report.html"] = html.html_page(text, made, title=TITLE).encode()
    return made


def memory_lines(records: Sequence[Record]) -> Iterator[str]:
    """Yield the main table in plain text."""
    width = max([len(record["name"]) for record in records], default=0)
    yield f"{'row':<{width}}     GiB  bounded  peak at"
    for record in records:
        if "plain" in record:
            figures = f"{record['plain'] / GIB:7.2f}  {record['bounded'] / GIB:7.2f}"
            yield f"{record['name']:<{width}} {figures}  {record['place']}"
        else:
            yield f"{record['name']:<{width}}  {record['message']}"


def _sections(
    records: Sequence[Record],
    verified: Sequence[Record],
    setting: Mapping[str, Any],
    command: str,
    masked: Sequence[Record],
    spent: Mapping[str, Any] | None,
) -> Iterator[str]:
    yield f"# {TITLE}\n"
    yield (
        f"One training step of {count_of(setting['batch'], 'image')} of {setting['size']}x{setting['size']} "
        f"pixels, {setting['precision']}, {setting['optimizer']}"
        f"{', activations of each block recomputed' if setting['checkpointing'] else ''}: forward, loss, backward, "
        "optimiser. *Predicted* figures come from tracing this step on tensors without data. They count every live "
        f"storage, with the temporaries of {setting['device']}. On cuda, a dropout mask has one byte per element, and "
        "fused products keep no attention weights. They do not count an operator's own work space, the allocator's "
        "rounding or the driver's memory. *Bounded* losses, as in training, never hold the upsampled logits of the two "
        "segmentation terms of Eq. 7, nor those of the published networks' cross-entropies.\n"
    )
    yield f"## {HEADING}\n"
    yield markdown_table(["row", "GiB", "GiB, bounded losses", *KINDS, "peak at"], _cells(records))
    yield "![what the peak is made of](memory.png)\n"
    if any("message" in record for record in records):
        yield bullet_list(f"{record['name']}: {record['message']}" for record in records if "message" in record)
    yield "## The largest batch that fits, predicted\n"
    yield (
        f"Images per step with bounded losses, by the size of the GPU. {RESERVED_GIB:g} GiB is reserved for context, "
        "libraries and the allocator's slack, which differ between machines. The figures are extrapolated from the "
        "peaks at two batch sizes.\n"
    )
    fits = [
        [record["name"], *(str(largest_batch(record, card)) for card in GPU_SIZES)]
        for record in records
        if "plain" in record
    ]
    yield markdown_table(["row", *(f"{card} GiB" for card in GPU_SIZES)], fits)
    if verified:
        yield from _is_it_right(verified)
    if is_paper_setting(setting):
        yield from memory_claims.memory_claims_section([*records, *masked])
    if spent:
        resident = "" if spent["resident_gib"] is None else f", at most {spent['resident_gib']:.1f} GiB resident"
        cores = count_of(spent["cores"], "core")
        yield f"Predicting took {spent['seconds']:.0f} s on {cores}{resident}, all processes together (measured).\n"
    if command:
        yield f"Command: {code_span(command)}\n"


def _is_it_right(verified: Sequence[Record]) -> Iterator[str]:
    yield "## Is the prediction right?\n"
    yield (
        "The same step ran on this machine's CPU, and its allocations were *measured* at malloc. *Predicted* figures "
        "are those for a CPU (float dropout masks, torch's own products).\n"
    )
    yield markdown_table(
        ["row", "predicted, GiB", "measured, GiB", "predicted over measured"], _checked_cells(verified)
    )
    cards = [record for record in verified if "card" in record]
    if not cards:
        return
    gpus = ", ".join(dict.fromkeys(record["card"]["gpu"] for record in cards if "gpu" in record["card"]))
    yield heading(f"What the card shows: {gpus or 'nothing'}")
    yield (
        "Each row is *measured* in a fresh process with cudnn.benchmark off. *Allocated* counts torch's tensors with "
        "the allocator's rounding. *Reserved* is the memory that the allocator holds. *NVML* is the memory of the "
        "process, context and libraries included. *Predicted* figures are those for CUDA.\n"
    )
    columns = ["row", "predicted, GiB", "allocated, GiB", "reserved, GiB", "NVML, GiB", "predicted over allocated"]
    yield markdown_table([*columns, "note"], _card_cells(cards))


def is_paper_setting(setting: Mapping[str, Any]) -> bool:
    """Return True if the step is that of the paper's Table 8."""
    return all(setting[name] == value for name, value in PAPER_SETTING.items())


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


def _card_cells(cards: Sequence[Record]) -> Iterator[list[str]]:
    for record in cards:
        card = record["card"]
        known = "allocated" in card
        figures = [
            numbers.format_number(_gib(card.get(name)), ".3f")
            for name in ("predicted", "allocated", "reserved", "nvml")
        ]
        ratio = f"{card['predicted'] / card['allocated']:.4f}" if known else DASH
        note = card.get("message") or card["reason"]
        yield [
            record["name"],
            *figures,
            ratio,
            f"{note}{'; ' * bool(note)}backend {card['backend']}" if known else note,
        ]
