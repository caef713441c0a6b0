"""The report's section on context: what share of it each variant recovers, and from how far."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from reports.analysis import protocol
from reports.analysis.study_rows import Study
from reports.formats import numbers
from reports.formats.markdown import DASH, heading, markdown_table

MAX_VARIANTS = 50  # a wider table of distances is left to the CSV file


def context_section(study: Study, frame: pd.DataFrame, curves: pd.DataFrame) -> Iterator[str]:
    """Yield the share of context recovered and the accuracy by distance.

    Args:
        study: Rows of the study.
        frame: Its `context_frame`.
        curves: Its `cue_distance_frame`.
    """
    if frame.empty:
        return
    yield heading(f"Context recovered, measured ({protocol.protocol_summary(study)})")
    yield (
        "Two classes of a pair look alike, and the emblem that an object's mark names decides between them. "
        "Share: (row - blind) / (told - blind) of the look-alike accuracy, over pixels given to a class of their pair. "
        "Half-range: the distance from the emblem at which the accuracy has fallen half the way from its highest value "
        "to chance. *Derived* rows are perfect but for the cue: blind never sees it, unplaced knows the colours of the "
        "boards and not which stands where, told knows it.\n"
    )
    lines = []
    for _, line in frame.iterrows():
        n = DASH if pd.isna(line["n"]) else str(line["n"])
        share = numbers.format_number(line["share"], ".1f")
        if not pd.isna(line["share_sd"]):
            share += f" ± {line['share_sd']:.1f}"
        cells = [f"{line['row']} (derived)" if line["kind"] == "derived" else line["row"], n]
        cells += [numbers.format_number(line["miou"], ".1f"), numbers.format_number(line["accuracy"], ".1f"), share]
        lines.append([*cells, numbers.format_interval(line["share_low"], line["share_high"]), _half_range(line)])
    columns = ["row", "n", "mIoU, %", "look-alike accuracy, %", "share of context, %", "95 % interval"]
    yield markdown_table([*columns, "half-range, px"], lines)
    yield "![look-alike accuracy against the distance of the emblem](cue_distance.png)\n"
    yield from _by_distance(curves)


def _by_distance(curves: pd.DataFrame) -> Iterator[str]:
    variants = [*dict.fromkeys(curves["variant"])]
    if len(variants) > MAX_VARIANTS:
        yield f"{len(variants)} variants: see cue_distance.csv.\n"
        return
    yield (
        "Look-alike accuracy by distance of the emblem, percent, with its 95 % interval: over seeds where there are "
        "two or more, else over pictures.\n"
    )
    lines = []
    for start, own in curves.groupby("distance_from_px"):
        by_variant = {line["variant"]: line for _, line in own.iterrows()}
        below = int(own["distance_below_px"].max()) - 1
        cells = [f"{start} to {below}"]
        for variant in variants:
            line = by_variant.get(variant)
            cells.append(DASH if line is None else _accuracy(line))
        lines.append(cells)
    yield markdown_table(["distance, px", *variants], lines)


def _accuracy(line: pd.Series) -> str:
    interval = "" if pd.isna(line["low"]) else f" ({line['low']:.0f} to {line['high']:.0f})"
    return f"{line['accuracy']:.1f}{interval}"


def _half_range(line: pd.Series) -> str:
    if not pd.isna(line["half_range_above_px"]):
        return f"above {line['half_range_above_px']:.0f}"
    if pd.isna(line["half_range_px"]):
        return DASH
    return "no cue used" if line["half_range_px"] == 0 else f"{line['half_range_px']:.0f}"
