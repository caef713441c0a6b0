"""Look-alike accuracy against the distance of the cue: a line a variant, between chance and certainty."""

from __future__ import annotations

import matplotlib
import pandas as pd
from matplotlib.ticker import MultipleLocator

from reports.plots import style
from reports.plots.style import COLOURS, DASHES, GRID_STYLE

MAX_LINES = 12  # variants in the plot; the CSV file has all
CHANCE = 50.0


def draw_cue_distance(frame: pd.DataFrame, caption: str) -> dict[str, bytes]:
    """Return the plot by suffix, `png` and `svg`; {} for an empty frame.

    Args:
        frame: A `reports.analysis.context.cue_distance_frame`.
        caption: Written in small under it.
    """
    if frame.empty:
        return {}
    variants = [*dict.fromkeys(frame["variant"])]
    shown = variants[:MAX_LINES]
    if len(shown) < len(variants):
        caption += f"; the first {len(shown)} of {len(variants)} variants"
    with matplotlib.rc_context(style.RC_PARAMS):
        figure = style.new_figure(4.4)
        axis = figure.add_subplot()
        axis.axhline(CHANCE, color=style.GREY, linewidth=1, linestyle=":")
        axis.axhline(100, color=style.GREY, linewidth=1, linestyle=":")
        for index, variant in enumerate(shown):
            own = frame[frame["variant"] == variant]
            x = ((own["distance_from_px"] + own["distance_below_px"]) / 2).astype(float).to_numpy()
            accuracy, low, high = (own[name].astype(float).to_numpy() for name in ("accuracy", "low", "high"))
            look = style.series_style(index) | {"linestyle": DASHES[index // len(COLOURS) % len(DASHES)]}
            axis.plot(x, accuracy, label=style.legend_label(variant), markersize=5, linewidth=1.6, **look)
            axis.fill_between(x, low, high, color=look["color"], alpha=0.13, linewidth=0)
        axis.set_xlabel("distance of an object from its emblem, pixels")
        axis.set_ylabel("look-alike accuracy, %")
        axis.xaxis.set_major_locator(MultipleLocator(8 if frame["distance_below_px"].max() <= 64 else 16))
        axis.grid(axis="y", **GRID_STYLE)
        axis.set_ylim(min(40.0, float(frame["accuracy"].min()) - 3), 103)
        columns = style.legend_columns(shown, 3)
        figure.legend(loc="outside upper center", ncols=columns)
        style.write_caption(figure, f"{caption}. Dotted: told (100 %) and blind (50 %).")
        return style.figure_files(figure)
