"""Draws a picture of the content of a data set: `python -m unept.data.contact_sheet OUT.png [--data SPEC]`.

Each sample has three rows: the image, its label in the palette's colours, and the boundary targets, coloured by
direction inside the boundary band and black elsewhere.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from unept import boundary
from unept.config import LossConfig
from unept.data.sample import IGNORE, Bytes, Colour, Dataset, Sample
from unept.data.source import open_data

GAP = 2  # pixels between samples, before magnification
WHEEL = (  # one colour for each of the eight directions, those opposite each other in contrast
    (230, 60, 60),
    (240, 150, 40),
    (220, 220, 60),
    (120, 210, 70),
    (50, 190, 190),
    (60, 120, 230),
    (130, 80, 220),
    (220, 80, 190),
)


def contact_sheet(samples: Sequence[Sample], palette: Sequence[Colour], *, columns: int = 8, zoom: int = 2) -> Bytes:
    """Arrange samples of one size in one picture.

    Args:
        samples: At least one sample.
        palette: Colours of the classes.
        columns: Samples in a row.
        zoom: Side of a drawn pixel.

    Returns:
        uint8 (H, W, 3).
    """
    assert samples, "a contact sheet of nothing"
    tiles = [_tile(sample, palette) for sample in samples]
    height, width, _ = tiles[0].shape
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for number, tile in enumerate(tiles):
        top, left = number // columns * (height + GAP), number % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = tile
    return sheet.repeat(zoom, axis=0).repeat(zoom, axis=1)


def _tile(sample: Sample, palette: Sequence[Colour]) -> Bytes:
    """Stack image, label and boundary targets of one sample."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: len(palette)] = palette
    wheel = np.zeros((256, 3), dtype=np.uint8)
    wheel[: len(WHEEL)] = WHEEL
    config = LossConfig()
    distance, angle = boundary.truth_maps(sample.label, config, classes=len(palette))
    edge, direction = boundary.targets(distance, angle, sample.label, config)
    truth = wheel[np.where(edge == 1, direction, IGNORE)]
    return np.concatenate([sample.image, colours[sample.label], truth])


def save(dataset: Dataset, path: Path, count: int, columns: int = 8) -> None:
    """Write the sheet of the first `count` samples. ValueError for a path that cannot be written."""
    sheet = contact_sheet([dataset[i] for i in range(min(count, len(dataset)))], dataset.palette, columns=columns)
    try:
        Image.fromarray(sheet).save(path, optimize=True)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot write the picture ({error})") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and write the sheet; an error ends with exit code 2 and one line."""
    parser = argparse.ArgumentParser(
        prog="python -m unept.data.contact_sheet", description="Draw samples of a data set."
    )
    parser.add_argument("out", type=Path, help="the picture to write, .png")
    parser.add_argument("--data", default="scenes", help="scenes, folder:PATH or ade20k:PATH")
    parser.add_argument("--split", default="train")
    parser.add_argument("--count", type=int, default=16)
    options = parser.parse_args(arguments)
    try:
        save(open_data(options.data, options.split), options.out, options.count)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
