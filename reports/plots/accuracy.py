"""The study's plot: accuracy against N for each of the other axes, or against the variants where N does not vary.

Every seed is a dot. The jitter that keeps dots apart is a function of the seed's rank, so the same rows give the same
file.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from bench.config.fields import AXIS_LABELS
from bench.stats.seed_statistics import SampleSummary, summarize_sample
from reports.analysis import study_rows
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.study_rows import Study
from reports.plots import style
from reports.plots.style import COLOURS, DASHES, GRID_STYLE, MARKERS, jitter
from unept.utils.visible_text import single_line

SERIES_WIDTH = 0.26  # most room that a series takes beside each N, in powers of two
NAME_LETTERS, NAME_LINES = 28, 4  # of a variant's name beside its row


@dataclass(frozen=True, kw_only=True)
class SeedGroup:
    """Runs drawn at one position: percent points by seed, the seeds without a value, and if they are in groups."""

    position: float
    values: Mapping[int, float]
    missing: tuple[int, ...]
    grouped: bool = False

    @property
    def summary(self) -> SampleSummary:
        """Mean and interval of the values; no interval where they fall in two groups."""
        summary = summarize_sample(list(self.values.values()))
        return replace(summary, low=None, high=None) if self.grouped else summary


def draw_accuracy(study: Study, caption: str) -> dict[str, bytes]:
    """Return the plot by suffix, `png` and `svg`, with `caption` in small under it."""
    series = point_series(study)
    with style.plot_style():
        figure = _against_points(study, series) if series else _by_variant(study)
        style.write_caption(figure, caption)
        return style.figure_files(figure)


def point_series(study: Study) -> dict[str, list[SeedGroup]]:
    """Return groups at each N by the values of the other axes; {} where a plot against N is not useful.

    It is useful where N takes two values or more, every variant has one, and there are no more series than colours.
    """
    series: dict[str, list[SeedGroup]] = {}
    grouped = grouped_variants(study)
    others = [name for name in study_rows.study_axes(study) if name != "points" and _varies(study, name)]
    for variant in study.variants:
        runs = study.runs_of(variant)
        axes = (runs[0].get("axes") if runs else study_rows.value_at(study.measures, variant, "axes")) or {}
        if not runs and not axes:
            continue
        points = study_rows.number_at(axes, "points")
        if points is None or points <= 0:
            return {}
        label = "  ".join(
            f"{AXIS_LABELS.get(name, name)} = {single_line(study_rows.value_text(axes.get(name)))}" for name in others
        )
        series.setdefault(label, []).append(_group(points, runs, variant in grouped))
    places = {group.position for groups in series.values() for group in groups}
    return series if len(places) > 1 and len(series) <= len(COLOURS) else {}


def _group(position: float, runs: Sequence[study_rows.Row], grouped: bool) -> SeedGroup:
    scores = {study_rows.seed_of(run): study_rows.metric_values([run], "miou") for run in runs}
    return SeedGroup(
        position=position,
        values={seed: 100 * value[0] for seed, value in scores.items() if value},
        missing=tuple(seed for seed, value in scores.items() if not value),
        grouped=grouped,
    )


def _varies(study: Study, name: str) -> bool:
    return len({study_rows.value_text(study_rows.value_at(run, "axes", name)) for run in study.runs}) > 1


def _against_points(study: Study, series: Mapping[str, list[SeedGroup]]) -> Figure:
    figure = style.new_figure(4.6)
    axis = figure.add_subplot()
    ranks = {seed: rank for rank, seed in enumerate(study.seeds)}
    places = sorted({group.position for groups in series.values() for group in groups})
    gap = min(math.log2(right / left) for left, right in itertools.pairwise(places))
    slot = min(SERIES_WIDTH, 0.75 * gap / len(series))
    for index, (label, groups) in enumerate(series.items()):
        shift = (index - (len(series) - 1) / 2) * slot
        ordered = sorted(groups, key=lambda group: group.position)
        for group in ordered:
            xs = {
                seed: group.position * 2 ** (shift + 0.38 * slot * jitter(rank, len(ranks)))
                for seed, rank in ranks.items()
            }
            _seeds(axis, group, xs, index)
        _means(axis, ordered, label, index, shift)
    axis.set_xscale("log", base=2)
    edge = 2 ** (0.5 * slot * len(series) + 0.25)
    axis.set_xlim(places[0] / edge, places[-1] * edge)
    axis.xaxis.set_major_locator(FixedLocator(places))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(places, [f"{position:g}" for position in places])
    axis.set_xlabel("N, sampling points per level and head")
    axis.set_ylabel("mIoU, %")
    axis.grid(axis="y", **GRID_STYLE)
    _limits(axis, [group for groups in series.values() for group in groups], horizontal=False)
    if len(series) > 1:
        columns = style.legend_columns([*series], most=3)
        figure.legend(loc="outside upper center", ncols=columns, handlelength=2.6)
    return figure


def _seeds(axis: Axes, group: SeedGroup, xs: Mapping[int, float], index: int) -> None:
    look: dict[str, Any] = {"color": COLOURS[index], "linestyle": "none"}
    dots = [(xs[seed], value) for seed, value in group.values.items()]
    axis.plot(*_columns(dots), marker=MARKERS[index], markersize=5.5, alpha=0.5, markeredgewidth=0, **look)
    crosses = [(xs[seed], 0.025) for seed in group.missing]
    over = axis.get_xaxis_transform()
    axis.plot(*_columns(crosses), marker="x", markersize=7, markeredgewidth=2, transform=over, **look)


def _means(axis: Axes, groups: Sequence[SeedGroup], label: str, index: int, shift: float) -> None:
    drawn = [(group.position * 2**shift, group.summary) for group in groups if group.values]
    look: dict[str, Any] = {"color": COLOURS[index], "linewidth": 2}
    axis.plot(
        [x for x, _ in drawn],
        [mean for _, summary in drawn if (mean := summary.mean) is not None],
        label=label,
        linestyle=DASHES[index],
        marker=MARKERS[index],
        markersize=8,
        markeredgecolor="white",
        **look,
    )
    for x, summary in drawn:
        if summary.low is not None and summary.high is not None:
            axis.plot([x, x], [summary.low, summary.high], zorder=1.9, **look)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _by_variant(study: Study) -> Figure:
    names = [
        textwrap.fill(single_line(variant), NAME_LETTERS, max_lines=NAME_LINES, placeholder="…")
        for variant in study.variants
    ]
    tallest = 1 + max((name.count("\n") for name in names), default=0)
    figure = style.new_figure(1.6 + (0.3 + 0.2 * tallest) * max(2, len(names)))
    axis = figure.add_subplot()
    ranks = {seed: rank for rank, seed in enumerate(study.seeds)}
    grouped = grouped_variants(study)
    groups = [
        _group(float(position), study.runs_of(variant), variant in grouped)
        for position, variant in enumerate(study.variants)
    ]
    for group in groups:
        ys = {seed: group.position + 0.2 * jitter(rank, len(ranks)) for seed, rank in ranks.items()}
        dots = [(value, ys[seed]) for seed, value in group.values.items()]
        axis.plot(*_columns(dots), "o", color=COLOURS[0], markersize=6.5, alpha=0.55, markeredgewidth=0)
        crosses = [(0.02, ys[seed]) for seed in group.missing]
        axis.plot(*_columns(crosses), "x", color=COLOURS[1], markersize=7, mew=2, transform=axis.get_yaxis_transform())
        summary = group.summary
        if summary.low is not None and summary.high is not None:
            axis.plot([summary.low, summary.high], [group.position] * 2, color="#333333", linewidth=1.8)
        if summary.mean is not None:
            axis.plot(summary.mean, group.position, "|", color="#333333", markersize=17, markeredgewidth=2.4)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(study.variants) - 0.5, -0.5)
    axis.set_xlabel("mIoU, %")
    axis.grid(axis="x", **GRID_STYLE)
    _limits(axis, groups, horizontal=True)
    return figure


def _limits(axis: Axes, groups: Sequence[SeedGroup], *, horizontal: bool) -> None:
    """Set the limits of the axes to what is drawn, with a note where nothing is."""
    dots = [value for group in groups for value in group.values.values()]
    if not dots:
        axis.text(0.5, 0.5, "no run has an mIoU yet", transform=axis.transAxes, ha="center", va="center")
        dots = [0.0, 100.0]
    low, high = style.axis_limits(dots, [group.summary for group in groups])
    (axis.set_xlim if horizontal else axis.set_ylim)(low, high)
