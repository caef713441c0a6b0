"""Plots of a kernel benchmark: how many times faster at each shape, and the cost of a point along three axes."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from reports.plots import style

PHASES = ("forward", "forward+backward")
MALLOCS = ("tuned", "default")
OTHERS = ("mmcv", "reference", "torch-ms-deform-attn")
AXES = ("queries", "levels", "points")


def draw_kernels(rows: pd.DataFrame, caption: str) -> dict[str, bytes]:
    """Return the plots by file name, PNG and SVG; {} where nothing to draw was measured."""
    with style.plot_style({"font.size": 10.5, "axes.titlesize": 9.5}):
        made = {"kernels-ratios": _ratios(rows, caption), "kernels-scaling": _scaling(rows, caption)}
    return {f"{name}.{suffix}": data for name, files in made.items() for suffix, data in files.items()}


def _ratios(rows: pd.DataFrame, caption: str) -> dict[str, bytes]:
    ratios = rows[(rows["part"] == "operator") & (rows["quantity"] == "ratio")]
    if ratios.empty:
        return {}
    shapes = list(ratios["shape"].drop_duplicates())
    mallocs = [malloc for malloc in MALLOCS if malloc in set(ratios["malloc"])]
    figure = style.new_figure(1.6 + len(mallocs) * (0.8 + 0.34 * len(shapes)))
    panels = figure.subplots(len(mallocs), len(PHASES), sharex="row", sharey=True, squeeze=False)
    for line, malloc in zip(panels, mallocs, strict=True):
        for panel, phase in zip(line, PHASES, strict=True):
            _ratio_panel(panel, ratios[(ratios["malloc"] == malloc) & (ratios["phase"] == phase)], shapes)
            panel.set_title(f"{phase.replace('+', ' + ')}, {malloc} malloc")
    for panel in panels[-1]:
        panel.set_xlabel("times the native kernel's time")
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    style.write_caption(figure, caption)
    return style.figure_files(figure)


def _ratio_panel(panel: Axes, ratios: pd.DataFrame, shapes: list[str]) -> None:
    for index, side in enumerate(OTHERS):
        one = ratios[ratios["side"] == side].set_index("shape").reindex(shapes).dropna(subset=["value"])
        if one.empty:
            continue
        heights = [shapes.index(str(shape)) + 0.18 * (index - 1) for shape in one.index]
        panel.hlines(heights, one["q1"], one["q3"], color=style.series_style(index)["color"], linewidth=1.6)
        panel.plot(one["value"], heights, linestyle="none", markersize=6, label=side, **style.series_style(index))
    panel.axvline(1, color=style.GREY, linewidth=0.8)
    panel.set_yticks(range(len(shapes)), shapes)
    panel.set_ylim(len(shapes) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.grid(axis="x", **style.GRID_STYLE)


def _scaling(rows: pd.DataFrame, caption: str) -> dict[str, bytes]:
    times = rows[(rows["part"] == "scaling") & (rows["quantity"] == "core_ns_per_point")].copy()
    if times.empty:
        return {}
    times[["axis", "at"]] = times["shape"].str.split("=", expand=True)
    times["at"] = times["at"].astype(int)
    figure = style.new_figure(4.0)
    panels = figure.subplots(1, len(AXES), sharey=True)
    series = [(side, phase) for side in ("native", "reference") for phase in PHASES]
    for panel, axis in zip(panels, AXES, strict=True):
        for index, (side, phase) in enumerate(series):
            one = times[(times["axis"] == axis) & (times["side"] == side) & (times["phase"] == phase)].sort_values("at")
            if one.empty:
                continue
            look = style.series_style(index) | {"linestyle": style.DASHES[index % 2]}
            panel.plot(one["at"], one["value"], label=f"{side}, {phase.replace('+', ' + ')}", markersize=5, **look)
            panel.fill_between(one["at"], one["q1"], one["q3"], color=look["color"], alpha=0.2, linewidth=0)
        ticks = sorted(set(times.loc[times["axis"] == axis, "at"]))
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(ticks[:: 2 if len(ticks) > 5 or ticks[-1] > 999 else 1])
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.set_xlabel(axis)
        panel.grid(**style.GRID_STYLE)
    panels[0].set_ylabel("core-nanoseconds a sampling point")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2)
    style.write_caption(figure, caption)
    return style.figure_files(figure)
