"""Operations against parameters: a mark a network, in both conventions of counting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox

from reports import drawing
from reports.plots_cost import labels, place_name

COLUMNS = 2  # of the list of names above the plot
CAPTION = (
    "Filled: every convolution, matrix product, attention product and sampling. Hollow: what the paper's tool counts, "
    "by module. Derived, one picture in evaluation mode."
)


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One network: parameters in millions, and GMACs in both conventions; None where it was not counted so."""

    name: str
    parameters: float
    gmacs: float
    module_gmacs: float | None


def mark(name: str, counts: Mapping[str, Any]) -> Mark:
    """From a record, or the metrics of a row of measures, that has `parameters` and `gmacs`."""
    return Mark(
        name=name,
        parameters=counts["parameters"] / 1e6,
        gmacs=counts["gmacs"],
        module_gmacs=counts.get("module_gmacs"),
    )


def draw(marks: Sequence[Mark]) -> dict[str, bytes]:
    """The plot as files by suffix, `png` and `svg`; {} without a mark."""
    if not marks:
        return {}
    names = labels([found.name for found in marks])
    numbered = [f"{name}  {full}" for full, name in names.items() if name != full]
    with matplotlib.rc_context(drawing.STYLE):
        figure = drawing.canvas(4.6 + 0.24 * math.ceil(len(numbered) / COLUMNS))
        axis = figure.subplots()
        for index, found in enumerate(marks):
            _draw(axis, found, drawing.look(index))
        axis.set_xlabel("parameters, M (derived)")
        axis.set_ylabel("GMACs of one picture (derived)")
        parameters = [found.parameters for found in marks]
        axis.set_xscale("log")
        axis.set_xlim(0.8 * min(parameters), 1.25 * max(parameters))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(0, 1.12 * max(max(found.gmacs, found.module_gmacs or 0) for found in marks))
        axis.grid(**drawing.GRID)
        drawing.write_under(figure, CAPTION)
        if numbered:
            handles = [
                Line2D([], [], linestyle="none", markersize=7, **drawing.look(index)) for index in range(len(marks))
            ]
            figure.legend(handles, numbered, loc="outside upper center", ncols=COLUMNS, fontsize=10, labelspacing=0.3)
        figure.draw_without_rendering()  # puts the axes where they will be, so that names can be placed in points
        _name(axis, marks, names, figure.dpi / 72)
        return drawing.files(figure)


def _draw(axis: Axes, found: Mark, look: dict[str, Any]) -> None:
    if found.module_gmacs is not None:
        axis.plot([found.parameters] * 2, [found.module_gmacs, found.gmacs], color=look["color"], linewidth=1)
        axis.plot(found.parameters, found.module_gmacs, **look, markersize=8, markerfacecolor="white", zorder=2)
    axis.plot(found.parameters, found.gmacs, **look, markersize=9, markeredgecolor="white", mew=0.6, zorder=3)


def _name(axis: Axes, marks: Sequence[Mark], names: Mapping[str, str], scale: float) -> None:
    """Each network's name or number beside its filled mark, where it hides least."""
    frame = axis.get_window_extent()
    places = [axis.transData.transform((found.parameters, found.gmacs)) for found in marks]
    hollow = [
        axis.transData.transform((found.parameters, found.module_gmacs))
        for found in marks
        if found.module_gmacs is not None
    ]
    taken = [Bbox([[x - 6 * scale, y - 6 * scale], [x + 6 * scale, y + 6 * scale]]) for x, y in [*places, *hollow]]
    for index, (found, place) in enumerate(zip(marks, places, strict=True)):
        text = axis.text(0, 0, names[found.name], fontsize=10)
        size = text.get_window_extent()
        text.remove()
        others = [*places[:index], *places[index + 1 :]]
        offset = place_name((size.width + 2, size.height + 2), place, scale, frame, taken, [], others)
        x, y = place + offset
        half = size.width / 2 + 1, size.height / 2 + 1
        taken.append(Bbox([[x - half[0], y - half[1]], [x + half[0], y + half[1]]]))
        note = axis.annotate(
            names[found.name],
            (found.parameters, found.gmacs),
            xytext=tuple(offset / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            color=drawing.ink(index),
            zorder=4,
        )
        note.set_in_layout(False)
