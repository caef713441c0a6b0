"""Training as it went: a small panel a variant, a thin line a seed, so that a jump of one seed can be seen.

The scores are those on the pictures that are probed during training; where no run has any, the training loss.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.plots import style
from reports.plots.style import COLOURS, DASHES
from unept.utils.visible_text import single_line

MAX_PANELS = 24  # panels
MAX_SEEDS = 100  # lines of a panel
MAX_TITLE_LETTERS = 44  # letters
CURVE_SOURCES = {
    "probe": ("probe_columns", "miou", 100.0, "mIoU on probed pictures, %"),
    "curve": ("curve_columns", "total", 1.0, "training loss"),
}

Curve = tuple[tuple[float, float], ...]  # (step, value), in the order of steps


@dataclass(frozen=True, kw_only=True)
class TrainingCurves:
    """Curves to draw: the title of the axis, and a curve by variant and seed."""

    title: str
    lines: Mapping[str, Mapping[int, Curve]]


def draw_curves(study: Study, caption: str) -> dict[str, bytes]:
    """Return the plot by suffix, `png` and `svg`; {} where no run has a curve."""
    curves = training_curves(study)
    if curves is None:
        return {}
    shown = list(curves.lines)[:MAX_PANELS]
    columns = min(len(shown), 3) if len(shown) != 4 else 2
    down = math.ceil(len(shown) / columns)
    with style.plot_style({"font.size": 10.5, "axes.titlesize": 10.5}):
        figure = style.new_figure(1.4 + (1.75 if columns > 1 else 3.0) * down)
        panels = figure.subplots(down, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for panel, name in zip(panels, shown, strict=False):
            _panel(panel, name, curves.lines[name], study.seeds, 60 // columns)
        for panel in panels[len(shown) :]:
            panel.set_axis_off()
        for panel in panels[max(0, len(shown) - columns) : len(shown)]:
            panel.tick_params(labelbottom=True)
            panel.set_xlabel("step")
        panels[0].set_ylim(*_limits(curves))
        panels[0].xaxis.set_major_locator(MaxNLocator(3 if columns > 1 else 8, integer=True))
        figure.supylabel(curves.title, fontsize=11)
        style.write_caption(figure, "\n".join([caption, *_left_out(study, curves, shown)]))
        _legend(figure, study.seeds)
        return style.figure_files(figure)


def training_curves(study: Study) -> TrainingCurves | None:
    """Return the probed scores of every run that has some, else the losses; None where there are neither."""
    for name, (columns, value, factor, title) in CURVE_SOURCES.items():
        lines: dict[str, dict[int, Curve]] = {}
        for run in study.runs:
            line = tuple(_line(run, name, columns, value, factor))
            if line:
                lines.setdefault(str(run["variant"]), {})[study_rows.seed_of(run)] = line
        if lines:
            return TrainingCurves(title=title, lines=lines)
    return None


def mean_curve(lines: Sequence[Curve]) -> Curve:
    """Return the mean over the steps that all curves have; () for a single curve."""
    if len(lines) < 2:
        return ()
    tables = [dict(line) for line in lines]
    steps = sorted(set.intersection(*(set(table) for table in tables)))
    return tuple((step, sum(table[step] for table in tables) / len(tables)) for step in steps)


def _line(run: study_rows.Row, name: str, columns: str, value: str, factor: float) -> Iterator[tuple[float, float]]:
    """Steps and values of a run, without the entries that lack either."""
    entries = study_rows.value_at(run, "training", name)
    titles = study_rows.value_at(run, "training", columns)
    places = [
        titles.index(title) if isinstance(titles, list) and title in titles else None for title in ("step", value)
    ]
    at = [column if column is not None else default for column, default in zip(places, (0, 1), strict=True)]
    for entry in entries if isinstance(entries, list) else []:
        if isinstance(entry, list):
            named = dict(enumerate(entry))
            pair = [study_rows.number_at({"x": named.get(column)}, "x") for column in at]
            if pair[0] is not None and pair[1] is not None:
                yield pair[0], factor * pair[1]


def _panel(axis: Axes, name: str, lines: Mapping[int, Curve], seeds: Sequence[int], letters: int) -> None:
    middle = mean_curve(list(lines.values()))
    axis.plot(*_columns(middle), color="#222222", alpha=0.28, linewidth=4.5, solid_capstyle="round")
    for rank, seed in enumerate(seeds[:MAX_SEEDS]):
        if seed in lines:
            one = len(lines[seed]) == 1
            axis.plot(*_columns(lines[seed]), **seed_style(rank, len(seeds)), marker="." if one else "")
    name = single_line(name)
    words = textwrap.shorten(name, MAX_TITLE_LETTERS, placeholder="…") if " " in name else name[:MAX_TITLE_LETTERS]
    axis.set_title(textwrap.fill(words, letters), loc="left")
    axis.grid(axis="y", **style.GRID_STYLE)


def seed_style(rank: int, count: int) -> dict[str, Any]:
    """Return a seed's own colour and dashes, or the same for all where there are more seeds than colours."""
    if count > len(COLOURS):
        return {"color": COLOURS[0], "linewidth": 0.9, "alpha": 0.7}
    return {"color": COLOURS[rank], "linestyle": DASHES[rank], "linewidth": 1.4}


def _legend(figure: Any, seeds: Sequence[int]) -> None:
    count = len(seeds)
    handles = [Line2D([], [], **seed_style(rank, count)) for rank in range(count if count <= len(COLOURS) else 1)]
    names = [f"seed {seed}" for seed in seeds] if count <= len(COLOURS) else [f"one of {count} seeds"]
    if count > 1:
        handles.append(Line2D([], [], color="#222222", alpha=0.28, linewidth=4.5))
        names.append("mean")
    columns = min(len(names), 3)
    figure.legend(handles, names, loc="outside upper center", ncols=columns, handlelength=2.4, columnspacing=1.4)


def _limits(curves: TrainingCurves) -> tuple[float, float]:
    values = [value for lines in curves.lines.values() for line in lines.values() for _, value in line]
    margin = 0.06 * (max(values) - min(values)) or 1.0
    return min(values) - margin, max(values) + margin


def _left_out(study: Study, curves: TrainingCurves, shown: Sequence[str]) -> Iterator[str]:
    without = [variant for variant in study.variants if variant not in curves.lines]
    if without:
        yield f"No curve: {', '.join(without)}."
    if len(study.seeds) > MAX_SEEDS:
        yield f"The first {MAX_SEEDS} of {len(study.seeds)} seeds; the mean is of all."
    if len(shown) < len(curves.lines):
        yield f"The first {len(shown)} of {len(curves.lines)} variants."


def _columns(line: Curve) -> tuple[list[float], list[float]]:
    return [x for x, _ in line], [y for _, y in line]
