"""Accuracy against what it costs: mIoU against operations and against peak memory, a panel each.

A small dot is a seed, a large mark the mean with its 95 % interval. Names stand beside their marks, moved to where
they hide nothing; many or long names are numbered and listed under the panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import BoxStyle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from bench.statistics import Summary, summarise
from reports import drawing, rows
from reports.rows import Study

COSTS: Mapping[str, tuple[str, str]] = {
    "gmacs": ("GMACs of one picture (derived)", "number of operations"),
    "peak_rss_gib": ("peak memory, GiB (measured)", "peak memory"),
}
MOST_NAMES = 10  # more variants than these are numbered
LONGEST_NAME = 20  # letters; longer ones are numbered
WIDE_RANGE = 8  # costs that differ by this factor stand on a logarithmic axis
RADII = (13, 24, 38, 54, 74, 96)  # points from a mark to its name, nearest first
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)  # degrees, best first
MISTAKEN = 1e4  # cost of a name nearer to another's mark than to its own: that of covering 10 square pixels
NEAR = 16  # points; a name farther off has a line to its mark


@dataclass(frozen=True, kw_only=True)
class Point:
    """A variant in one panel: its place among the study's variants, cost, and mIoU in percent points by seed."""

    index: int
    variant: str
    cost: float
    values: Mapping[int, float]

    @property
    def summary(self) -> Summary:
        """Mean and interval of the values."""
        return summarise(list(self.values.values()))


def draw(study: Study, caption: str) -> dict[str, bytes]:
    """The plot as files by suffix, `png` and `svg`; {} where no variant has both an mIoU and a cost."""
    panels = {name: found for name in COSTS if (found := points(study, name))}
    if not panels:
        return {}
    names = labels(study.variants)
    numbered = [f"{name}  {variant}" for variant, name in names.items() if name != variant]
    columns = max(1, min(3, 72 // (max(map(len, numbered)) + 5))) if numbered else 1
    with matplotlib.rc_context(drawing.STYLE):
        figure = drawing.canvas(0.5 + 3.5 * len(panels) + 0.24 * math.ceil(len(numbered) / columns))
        axes = figure.subplots(len(panels), sharey=True, squeeze=False)[:, 0]
        for axis, (name, found) in zip(axes, panels.items(), strict=True):
            _panel(axis, found, name, study.seeds)
        everything = [point for found in panels.values() for point in found]
        values = [value for point in everything for value in point.values.values()]
        axes[0].set_ylim(*drawing.room(values, [point.summary for point in everything]))
        drawing.write_under(figure, "\n".join([caption, *_left_out(study, panels)]))
        if numbered:
            _list(figure, study.variants, numbered, columns)
        figure.draw_without_rendering()  # puts the axes where they will be, so that names can be placed in points
        for axis, found in zip(axes, panels.values(), strict=True):
            _name(axis, found, names)
        return drawing.files(figure)


def points(study: Study, cost: str) -> list[Point]:
    """The variants that have a positive cost of this name and at least one mIoU."""
    found = []
    for index, variant in enumerate(study.variants):
        value = rows.number(study.measures.get(variant, {}), "metrics", cost)
        scores = {rows.seed(run): rows.values([run], "miou") for run in study.of(variant)}
        known = {seed: 100 * score[0] for seed, score in scores.items() if score}
        if value is not None and value > 0 and known:
            found.append(Point(index=index, variant=variant, cost=value, values=known))
    return found


def labels(variants: Sequence[str]) -> dict[str, str]:
    """What stands beside the mark of each variant: its name, or its number where names would not fit."""
    if len(variants) <= MOST_NAMES and max(map(len, variants), default=0) <= LONGEST_NAME:
        return {variant: variant for variant in variants}
    return {variant: str(number) for number, variant in enumerate(variants, 1)}


def _left_out(study: Study, panels: Mapping[str, Sequence[Point]]) -> Iterator[str]:
    for name, (_, words) in COSTS.items():
        drawn = {point.variant for point in panels.get(name, ())}
        absent = [variant for variant in study.variants if variant not in drawn]
        if absent:
            which = "all variants" if not drawn else ", ".join(absent)
            yield f"Not drawn against {words}, for want of a value: {which}."


def _panel(axis: Axes, found: Sequence[Point], cost: str, seeds: Sequence[int]) -> None:
    figure = axis.get_figure()
    assert figure is not None
    for point in found:
        look = drawing.look(point.index)
        colour, summary = look["color"], point.summary
        for rank, seed in enumerate(seeds):
            aside = ScaledTranslation(6 * drawing.jitter(rank, len(seeds)) / 72, 0, figure.dpi_scale_trans)
            value = [point.values[seed]] if seed in point.values else []
            place: dict[str, Any] = {"transform": axis.transData + aside, "markersize": 4.5, "alpha": 0.5}
            axis.plot([point.cost] * len(value), value, **look, **place, markeredgewidth=0, linestyle="none")
        if summary.low is not None and summary.high is not None:
            axis.plot([point.cost] * 2, [summary.low, summary.high], color=colour, linewidth=1.8)
        assert summary.mean is not None, "a point has values"
        axis.plot(point.cost, summary.mean, **look, markersize=10, markeredgecolor="white", mew=0.6, zorder=3)
    costs = [point.cost for point in found]
    _scale(axis, min(costs), max(costs))
    axis.set_xlabel(COSTS[cost][0])
    axis.set_ylabel("mIoU, % (measured)")
    axis.grid(axis="y", **drawing.GRID)


def _scale(axis: Axes, least: float, most: float) -> None:
    """Room beside the marks for their names; logarithmic where costs differ much."""
    if most / least >= WIDE_RANGE:
        axis.set_xscale("log")
        beside = (most / least) ** 0.12
        axis.set_xlim(least / beside, most * beside)
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most / least < 300 else (1,)))
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        beside = max(0.14 * (most - least), 0.02 * most)
        axis.set_xlim(max(0, least - beside), most + beside)
        axis.xaxis.set_major_locator(MaxNLocator(6))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _list(figure: Figure, variants: Sequence[str], numbered: Sequence[str], columns: int) -> None:
    looks = [drawing.look(index) for index in range(len(variants))]
    handles = [Line2D([], [], linestyle="none", markersize=7, **look) for look in looks]
    figure.legend(
        handles, numbered, loc="outside upper center", ncols=columns, fontsize=10, handletextpad=0.1, labelspacing=0.3
    )


