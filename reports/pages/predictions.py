"""Pictures of what a checkpoint predicts for one picture, alone or beside another checkpoint's (Fig. 3 and 4)."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from reports.plots import style
from reports.plots.label_images import RED, colour_labels, pale_grey, resize_nearest
from unept.utils.visible_text import single_line

PLOT_STYLE = {"font.size": 9.5, "image.interpolation": "antialiased"}  # parameters of matplotlib
PANEL_PIXELS = 480  # pixels of a panel's longest side
OPACITY = 0.55  # of the classes' colours over the picture
MAX_CLASSES = 20  # in a legend: those of most pixels
LEGEND_COLUMNS = 5
CLOSE_UP_PART = 5  # the close-up's side is this part of the picture's
BOUNDARY_PROBABILITY = 0.5  # probability from which a pixel is drawn as boundary
PANEL_INCHES = 2.6  # inches

Bytes = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
DirectionWheel = Sequence[tuple[int, int, Colour]]
Panels = Sequence[Sequence[tuple[str, Bytes]]]


def prediction_files(
    image: Bytes,
    *,
    plain: Bytes,
    refined: Bytes | None,
    boundary: npt.NDArray[np.float32] | None,
    direction: Bytes | None,
    classes: Sequence[str],
    palette: Sequence[Colour],
    wheel: DirectionWheel,
) -> dict[str, bytes]:
    """Return the PNG files of one image and checkpoint, by the end of their names.

    Args:
        image: uint8 (H, W, 3).
        plain: Classes before refinement, (H, W).
        refined: Classes after refinement, (H, W); None without.
        boundary: Boundary probability, (H, W); None without the head.
        direction: Index of the direction, (H, W); None without the head.
        classes: Names by class.
        palette: Colours by class.
        wheel: (down, right, colour) by direction.

    Returns:
        `label.png` has a class index per pixel and the palette, `mask.png` the colours, `overlay.png` the colours
        over the image, refined where possible; `boundary.png` the probability from black to white, `direction.png`
        the eight directions with their wheel, `refinement.png` both results with a close-up of where they differ
        most.
    """
    best = plain if refined is None else refined
    mask = colour_labels(best, np.array(palette, np.uint8))
    made = {
        "label.png": palette_png(best, palette),
        "mask.png": encode_png(mask),
        "overlay.png": encode_png(overlay_classes(image, mask)),
    }
    if boundary is not None and direction is not None:
        made["boundary.png"] = encode_png((255 * boundary + 0.5).astype(np.uint8))
        made["direction.png"] = direction_figure(direction, boundary, wheel)
    if refined is not None:
        made["refinement.png"] = refinement_figure(image, plain, refined, classes, palette)
    return made


def palette_png(labels: Bytes, palette: Sequence[Colour]) -> bytes:
    """Return a palette PNG: the value of a pixel is its class, and viewers show the class's colour."""
    picture = Image.fromarray(labels)
    picture.putpalette([channel for colour in palette for channel in colour])
    return _encoded(picture)


def overlay_classes(image: Bytes, mask: Bytes) -> Bytes:
    """Return the class colours blended over the image, uint8 (H, W, 3)."""
    return (image * (1 - OPACITY) + mask * OPACITY + 0.5).astype(np.uint8)


def refinement_figure(
    image: Bytes, plain: Bytes, refined: Bytes, classes: Sequence[str], palette: Sequence[Colour]
) -> bytes:
    """Return a PNG of the input, both results and where they differ; below, a close-up of the most changed part (Fig.
    4).
    """
    changed = plain != refined
    colours = np.array(palette, np.uint8)
    marked = np.where(changed[..., None], np.array(RED, np.uint8), pale_grey(image))
    wholes = [image, colour_labels(plain, colours), colour_labels(refined, colours), marked]
    close = most_changed_window(changed)
    titles = ("input", "before refinement", "after refinement", f"changed: {_pixels(changed)}")
    rows = [
        list(zip(titles, wholes, strict=True)),
        [("close-up" * (not number), whole[close]) for number, whole in enumerate(wholes)],
    ]
    return _figure(rows, class_legend(plain, refined, classes=classes, palette=palette))


def comparison_figure(
    image: Bytes, predictions: Mapping[str, Bytes], *, classes: Sequence[str], palette: Sequence[Colour]
) -> bytes:
    """Return a PNG of the input and each checkpoint's classes side by side, with a legend (Fig. 3).

    With two checkpoints the last panel shows where they differ.
    """
    colours = np.array(palette, np.uint8)
    row = [("input", image), *((name, colour_labels(labels, colours)) for name, labels in predictions.items())]
    if len(predictions) == 2:
        one, other = predictions.values()
        differ = one != other
        marked = np.where(differ[..., None], np.array(RED, np.uint8), pale_grey(image))
        row.append((f"different: {_pixels(differ)}", marked))
    return _figure([row], class_legend(*predictions.values(), classes=classes, palette=palette))


