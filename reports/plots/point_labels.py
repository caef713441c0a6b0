"""Names beside the marks of a plot, in the colours of their series, where they hide least.

Many or long names are numbered instead, and listed above the plot.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import BoxStyle
from matplotlib.transforms import Bbox

from reports.plots import style
from unept.utils.visible_text import single_line

MAX_NAMES = 10  # more than these are numbered
MAX_NAME_LETTERS = 20  # letters; longer ones are numbered
RADII = (13, 24, 38, 54, 74, 96)  # points from a mark to its name, nearest first
ANGLES = (0, 180, 90, 270, 45, 315, 135, 225, 22, 338, 158, 202, 67, 293, 113, 247)  # degrees, best first
AMBIGUITY_COST = 1e4  # cost of a name nearer to another's mark than to its own: that of covering 10 square pixels
LEADER_DISTANCE = 16  # points; a name farther off has a line to its mark
HALF_MARK = 6  # points; half the side of a mark


@dataclass(frozen=True, kw_only=True)
class PointLabel:
    """Label of a mark: its text, the index of its series, and the mark's position in data units."""

    index: int
    name: str
    point: tuple[float, float]


def point_label_texts(variants: Sequence[str]) -> dict[str, str]:
    """Return the label of each variant's mark: its name, or its number where names do not fit."""
    if len(variants) <= MAX_NAMES and max(map(len, variants), default=0) <= MAX_NAME_LETTERS:
        return {variant: single_line(variant) for variant in variants}
    return {variant: str(number) for number, variant in enumerate(variants, 1)}


def numbered_names(names: Mapping[str, str]) -> list[str]:
    """Return the legend lines of the numbers of `point_label_texts`; [] where the labels are the names."""
    short = all(label == single_line(name) for name, label in names.items())
    return [] if short else [f"{label}  {single_line(name)}" for name, label in names.items()]


def write_numbered_legend(figure: Figure, lines: Sequence[str], columns: int) -> None:
    """Write the lines of `numbered_names` above the plot, each with the mark of its series."""
    handles = [
        Line2D([], [], linestyle="none", markersize=7, **style.series_style(index)) for index in range(len(lines))
    ]
    figure.legend(
        handles, lines, loc="outside upper center", ncols=columns, fontsize=10, handletextpad=0.1, labelspacing=0.3
    )


def write_point_labels(
    axis: Axes, labels: Sequence[PointLabel], *, others: Sequence[tuple[float, float]] = (), faint: Sequence[Bbox] = ()
) -> None:
    """Write each label beside its mark, the marks with the least free space first.

    Args:
        axis: Axes at their final position: call `figure.draw_without_rendering()` first.
        labels: Labels to write.
        others: Positions of marks without a label, data units.
        faint: Boxes, in pixels, that labels may cover where they must.
    """
    scale = pixels_per_point(axis)
    marks = [axis.transData.transform(label.point) for label in labels]
    bare = [axis.transData.transform(point) for point in others]
    taken = [box_around(mark, HALF_MARK * scale, HALF_MARK * scale) for mark in [*marks, *bare]]
    frame = axis.get_window_extent()
    for order in sorted(range(len(labels)), key=lambda order: (_nearest(marks, order), labels[order].index)):
        label, mark = labels[order], marks[order]
        text = axis.text(0, 0, label.name, fontsize=10.5)
        size = text.get_window_extent()
        text.remove()
        strangers = [*marks[:order], *marks[order + 1 :]]
        offset = best_offset((size.width + 2, size.height + 2), mark, scale, frame, taken, faint, strangers)
        taken.append(box_around(mark + offset, size.width / 2 + 1, size.height / 2 + 1))
        far = math.hypot(*offset) - size.width / 2 * abs(offset[0]) / math.hypot(*offset) > LEADER_DISTANCE * scale
        line = {"arrowstyle": "-", "color": "#777777", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 5}
        note = axis.annotate(
            label.name,
            label.point,
            xytext=tuple(offset / scale),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10.5,
            color=style.series_text_colour(label.index),
            zorder=4,
            arrowprops=line if far else None,
            bbox={"boxstyle": BoxStyle("Square", pad=0.08), "facecolor": "white", "alpha": 0.75, "linewidth": 0},
        )
        note.set_in_layout(False)


def best_offset(
    size: tuple[float, float],
    mark: Any,
    scale: float,
    frame: Bbox,
    taken: Sequence[Bbox],
    faint: Sequence[Bbox],
    others: Sequence[Any] = (),
) -> Any:
    """Return the offset, in pixels, from a mark to the middle of its label at the position that covers least.

    Covering what is `taken` counts most, then leaving the `frame`, then standing nearer to one of the `others` than
    to the own mark, then covering what is `faint`, then distance.

    Args:
        size: Width and height of the label, pixels.
        mark: Position of the mark, pixels.
        scale: Pixels per point.
        frame: Box that the label should stay in.
        taken: Boxes of marks and other labels.
        faint: Boxes of seeds' dots and intervals.
        others: Positions of the other marks, pixels.
    """
    width, height = size
    solid, soft, edge = (_extents(boxes) for boxes in (taken, faint, [frame]))
    best, lowest = np.zeros(2), math.inf
    for order, (radius, angle) in enumerate(itertools.product(RADII, ANGLES)):
        along = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
        offset = along * radius * scale + along * [width / 2, height / 2]
        name = box_around(mark + offset, width / 2, height / 2)
        cost = 1e3 * _covered(name, solid) + 300 * (width * height - _covered(name, edge))
        if any(_apart(name, other) < _apart(name, mark) for other in others):
            cost += AMBIGUITY_COST
        cost += 2 * _covered(name, soft) + order + 3 * radius
        if cost < lowest - 1e-6:
            best, lowest = offset, cost
    return best


def pixels_per_point(axis: Axes) -> float:
    """Return the pixels of one typographic point."""
    figure = axis.get_figure()
    assert figure is not None
    return figure.dpi / 72


def box_around(middle: Any, half_width: float, half_height: float) -> Bbox:
    """Return a box around its middle."""
    x, y = middle
    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])


def _nearest(marks: Sequence[Any], index: int) -> float:
    """Distance from one mark to the next, to the pixel."""
    others = [math.dist(mark, marks[index]) for other, mark in enumerate(marks) if other != index]
    return round(min(others, default=0.0))


def _apart(name: Bbox, point: Any) -> float:
    """Distance from a box to a point outside it; 0 within."""
    x, y = point
    return math.hypot(max(name.x0 - x, x - name.x1, 0.0), max(name.y0 - y, y - name.y1, 0.0))


def _extents(boxes: Sequence[Bbox]) -> npt.NDArray[np.float64]:
    """Return left, lower, right and upper edge of each box, float64 (n, 4)."""
    return np.array([box.extents for box in boxes], dtype=np.float64).reshape(-1, 4)


def _covered(name: Bbox, boxes: npt.NDArray[np.float64]) -> float:
    """Sum of the areas that a box shares with each of `boxes`."""
    x0, y0, x1, y1 = name.extents
    width = np.minimum(x1, boxes[:, 2]) - np.maximum(x0, boxes[:, 0])
    height = np.minimum(y1, boxes[:, 3]) - np.maximum(y0, boxes[:, 1])
    return float((width.clip(0) * height.clip(0)).sum())
