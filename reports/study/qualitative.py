"""Example pictures of a study: input, truth, prediction, errors, boundaries before and after refinement.

The pictures are chosen by a rule and never by hand: of those that every run keeps, the best, the median and the worst
by pixel accuracy, averaged over the variants.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from bench.results.store import Store
from reports.analysis import study_rows
from reports.analysis.study_rows import Study
from reports.plots import style as drawing
from reports.plots.label_images import (
    BOTH,
    IGNORE,
    PREDICTED_ONLY,
    RED,
    TRUE_ONLY,
    ByteImage,
    boundary_overlay,
    colour_labels,
    hatch_where,
    pale_grey,
    resize_nearest,
)
from unept.utils.visible_text import single_line

MAX_VARIANTS = 6  # variants drawn
COLUMN_INCHES, ROW_INCHES = 1.55, 1.55  # inches
MAX_LEGEND_CLASSES = 16  # more are left out of the legend
LEGEND_COLUMNS = 5  # columns of the legend
RANKS = ("best", "median", "worst")

Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ExamplePictures:
    """The drawn pictures as PNG, and their caption."""

    png: bytes
    caption: str


class LoadedPictures(NamedTuple):
    """Arrays by variant, in the study's order, and a line for each file that could not be used."""

    arrays: dict[str, dict[str, npt.NDArray[Any]]]
    problems: list[str]


class ChosenPicture(NamedTuple):
    """Picture with its rank (best, median, worst), its number in the split, and its mean pixel accuracy."""

    rank: str
    number: int
    score: float


def load_pictures(outs: Sequence[Path], study: Study) -> LoadedPictures:
    """Return the kept pictures of each variant's lowest seed that has a usable file.

    A file that is damaged, or shows other pictures than the first variant's, is left out with a line that says so.

    Args:
        outs: Folders of the studies.
        study: Their rows.
    """
    stores = [Store(out) for out in outs]
    arrays: dict[str, dict[str, npt.NDArray[Any]]] = {}
    problems = []
    for variant in study.variants:
        for run in study.runs_of(variant):
            places = [store.pictures(str(run.get("key", ""))) for store in stores]
            path = next((file for file in places if file.exists()), None)
            if not study_rows.has_succeeded(run) or path is None:
                continue
            try:
                pictures = read_pictures(path)
                if not len(pictures["index"]):  # a run that was told to keep none
                    continue
                if arrays:
                    _same_pictures(pictures, next(iter(arrays.values())))
            except ValueError as error:
                problems.append(
                    f"left out: {path.name}, pictures of {variant}, seed {study_rows.seed_of(run)}: {error}"
                )
                continue
            arrays[variant] = pictures
            break
    return LoadedPictures(arrays, problems)


