"""Label maps and pictures as arrays of colours: enlarged, hatched, with boundaries over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IGNORE = 255
MAX_SIDE = 240  # pixels of a picture in the drawing; larger ones are reduced
RED, TRUE_ONLY, PREDICTED_ONLY, BOTH = (200, 0, 20), (0, 114, 178), (230, 159, 0), (0, 158, 115)

ByteImage = npt.NDArray[np.uint8]


def resize_nearest(picture: npt.NDArray[Any], side: int = MAX_SIDE) -> npt.NDArray[Any]:
    """Return an image (H, W, ...) with its longest side near `side` pixels: every pixel repeated, or some left out."""
    longest = max(picture.shape[:2])
    if longest > side:
        step = -(-longest // side)
        top, left = (min(step // 2, length - 1) for length in picture.shape[:2])
        return picture[top::step, left::step]
    times = max(1, side // longest)
    return picture.repeat(times, axis=0).repeat(times, axis=1)


def colour_labels(labels: npt.NDArray[Any], palette: npt.NDArray[Any]) -> ByteImage:
    """Return labels (H, W) as colours (H, W, 3); ignored pixels and unknown classes are mid-grey."""
    table = np.full((256, 3), 150, np.uint8)
    table[: len(palette)] = palette[:256]
    table[IGNORE] = 150
    return table[labels]


def hatch_where(picture: ByteImage, mask: npt.NDArray[np.bool_]) -> ByteImage:
    """Return the image (H, W, 3) hatched in greys where the mask (H, W) is True."""
    down, right = np.indices(mask.shape)
    stripes = np.where(((down + right) // 4 % 2 == 0)[..., None], np.uint8(120), np.uint8(175))
    return np.where(mask[..., None], stripes, picture).astype(np.uint8)


def boundary_overlay(truth: npt.NDArray[Any], prediction: npt.NDArray[Any], grey: ByteImage) -> ByteImage:
    """Return both boundaries over a grey image, coloured by coincident, only true, only predicted.

    Pixels within one pixel of the other boundary coincide. No boundary is drawn at or in ignored pixels.
    """
    scored = truth != IGNORE
    real, predicted = label_edges(truth, scored), label_edges(prediction, scored)
    both = (real & dilate(predicted)) | (predicted & dilate(real))
    made = (grey * 0.5 + 110).astype(np.uint8)
    for mask, colour in ((real & ~both, TRUE_ONLY), (predicted & ~both, PREDICTED_ONLY), (both, BOTH)):
        made[mask] = colour
    return hatch_where(made, ~scored)


def label_edges(labels: npt.NDArray[Any], scored: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return a mask of the pixels with a neighbour of another label; only between scored pixels."""
    made = np.zeros(labels.shape, np.bool_)
    down = (labels[1:] != labels[:-1]) & scored[1:] & scored[:-1]
    right = (labels[:, 1:] != labels[:, :-1]) & scored[:, 1:] & scored[:, :-1]
    made[1:] |= down
    made[:-1] |= down
    made[:, 1:] |= right
    made[:, :-1] |= right
    return made


def dilate(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the mask with the eight neighbours of its pixels."""
    padded = np.pad(mask, 1)
    height, width = mask.shape
    made = np.zeros_like(mask)
    for down in range(3):
        for right in range(3):
            made |= padded[down : down + height, right : right + width]
    return made


def pale_grey(picture: ByteImage) -> ByteImage:
    """Return the image (H, W, 3) in pale greys, for marks on top of it."""
    light = (picture.astype(np.float64) @ [0.299, 0.587, 0.114]) * 0.6 + 90
    return np.repeat(light[..., None], 3, axis=2).astype(np.uint8)
