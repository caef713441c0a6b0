"""Accuracy against what it costs: mIoU against predicted memory, operations and step time, a panel each.

A small dot is a seed, a large mark the mean with its 95 % interval. A ring and a dashed
line mark the front: variants than which no other has at least this mean at no more cost. Names stand beside their
marks, moved to where they hide nothing; many or long names are numbered and listed above the panels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox, ScaledTranslation

from bench.stats.seed_statistics import SampleSummary, summarize_sample
from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.plots import point_labels, style

COST_AXES: Mapping[str, tuple[str, str]] = {
    "step_memory_gib": ("memory of a training step, GiB (predicted)", "memory"),
    "target_memory_gib": ("memory of a training step at {size}, GiB (predicted)", "memory at {size}"),
    "gmacs": ("GMACs of one picture (derived)", "number of operations"),
    "step_ms": ("training step, milliseconds (measured)", "step time"),
}
FRONT_NOTE = "Rings and dashed line: the front, variants than which none has at least their mean mIoU at no more cost."
PANEL_HEIGHT = 3.1  # inches
MAX_ASIDE = 50  # seeds whose dots are moved aside, so that none hides another
LOG_SCALE_RATIO = 8  # costs that differ by this factor stand on a logarithmic axis


@dataclass(frozen=True, kw_only=True)
class CostPoint:
    """Variant in one panel: its index among the study's variants, its cost, and mIoU in percent points by seed."""

    index: int
    variant: str
    cost: float
    values: Mapping[int, float]

    @property
    def summary(self) -> SampleSummary:
        """Mean and interval of the values."""
        return summarize_sample(list(self.values.values()))


