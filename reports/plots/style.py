"""The one style of all plots: Okabe and Ito's colours, told apart by marker and line as well; files without dates."""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from bench.stats.seed_statistics import SampleSummary
from unept.utils.visible_text import single_line, visible_text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))
RC_PARAMS: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "svg.hashsalt": "unept-bench",
    "svg.fonttype": "path",
}
GRID_STYLE: Mapping[str, Any] = {"color": "#dddddd", "linewidth": 0.8}
GREY = "#555555"
FIGURE_WIDTH = 6.0  # inches; the same for all, so that letters are as large in one as in the other
DPI = 160
LETTERS_PER_INCH = 15  # letters of a note that fit on an inch
LEGEND_LINE_LETTERS, LEGEND_KEY_LETTERS = (
    60,
    9,
)  # characters of 12 points that fit on a line of legend, and what a key and its gaps take of them


@contextlib.contextmanager
def plot_style(changes: Mapping[str, Any] = MappingProxyType({})) -> Iterator[None]:
    """Draw in the style of all plots within the context; a letter that the font lacks is a box without a warning.

    Args:
        changes: Parameters of matplotlib that differ from `RC_PARAMS`.
    """
    with matplotlib.rc_context(RC_PARAMS | dict(changes)), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def new_figure(height: float) -> Figure:
    """Return an empty figure, `height` inches high."""
    figure = Figure(figsize=(FIGURE_WIDTH, height), dpi=DPI, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    FigureCanvasAgg(figure)
    return figure


def write_caption(figure: Figure, caption: str) -> None:
    """Write `caption` in small under the figure."""
    lines = [textwrap.fill(line, int(FIGURE_WIDTH * LETTERS_PER_INCH)) for line in visible_text(caption).splitlines()]
    figure.supxlabel("\n".join(lines), fontsize=9, color=GREY)


def figure_files(figure: Figure) -> dict[str, bytes]:
    """Return the figure by suffix, `png` and `svg`; the same figure gives the same bytes."""
    return {"png": _bytes(figure, "png", {"Software": None}), "svg": _bytes(figure, "svg", {"Date": None})}


def series_style(index: int) -> dict[str, Any]:
    """Return colour and marker of a series; no two of the first 36 share both."""
    turn = index // len(COLOURS)
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[(index + turn) % len(MARKERS)]}


def series_text_colour(index: int) -> tuple[float, float, float]:
    """Return the colour of a series, dark enough for text."""
    red, green, blue = (0.6 * part for part in to_rgb(series_style(index)["color"]))
    return red, green, blue


def legend_columns(labels: Sequence[str], most: int, points: int = 12) -> int:
    """Return the number of legend columns, at most `most`, in letters of `points` that fit over a figure."""
    return max(
        1, min(most, len(labels), LEGEND_LINE_LETTERS * 12 // points // (max(map(len, labels)) + LEGEND_KEY_LETTERS))
    )


def legend_label(name: str) -> str:
    """Return `name` as a legend's label: matplotlib leaves out names that begin with an underscore."""
    shown = single_line(name)
    return f" {shown}" if shown.startswith("_") else shown


def colour_fractions(colour: Sequence[int]) -> tuple[float, float, float]:
    """Return a colour of 0 to 255 per channel as matplotlib's fractions."""
    red, green, blue = (channel / 255 for channel in colour)
    return red, green, blue


def jitter(rank: int, count: int) -> float:
    """Return positions in -1..1, evenly apart, in a fixed shuffled order so that dots form no slope."""
    return 0.0 if count == 1 else 2 * _places(count)[rank] / (count - 1) - 1


@cache
def _places(count: int) -> tuple[int, ...]:
    """Return the place of each of `count` dots in the shuffled order."""
    order = sorted(range(count), key=lambda index: math.modf(index * 0.6180339887)[0])
    return tuple(sorted(range(count), key=order.__getitem__))


def axis_limits(dots: Sequence[float], summaries: Iterable[SampleSummary] = ()) -> tuple[float, float]:
    """Return the limits of an axis in percent points: dots, and intervals up to half the dots' range beyond them."""
    assert dots
    beyond = max(0.5 * (max(dots) - min(dots)), 0.5)
    bounds = [(summary.low, summary.high) for summary in summaries]
    lows = [low for low, _ in bounds if low is not None]
    highs = [high for _, high in bounds if high is not None]
    low = max(min([*dots, *lows]), min(dots) - beyond)
    high = min(max([*dots, *highs]), max(dots) + beyond)
    margin = max(0.07 * (high - low), 0.2)
    return low - margin, high + margin


def _bytes(figure: Figure, suffix: str, metadata: dict[str, None]) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format=suffix, metadata=metadata)
    return file.getvalue()