# --- names beside their marks -----------------------------------------------------------------------------------------


def _name(axis: Axes, found: Sequence[Point], names: Mapping[str, str]) -> None:
    """Write each point's name where it hides least, the points with the least room first."""
    figure = axis.get_figure()
    assert figure is not None
    scale = figure.dpi / 72
    means = {point.index: point.summary.mean or 0.0 for point in found}
    marks = {point.index: axis.transData.transform((point.cost, means[point.index])) for point in found}
    frame = axis.get_window_extent()
    taken = [_box(mark, 6 * scale, 6 * scale) for mark in marks.values()]
    faint = list(_faint(axis, found, scale))
    for point in sorted(found, key=lambda point: (_nearest(marks, point.index), point.index)):
        text = axis.text(0, 0, names[point.variant], fontsize=10.5)
        size = text.get_window_extent()
        text.remove()
        mark = marks[point.index]
        others = [other for index, other in marks.items() if index != point.index]
        offset = place_name((size.width + 2, size.height + 2), mark, scale, frame, taken, faint, others)
        taken.append(_box(mark + offset, size.width / 2 + 1, size.height / 2 + 1))
        far = math.hypot(*offset) - size.width / 2 * abs(offset[0]) / math.hypot(*offset) > NEAR * scale
        line = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
        note = axis.annotate(
            names[point.variant],
            (point.cost, means[point.index]),
            xytext=tuple(offset / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10.5,
            color=drawing.ink(point.index),
            zorder=4,
            arrowprops=line if far else None,
            bbox={"boxstyle": BoxStyle("Square", pad=0.08), "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
        note.set_in_layout(False)


def place_name(
    size: tuple[float, float],
    mark: Any,
    scale: float,
    frame: Bbox,
    taken: Sequence[Bbox],
    faint: Sequence[Bbox],
    others: Sequence[Any] = (),
) -> Any:
    """From `mark` (pixels) to the middle of a name of this `size` (pixels): the place that covers least.

    Covering what is `taken` (marks, other names) counts most, then leaving the `frame`, then standing nearer to one of
    the `others` (their marks, pixels) than to its own, then covering what is `faint` (seeds, intervals), then distance.
    `scale` is in pixels a point.
    """
    width, height = size
    best, lowest = np.zeros(2), math.inf
    for order, (radius, angle) in enumerate(itertools.product(RADII, ANGLES)):
        along = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        offset = along * radius * scale + along * [width / 2, height / 2]
        box = _box(mark + offset, width / 2, height / 2)
        inside = _common(box, frame)
        cost = 1e3 * sum(_common(box, other) for other in taken) + 300 * (width * height - inside)
        if any(_apart(box, other) < _apart(box, mark) for other in others):
            cost += MISTAKEN
        cost += 2 * sum(_common(box, other) for other in faint) + order + 3 * radius
        if cost < lowest - 1e-6:
            best, lowest = offset, cost
    return best


def _faint(axis: Axes, found: Sequence[Point], scale: float) -> Iterator[Bbox]:
    """What names may cover where they must: seeds' dots and intervals."""
    for point in found:
        for value in point.values.values():
            yield _box(axis.transData.transform((point.cost, value)), 8 * scale, 3 * scale)
        low, high = point.summary.low, point.summary.high
        if low is not None and high is not None:
            ends = axis.transData.transform([(point.cost, low), (point.cost, high)])
            yield Bbox([[ends[0][0] - scale, ends[0][1]], [ends[1][0] + scale, ends[1][1]]])


def _nearest(marks: Mapping[int, Any], index: int) -> float:
    """Distance from one mark to the next, to the pixel."""
    others = [math.dist(mark, marks[index]) for other, mark in marks.items() if other != index]
    return round(min(others, default=0.0))


def _box(middle: Any, half_width: float, half_height: float) -> Bbox:
    x, y = middle
    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])


def _apart(box: Bbox, place: Any) -> float:
    """Distance from a box to a place outside it; 0 within."""
    x, y = place
    return math.hypot(max(box.x0 - x, x - box.x1, 0.0), max(box.y0 - y, y - box.y1, 0.0))


def _common(one: Bbox, other: Bbox) -> float:
    """Area that two boxes share."""
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return max(width, 0.0) * max(height, 0.0)
