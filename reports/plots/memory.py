"""The plot of what a training step holds at its peak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.units import GIB
from reports.plots import style

Record = Mapping[str, Any]
KINDS = ("parameters", "gradients", "optimizer state", "inputs", "activations", "temporaries")


def draw_memory(records: Sequence[Record]) -> dict[str, bytes]:
    """Return stacked bars of the peak's parts, a row each, by suffix; {} without a row."""
    rows = [record for record in records if "plain" in record][::-1]
    if not rows:
        return {}
    with style.plot_style():
        figure = style.new_figure(1.6 + 0.34 * len(rows))
        axis = figure.subplots()
        left = [0.0] * len(rows)
        for index, kind in enumerate(KINDS):
            widths = [record["kinds"][kind] / GIB for record in rows]
            axis.barh(range(len(rows)), widths, left=left, color=style.COLOURS[index], height=0.7, label=kind)
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axis.set_yticks(range(len(rows)), [record["name"] for record in rows])
        axis.set_xlabel("GiB at the peak (predicted)")
        axis.grid(axis="x", **style.GRID_STYLE)
        figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=10)
        style.write_caption(figure, "One training step; losses as they are written.")
        return style.figure_files(figure)
