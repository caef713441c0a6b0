"""Plots of a layer's growth: memory, operations and time along four axes, both scales logarithmic."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from reports.plots import style

Record = Mapping[str, Any]
LEGEND_POINTS = 9  # points of its letters
AXIS_TITLES = {"side": "tokens", "points": "points (N)", "levels": "levels (L)", "batch": "images"}


def _seconds(record: Record) -> float | None:
    seconds = record.get("seconds", {}).get("forward+backward")
    return None if seconds is None else 1000 * float(seconds["median"])


def _of(name: str, unit: float = 1.0) -> Callable[[Record], float | None]:
    return lambda record: record[name] / unit if record.get(name) else None


SCALING_PLOTS: Mapping[str, tuple[str, Callable[[Record], float | None], str]] = {
    "memory": (
        "MiB at the peak",
        _of("peak", 1 << 20),
        "Predicted: one layer's forward and backward pass, beyond inputs and parameters.",
    ),
    "operations": ("GMACs", _of("gmacs"), "Derived: multiply-adds of one layer's forward pass."),
    "time": (
        "ms, forward + backward",
        _seconds,
        "Measured in turns, medians; layers that are small enough, along axes on which their cost changes.",
    ),
}


def draw_scaling(records: Sequence[Record]) -> dict[str, bytes]:
    """Return the plots by file name, PNG and SVG; none of a quantity without a value."""
    made: dict[str, bytes] = {}
    with style.plot_style({"font.size": 10.5}):
        for name in plotted_quantities(records):
            files = _plot(records, *SCALING_PLOTS[name])
            made |= {f"scaling-{name}.{suffix}": data for suffix, data in files.items()}
    return made


def plotted_quantities(records: Sequence[Record]) -> list[str]:
    """Return the quantities that have a value somewhere, which are those with a plot."""
    return [name for name, (_, value, _) in SCALING_PLOTS.items() if any(value(record) for record in records)]


def _plot(
    records: Sequence[Record], label: str, value: Callable[[Record], float | None], caption: str
) -> dict[str, bytes]:
    names = [*dict.fromkeys(record["attention"] for record in records)]
    families = [*dict.fromkeys(map(attention_family, names))]
    figure = style.new_figure(6.6)
    panels = figure.subplots(2, 2, sharey=True).flatten()
    handles: dict[str, Any] = {}
    for panel, (axis, title) in zip(panels, AXIS_TITLES.items(), strict=True):
        ticks: set[int] = set()
        for index, name in enumerate(names):
            mine = [record for record in records if record["axis"] == axis and record["attention"] == name]
            points = [(axis_value(record), number) for record in mine if (number := value(record))]
            ticks |= {axis_value(record) for record in mine}
            if points:
                x, y = zip(*points, strict=True)
                look = family_style(index, families.index(attention_family(name)))
                handles[name] = panel.plot(x, y, markersize=5, linewidth=1.4, **look)[0]
        _dress(panel, title, sorted(ticks))
    for panel in panels[::2]:
        panel.set_ylabel(label)
    columns = style.legend_columns(names, most=4, points=LEGEND_POINTS)
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=columns, fontsize=LEGEND_POINTS)
    style.write_caption(figure, caption)
    return style.figure_files(figure)


def attention_family(name: str) -> str:
    """Return the family of an attention: `dense` for `dense_math`, `longformer` for `longformer, window2d`."""
    return re.split("[_,]", name)[0]


def family_style(index: int, family: int) -> dict[str, Any]:
    """Return the style of a series: the colour of its family, and a marker and dashes that no other of it has."""
    turn = index // len(style.DASHES)
    return {
        "color": style.COLOURS[family % len(style.COLOURS)],
        "marker": style.MARKERS[index % len(style.MARKERS)],
        "linestyle": style.DASHES[(index + turn) % len(style.DASHES)],
    }


def _dress(panel: Axes, title: str, ticks: Sequence[int]) -> None:
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xticks(ticks, [f"{tick / 1000:g}k" if tick >= 1000 else str(tick) for tick in ticks])
    panel.xaxis.set_minor_locator(NullLocator())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel(title)
    panel.grid(**style.GRID_STYLE)


def axis_value(record: Record) -> int:
    """Return the record's position on its axis: tokens of an image for its side, else the value."""
    return int(record["levels"] * record["side"] ** 2 if record["axis"] == "side" else record["at"])
