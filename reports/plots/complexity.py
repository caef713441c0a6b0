"""Operations against parameters: a mark a network, in both conventions of counting."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.plots import point_labels, style

COLUMNS = 2  # of the list of names above the plot
CAPTION = (
    "Filled: every convolution, matrix product, attention product and sampling. Hollow: what the paper's tool counts, "
    "by module. Derived, one picture in evaluation mode."
)


@dataclass(frozen=True, kw_only=True)
class ComplexityMark:
    """One network: parameters in millions, and GMACs in both conventions; None where it was not counted so."""

    name: str
    parameters: float
    gmacs: float
    module_gmacs: float | None


def complexity_mark(name: str, counts: Mapping[str, Any]) -> ComplexityMark:
    """Return the mark of a record, or of the metrics of a cost row, that has `parameters` and `gmacs`."""
    return ComplexityMark(
        name=name,
        parameters=counts["parameters"] / 1e6,
        gmacs=counts["gmacs"],
        module_gmacs=counts.get("module_gmacs"),
    )


def draw_complexity(marks: Sequence[ComplexityMark]) -> dict[str, bytes]:
    """Return the plot by suffix, `png` and `svg`; {} without a mark."""
    if not marks:
        return {}
    names = point_labels.point_label_texts([mark.name for mark in marks])
    numbered = point_labels.numbered_names(names)
    with style.plot_style():
        figure = style.new_figure(4.6 + 0.24 * math.ceil(len(numbered) / COLUMNS))
        axis = figure.subplots()
        for index, mark in enumerate(marks):
            _draw(axis, mark, style.series_style(index))
        axis.set_xlabel("parameters, M (derived)")
        axis.set_ylabel("GMACs of one picture (derived)")
        parameters = [mark.parameters for mark in marks]
        axis.set_xscale("log")
        axis.set_xlim(0.8 * min(parameters), 1.25 * max(parameters))
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 3, 5)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_ylim(0, 1.12 * max(max(mark.gmacs, mark.module_gmacs or 0) for mark in marks))
        axis.grid(**style.GRID_STYLE)
        style.write_caption(figure, CAPTION)
        if numbered:
            point_labels.write_numbered_legend(figure, numbered, COLUMNS)
        figure.draw_without_rendering()  # puts the axes where they will be, so that names can be placed in points
        hollow = [(mark.parameters, mark.module_gmacs) for mark in marks if mark.module_gmacs is not None]
        point_labels.write_point_labels(
            axis, [_named(mark, index, names) for index, mark in enumerate(marks)], others=hollow
        )
        return style.figure_files(figure)


def _draw(axis: Axes, mark: ComplexityMark, look: dict[str, Any]) -> None:
    if mark.module_gmacs is not None:
        axis.plot([mark.parameters] * 2, [mark.module_gmacs, mark.gmacs], color=look["color"], linewidth=1)
        axis.plot(mark.parameters, mark.module_gmacs, **look, markersize=8, markerfacecolor="white", zorder=2)
    axis.plot(mark.parameters, mark.gmacs, **look, markersize=9, markeredgecolor="white", mew=0.6, zorder=3)


def _named(mark: ComplexityMark, index: int, names: Mapping[str, str]) -> point_labels.PointLabel:
    """A network's name or number, for beside its filled mark."""
    return point_labels.PointLabel(index=index, name=names[mark.name], point=(mark.parameters, mark.gmacs))