def direction_figure(direction: Bytes, boundary: npt.NDArray[np.float32], wheel: DirectionWheel) -> bytes:
    """Return a PNG of the predicted direction where the boundary's probability exceeds one half, and the wheel beside
    it.
    """
    colours = np.array([colour for _, _, colour in wheel], np.uint8)
    shown = np.where((boundary > BOUNDARY_PROBABILITY)[..., None], colours[direction], np.uint8(0))
    legend = "points away from the boundary, into the object; black: no boundary"
    with style.plot_style(PLOT_STYLE):
        height = PANEL_INCHES * _tallness(shown)
        figure = _canvas(1.7 * PANEL_INCHES + 1.6, 1.7 * height + 1.0)
        axis, dial = figure.subplots(1, 2, width_ratios=(1.7 * PANEL_INCHES, 1.4))
        _show(axis, "direction", resize_nearest(shown, 2 * PANEL_PIXELS))
        _dial(dial, wheel)
        figure.supxlabel(textwrap.fill(legend, 80), fontsize=9, color=style.GREY)
        return style.figure_files(figure)["png"]


def encode_png(picture: Bytes) -> bytes:
    """Return an image (H, W) or (H, W, 3) as PNG."""
    return _encoded(Image.fromarray(picture))


def _encoded(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, format="png")
    return file.getvalue()


def most_changed_window(changed: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the window with the most changes, a fifth of the picture's sides; the first of equals."""
    height, width = changed.shape
    tall, wide = max(1, height // CLOSE_UP_PART), max(1, width // CLOSE_UP_PART)
    total = np.zeros((height + 1, width + 1), np.int64)
    total[1:, 1:] = changed.cumsum(0).cumsum(1)
    inside = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    top, left = np.unravel_index(int(inside.argmax()), inside.shape)
    return slice(int(top), int(top) + tall), slice(int(left), int(left) + wide)


def class_legend(*maps: Bytes, classes: Sequence[str], palette: Sequence[Colour]) -> list[Patch]:
    """Return legend entries of the classes in the maps, most pixels first, with their share."""
    pixels = sum(np.bincount(labels.ravel(), minlength=len(classes)) for labels in maps)
    counts = np.asarray(pixels)
    order = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]]
    handles = [
        Patch(
            facecolor=style.colour_fractions(palette[number]),
            edgecolor="#888888",
            linewidth=0.5,
            label=f"{style.legend_label(classes[number])} {100 * counts[number] / counts.sum():.1f} %",
        )
        for number in order[:MAX_CLASSES]
    ]
    rest = len(order) - MAX_CLASSES
    return [*handles, *[Patch(facecolor="none", label=f"and {rest} more")] * (rest > 0)]


def _pixels(mask: npt.NDArray[np.bool_]) -> str:
    return f"{int(mask.sum())} pixels, {100 * mask.mean():.2f} %"


def _figure(rows: Panels, legend: list[Patch]) -> bytes:
    """Rows of panels with titles, and a legend below."""
    columns = max(map(len, rows))
    with style.plot_style(PLOT_STYLE):
        heights = [PANEL_INCHES * max(_tallness(panel) for _, panel in row) for row in rows]
        lines = -(-len(legend) // LEGEND_COLUMNS)
        figure = _canvas(PANEL_INCHES * columns + 0.3, sum(heights) + 0.3 * len(rows) + 0.24 * lines + 0.3)
        grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=heights)
        for line, row in zip(grid, rows, strict=True):
            for axis, (title, panel) in zip(line, row, strict=True):
                _show(axis, title, resize_nearest(panel, PANEL_PIXELS))
        figure.legend(handles=legend, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=9, handlelength=1.2)
        return style.figure_files(figure)["png"]


def _canvas(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=style.DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tallness(picture: Bytes) -> float:
    """Height over width, within what a page can show."""
    return min(max(picture.shape[0] / picture.shape[1], 0.2), 3.0)


def _show(axis: Any, title: str, picture: Bytes) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_title("\n".join(textwrap.wrap(single_line(title), 38, max_lines=2, placeholder="…")), fontsize=10, pad=4)
    axis.imshow(picture, aspect="equal" if 0.2 <= picture.shape[0] / picture.shape[1] <= 5 else "auto")


def _dial(axis: Any, wheel: DirectionWheel) -> None:
    """Draw the legend of directions: eight sectors, each where it points to."""
    axis.set_aspect("equal")
    axis.set_axis_off()
    for down, right, colour in wheel:
        angle = np.degrees(np.arctan2(-down, right))
        axis.add_patch(
            matplotlib.patches.Wedge(
                (0, 0), 1, angle - 22.5, angle + 22.5, width=0.62, color=style.colour_fractions(colour)
            )
        )
        length = 0.9 / np.hypot(down, right)
        axis.annotate(
            "", (right * length, -down * length), (0, 0), arrowprops={"arrowstyle": "->", "color": "#222222", "lw": 0.8}
        )
    axis.set_xlim(-1.05, 1.05)
    axis.set_ylim(-1.05, 1.05)