def read_pictures(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of one file.

    Raises:
        ValueError: It is damaged or lacks something.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            pictures = {name: archive[name] for name in archive.files}
    except Exception as error:  # a changed byte makes zipfile, zlib and numpy raise a dozen kinds
        raise ValueError(f"damaged, or no archive of arrays ({type(error).__name__})") from None
    _check(pictures)
    return pictures


def _check(pictures: Arrays) -> None:
    index = pictures.get("index")
    if index is None or index.ndim != 1 or index.dtype.kind not in "iu":
        raise ValueError("no list of picture numbers")
    classes, palette = pictures.get("classes"), pictures.get("palette")
    if classes is None or classes.ndim != 1 or classes.dtype.kind != "U":
        raise ValueError("no names of classes")
    if palette is None or palette.dtype != np.uint8 or palette.shape != (len(classes), 3):
        raise ValueError("no palette of its classes")
    for i in range(len(index)):
        picture = pictures.get(f"image_{i}")
        if (
            picture is None
            or picture.dtype != np.uint8
            or picture.ndim != 3
            or picture.shape[2] != 3
            or not picture.size
        ):
            raise ValueError(f"no picture {i}")
        for name in ("truth", "prediction", "refined"):
            labels = pictures.get(f"{name}_{i}")
            if labels is None and name == "refined":
                continue
            if labels is None or labels.dtype != np.uint8 or labels.shape != picture.shape[:2]:
                raise ValueError(f"no {name} of picture {i}")


def _same_pictures(one: Arrays, other: Arrays) -> None:
    names = ["index", "classes", *(f"{kind}_{i}" for kind in ("image", "truth") for i in range(len(other["index"])))]
    if not all(np.array_equal(one.get(name, ()), other[name]) for name in names):
        raise ValueError("other pictures than the first variant's")


def choose_pictures(arrays: Mapping[str, Arrays]) -> list[ChosenPicture]:
    """Return the best, the median and the worst picture that all variants share; fewer where there are fewer pictures.

    A picture's score is its pixel accuracy over pixels that are not ignored, averaged over the variants. Of equal
    pictures the one with the lower number comes first. A picture without any scored pixel is not chosen.
    """
    scores: dict[int, list[float]] = {}
    for pictures in arrays.values():
        for i, number in enumerate(pictures["index"].tolist()):
            scored = pictures[f"truth_{i}"] != IGNORE
            if scored.any():
                right = pictures[f"truth_{i}"] == pictures[f"prediction_{i}"]
                scores.setdefault(number, []).append(float(right[scored].mean()))
    means = {number: sum(shares) / len(shares) for number, shares in scores.items() if len(shares) == len(arrays)}
    ranked = sorted(means, key=lambda number: (-means[number], number))
    if not ranked:
        return []
    places = dict(zip(RANKS, (0, (len(ranked) - 1) // 2, len(ranked) - 1), strict=True))
    wanted = {1: RANKS[:1], 2: ("best", "worst")}.get(len(ranked), RANKS)
    return [ChosenPicture(rank, ranked[places[rank]], means[ranked[places[rank]]]) for rank in wanted]


def draw_pictures(arrays: Mapping[str, Arrays], control: str) -> ExamplePictures | None:
    """Return the chosen pictures, a row for each picture and variant; None where there is none to draw.

    At most `MAX_VARIANTS` variants, `control` first if it is among them; the caption says how many are left out.
    """
    chosen = choose_pictures(arrays)
    if not chosen:
        return None
    names = sorted(arrays, key=lambda name: name != control)
    shown = {name: arrays[name] for name in names[:MAX_VARIANTS]}
    first = next(iter(shown.values()))
    refines = any(name.startswith("refined_") for pictures in shown.values() for name in pictures)
    titles = ["input", "truth", "prediction", "errors", "boundary" + ", before" * refines]
    titles += ["boundary, refined"] * refines
    used = sorted(set().union(*(_classes(pictures, chosen) for pictures in shown.values())))
    with drawing.plot_style({"font.size": 9.5, "image.interpolation": "nearest", "image.resample": False}):
        tall = sum(_height(first, picture) for picture in chosen)
        legend = 0.75 + 0.2 * (len(used) // LEGEND_COLUMNS + 1 if len(used) <= MAX_LEGEND_CLASSES else 0)
        figure = Figure(
            figsize=(COLUMN_INCHES * len(titles) + 0.4, tall * len(shown) + 0.35 * len(chosen) + legend),
            dpi=drawing.DPI,
            layout="constrained",
        )
        bands = figure.subfigures(
            len(chosen), 1, squeeze=False, height_ratios=[_height(first, picture) for picture in chosen]
        )[:, 0]
        for band, picture in zip(bands, chosen, strict=True):
            _band(band, picture, shown, titles)
        _legend(figure, first, used)
        png = _fewer_colours(drawing.figure_files(figure)["png"])
    return ExamplePictures(png=png, caption=_caption(chosen, arrays, shown))


def _fewer_colours(png: bytes) -> bytes:
    """The picture with 256 colours, which takes half the room."""
    file = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(file, format="png", optimize=True)
    return file.getvalue()


def _caption(chosen: Sequence[ChosenPicture], arrays: Mapping[str, Arrays], shown: Mapping[str, Arrays]) -> str:
    count = len(next(iter(arrays.values()))["index"])
    which = ", ".join(f"{picture.rank}: picture {picture.number} ({100 * picture.score:.1f} %)" for picture in chosen)
    text = (
        f"Chosen by rule from {count} kept pictures, by pixel accuracy averaged over {len(arrays)} "
        f"variant{'s' * (len(arrays) != 1)}: {which}. Each variant's lowest seed with pictures."
    )
    out = len(arrays) - len(shown)
    return text + (f" {out} more variant{'s' * (out != 1)} not drawn: the first {MAX_VARIANTS} are." if out else "")


def _position(pictures: Arrays, number: int) -> int:
    return int(pictures["index"].tolist().index(number))


def _height(pictures: Arrays, picture: ChosenPicture) -> float:
    """Inches of a row of this picture."""
    height, width = pictures[f"truth_{_position(pictures, picture.number)}"].shape
    return ROW_INCHES * min(max(height / width, 0.3), 2.0) + 0.06


def _classes(pictures: Arrays, chosen: Sequence[ChosenPicture]) -> set[int]:
    """Classes to be seen in the chosen pictures."""
    kinds = ("truth", "prediction")
    seen: set[int] = set()
    for picture in chosen:
        i = _position(pictures, picture.number)
        seen |= {label for kind in kinds for label in np.unique(pictures[f"{kind}_{i}"]).tolist()}
    return {label for label in seen if label < len(pictures["classes"])}


def _band(band: Any, picture: ChosenPicture, shown: Mapping[str, Arrays], titles: Sequence[str]) -> None:
    """The rows of one picture, a variant each."""
    band.suptitle(
        f"{picture.rank}: picture {picture.number}, {100 * picture.score:.1f} % of pixels right on average",
        fontsize=10.5,
        x=0.01,
        ha="left",
        weight="bold",
    )
    grid = band.subplots(len(shown), len(titles), squeeze=False)
    for line, (name, pictures) in zip(grid, shown.items(), strict=True):
        panels = list(_panels(pictures, _position(pictures, picture.number)))
        for axis, panel in zip(line, [*panels, *[None] * (len(titles) - len(panels))], strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            axis.spines[:].set_visible(False)
            axis.imshow(np.full_like(panels[0], 255) if panel is None else panel)
            if panel is None:
                middle = {"transform": axis.transAxes, "ha": "center", "va": "center"}
                axis.text(0.5, 0.5, "not refined", color=drawing.GREY, fontsize=9, **middle)
        line[0].set_ylabel("\n".join(textwrap.wrap(single_line(name), 21, max_lines=2, placeholder="…")), fontsize=9)
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=9.5, pad=3)


def _panels(pictures: Arrays, i: int) -> Iterator[ByteImage]:
    """The columns of one row, as pictures."""
    truth, prediction, refined = pictures[f"truth_{i}"], pictures[f"prediction_{i}"], pictures.get(f"refined_{i}")
    palette = pictures["palette"]
    yield resize_nearest(pictures[f"image_{i}"])
    yield hatch_where(resize_nearest(colour_labels(truth, palette)), resize_nearest(truth) == IGNORE)
    yield resize_nearest(colour_labels(prediction, palette))
    pale = pale_grey(pictures[f"image_{i}"])
    errors = np.where(((prediction != truth) & (truth != IGNORE))[..., None], np.array(RED, np.uint8), pale)
    yield hatch_where(resize_nearest(errors), resize_nearest(truth) == IGNORE)
    for predicted in (prediction, refined):
        if predicted is not None:
            yield boundary_overlay(resize_nearest(truth), resize_nearest(predicted), resize_nearest(pale))


def _legend(figure: Figure, pictures: Arrays, used: Sequence[int]) -> None:
    """Names of the colours: classes where they are few, and marks."""
    shades = {"wrong": RED, "true boundary": TRUE_ONLY, "predicted": PREDICTED_ONLY, "both": BOTH}
    handles = [Patch(color=drawing.colour_fractions(colour), label=name) for name, colour in shades.items()]
    handles.append(Patch(facecolor="#afafaf", edgecolor="#707070", hatch="////", label="ignored"))
    if len(used) <= MAX_LEGEND_CLASSES:
        classes, palette = pictures["classes"].tolist(), pictures["palette"].tolist()
        handles += [
            Patch(color=drawing.colour_fractions(palette[label]), label=drawing.legend_label(classes[label]))
            for label in used
        ]
    by_line = [handle for column in range(LEGEND_COLUMNS) for handle in handles[column::LEGEND_COLUMNS]]
    figure.legend(handles=by_line, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize=9, handlelength=1.2)
