"""Plot of `unept-bench attention`: time and memory of each other implementation over ours."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.plots import style

PHASES = ("forward", "forward+backward")
KINDS = ("time", "memory")


def draw_attention(rows: pd.DataFrame, caption: str) -> dict[str, bytes]:
    """Return the plot by file name, PNG and SVG; {} where nothing was compared."""
    ratios = rows[(rows["quantity"] == "ratio") & rows["phase"].isin(PHASES)].copy()
    if ratios.empty:
        return {}
    ratios["kind"] = ratios["malloc"].eq("counted").map({True: "memory", False: "time"})
    ratios["at"] = ratios["part"] + ": " + ratios["side"]
    names = list(ratios["at"].drop_duplicates())
    shapes = list(ratios["shape"].drop_duplicates())
    with style.plot_style({"font.size": 9.5, "axes.titlesize": 9.5}):
        figure = style.new_figure(1.7 + 0.42 * len(names))
        panels = figure.subplots(1, len(KINDS), sharey=True)
        for panel, kind in zip(panels, KINDS, strict=True):
            _panel(panel, ratios[ratios["kind"] == kind], names, shapes)
            panel.set_title(kind)
            panel.set_xlabel("times ours")
        handles, labels = max((panel.get_legend_handles_labels() for panel in panels), key=lambda both: len(both[1]))
        figure.legend(handles, labels, loc="outside upper center", ncols=2)
        style.write_caption(figure, caption)
        return {f"attention.{suffix}": data for suffix, data in style.figure_files(figure).items()}


def _panel(panel: Axes, ratios: pd.DataFrame, names: list[str], shapes: list[str]) -> None:
    series = [(shape, phase) for shape in shapes for phase in PHASES]
    for index, (shape, phase) in enumerate(series):
        one = ratios[(ratios["shape"] == shape) & (ratios["phase"] == phase)]
        if one.empty:
            continue
        heights = [names.index(name) + 0.16 * (index - (len(series) - 1) / 2) for name in one["at"]]
        panel.hlines(heights, one["q1"], one["q3"], color=style.series_style(index)["color"], linewidth=1.4)
        label = f"{shape}, {phase.replace('+', ' + ')}"
        panel.plot(one["value"], heights, linestyle="none", markersize=5, label=label, **style.series_style(index))
    panel.axvline(1, color=style.GREY, linewidth=0.8)
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.grid(axis="x", **style.GRID_STYLE)