def draw_cost(study: Study, caption: str) -> dict[str, bytes]:
    """Return the plot by suffix, `png` and `svg`; {} where no variant has both an mIoU and a cost."""
    panels = {name: points for name in COST_AXES if (points := cost_points(study, name))}
    if not panels:
        return {}
    names = point_labels.point_label_texts(study.variants)
    numbered = point_labels.numbered_names(names)
    columns = max(1, min(3, 72 // (max(map(len, numbered)) + 5))) if numbered else 1
    with style.plot_style():
        figure = style.new_figure(0.5 + PANEL_HEIGHT * len(panels) + 0.24 * math.ceil(len(numbered) / columns))
        axes = figure.subplots(len(panels), sharey=True, squeeze=False)[:, 0]
        for axis, (name, points) in zip(axes, panels.items(), strict=True):
            _panel(axis, points, _words(study, name)[0], study.seeds)
            _mark_front(axis, pareto_front(points))
        everything = [point for points in panels.values() for point in points]
        values = [value for point in everything for value in point.values.values()]
        axes[0].set_ylim(*style.axis_limits(values, [point.summary for point in everything]))
        style.write_caption(figure, "\n".join([caption, FRONT_NOTE, *_left_out(study, panels)]))
        if numbered:
            point_labels.write_numbered_legend(figure, numbered, columns)
        figure.draw_without_rendering()  # puts the axes where they will be, so that names can be placed in points
        for axis, points in zip(axes, panels.values(), strict=True):
            _name(axis, points, names)
        return style.figure_files(figure)


def cost_points(study: Study, cost: str) -> list[CostPoint]:
    """Return the variants that have a positive cost of this name and at least one mIoU."""
    points = []
    for index, variant in enumerate(study.variants):
        value = _cost(study.measures.get(variant, {}), cost)
        scores = {study_rows.seed_of(run): study_rows.metric_values([run], "miou") for run in study.runs_of(variant)}
        known = {seed: 100 * score[0] for seed, score in scores.items() if score}
        if value is not None and value > 0 and known:
            points.append(CostPoint(index=index, variant=variant, cost=value, values=known))
    return points


def pareto_front(points: Sequence[CostPoint]) -> list[CostPoint]:
    """Return the points than which no other has at least the mean at no more cost, one of them better; by cost."""

    def mean(point: CostPoint) -> float:
        return point.summary.mean or 0.0

    def is_dominated(point: CostPoint) -> bool:
        return any(
            other.cost <= point.cost
            and mean(other) >= mean(point)
            and (other.cost < point.cost or mean(other) > mean(point))
            for other in points
        )

    return sorted((point for point in points if not is_dominated(point)), key=lambda point: (point.cost, point.index))


def _cost(row: study_rows.Row, name: str) -> float | None:
    """Return a cost of a variant; `step_ms` is the batch by the median of images a second."""
    if name != "step_ms":
        return study_rows.number_at(row, "metrics", name)
    speed = study_rows.number_at(row, "metrics", "train_images_per_second", "median")
    batch = study_rows.number_at(row, "protocol", "batch")
    return 1000 * batch / speed if speed and batch else None


def _words(study: Study, name: str) -> tuple[str, str]:
    """Return the label of a cost's axis, and its name in a sentence."""
    sizes = {study_rows.number_at(row, "metrics", "target_size") for row in study.measures.values()} - {None}
    size = f"{sizes.pop():g} px" if len(sizes) == 1 else "the target size"
    label, words = COST_AXES[name]
    return label.format(size=size), words.format(size=size)


def _mark_front(axis: Axes, front: Sequence[CostPoint]) -> None:
    xs = [point.cost for point in front]
    ys = [mean for point in front if (mean := point.summary.mean) is not None]
    axis.plot(xs, ys, "--", color=style.GREY, linewidth=1, zorder=1.5)
    axis.plot(xs, ys, "o", markersize=15, markerfacecolor="none", markeredgecolor=style.GREY, mew=1.1, zorder=2.5)


def _left_out(study: Study, panels: Mapping[str, Sequence[CostPoint]]) -> Iterator[str]:
    for name in COST_AXES:
        words = _words(study, name)[1]
        drawn = {point.variant for point in panels.get(name, ())}
        absent = [variant for variant in study.variants if variant not in drawn]
        if absent:
            which = "all variants" if not drawn else ", ".join(absent)
            yield f"Not drawn against {words}, for want of a value: {which}."


def _panel(axis: Axes, points: Sequence[CostPoint], label: str, seeds: Sequence[int]) -> None:
    figure = axis.get_figure()
    assert figure is not None
    for point in points:
        look = style.series_style(point.index)
        colour, summary = look["color"], point.summary
        if len(seeds) > MAX_ASIDE:
            values = [*point.values.values()]
            all_style: dict[str, Any] = {"markersize": 4.5, "alpha": 0.5, "markeredgewidth": 0, "linestyle": "none"}
            axis.plot([point.cost] * len(values), values, **look, **all_style)
        for rank, seed in enumerate(seeds if len(seeds) <= MAX_ASIDE else ()):
            aside = ScaledTranslation(6 * style.jitter(rank, len(seeds)) / 72, 0, figure.dpi_scale_trans)
            value = [point.values[seed]] if seed in point.values else []
            seed_style: dict[str, Any] = {"transform": axis.transData + aside, "markersize": 4.5, "alpha": 0.5}
            axis.plot([point.cost] * len(value), value, **look, **seed_style, markeredgewidth=0, linestyle="none")
        if summary.low is not None and summary.high is not None:
            axis.plot([point.cost] * 2, [summary.low, summary.high], color=colour, linewidth=1.8)
        assert summary.mean is not None, "a point has values"
        axis.plot(point.cost, summary.mean, **look, markersize=10, markeredgecolor="white", mew=0.6, zorder=3)
    costs = [point.cost for point in points]
    _scale(axis, min(costs), max(costs))
    axis.set_xlabel(label)
    axis.set_ylabel("mIoU, % (measured)")
    axis.grid(axis="y", **style.GRID_STYLE)


def _scale(axis: Axes, least: float, most: float) -> None:
    """Set the scale with room beside the marks for their names; logarithmic where costs differ much."""
    if most / least >= LOG_SCALE_RATIO:
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


def _name(axis: Axes, points: Sequence[CostPoint], names: Mapping[str, str]) -> None:
    """Each point's name or number beside its mean, over as few seeds and intervals as may be."""
    marks = []
    for point in points:
        mean = point.summary.mean
        assert mean is not None, "a point has values"
        marks.append(point_labels.PointLabel(index=point.index, name=names[point.variant], point=(point.cost, mean)))
    point_labels.write_point_labels(axis, marks, faint=list(_faint(axis, points)))


def _faint(axis: Axes, points: Sequence[CostPoint]) -> Iterator[Bbox]:
    """Boxes that names may cover where they must: seeds' dots and intervals."""
    scale = point_labels.pixels_per_point(axis)
    for point in points:
        for value in point.values.values():
            yield point_labels.box_around(axis.transData.transform((point.cost, value)), 8 * scale, 3 * scale)
        low, high = point.summary.low, point.summary.high
        if low is not None and high is not None:
            ends = axis.transData.transform([(point.cost, low), (point.cost, high)])
            yield Bbox([[ends[0][0] - scale, ends[0][1]], [ends[1][0] + scale, ends[1][1]]])
