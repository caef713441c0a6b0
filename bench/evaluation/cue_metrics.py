"""Accuracy on look-alike classes by the distance of the cue, and how much of the context that is.

A pixel counts if it was given to a class of its own pair, so that finding objects is one thing and telling twins apart
another. Its distance is that of its object from the emblem that decides it. All counts are integers that add up over
pictures, whoever counted them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from unept.data.scenes_v2 import NO_CUE, unplaced_accuracy

BIN_PX = 8  # width of a class of distances, in pixels
CHANCE = 0.5  # accuracy between two look-alikes without the cue
TOLD = 1.0  # accuracy with the cue
_BINS = 256 // BIN_PX
_SUMS = ("right", "pixels", "right_squared", "pixels_squared", "right_pixels", "pictures")

Counts = npt.NDArray[np.int64]


class CueScorer:
    """Sums over pictures by class of distance; the last place of each array is all distances together."""

    def __init__(self, lookalikes: Iterable[Sequence[int]]) -> None:
        """Set the pairs of classes that look alike."""
        self.pairs = tuple(tuple(pair) for pair in lookalikes)
        self._sums: dict[str, Counts] = {name: np.zeros(_BINS + 1, dtype=np.int64) for name in _SUMS}

    def add(
        self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], distance: npt.NDArray[np.uint8]
    ) -> None:
        """Count one image.

        Args:
            truth: Labels, (H, W).
            prediction: Predicted classes, (H, W).
            distance: Pixels from each pixel's object to its emblem, (H, W); NO_CUE where a pixel needs none.
        """
        assert truth.shape == prediction.shape == distance.shape, (truth.shape, prediction.shape, distance.shape)
        counted = np.zeros(truth.shape, dtype=bool)
        for pair in self.pairs:
            counted |= np.isin(truth, pair) & np.isin(prediction, pair)
        counted &= distance != NO_CUE
        pixels = _by_bin(distance[counted])
        right = _by_bin(distance[counted & (truth == prediction)])
        self.merge(
            {
                "right": right,
                "pixels": pixels,
                "right_squared": right * right,
                "pixels_squared": pixels * pixels,
                "right_pixels": right * pixels,
                "pictures": (pixels > 0).astype(np.int64),
            }
        )

    def sums(self) -> dict[str, Counts]:
        """Return everything counted so far as integer arrays, for `merge`."""
        return {name: array.copy() for name, array in self._sums.items()}

    def merge(self, sums: Mapping[str, Counts]) -> None:
        """Add the sums of other images."""
        for name in _SUMS:
            self._sums[name] += sums[name]

    def metrics(self, emblems: int, pixels_of_classes: Sequence[int]) -> dict[str, Any]:
        """Return the metrics of a run, fractions.

        Args:
            emblems: Emblems in a scene.
            pixels_of_classes: True pixels of each class in the pictures counted.

        Returns:
            `context_share`: what of the way from chance to certainty look-alike accuracy goes, which is
            (row - blind) / (told - blind). By class of distance, named by its first pixel: `cue_accuracy`, its standard
            error over pictures `cue_error`, and the pixels counted, `cue_pixels`. `references`: accuracy and mIoU of
            who is perfect but for the cue (`blind`), knows the boards without their places (`unplaced`), and is told.
        """
        accuracy, error = self._accuracies()
        pixels = self._sums["pixels"]
        seen = [number for number in range(_BINS) if pixels[number]]
        overall = accuracy[_BINS] if pixels[_BINS] else None
        return {
            "context_share": None if overall is None else float((overall - CHANCE) / (TOLD - CHANCE)),
            "cue_accuracy": {_name(number): float(accuracy[number]) for number in seen},
            "cue_error": {_name(number): float(error[number]) for number in seen},
            "cue_pixels": {_name(number): int(pixels[number]) for number in seen},
            "references": {
                "blind_accuracy": CHANCE,
                "unplaced_accuracy": unplaced_accuracy(emblems),
                "told_accuracy": TOLD,
                "blind_miou": blind_miou(pixels_of_classes, self.pairs),
                "told_miou": 1.0,
            },
        }

    def _accuracies(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return accuracy and its standard error over pictures (of a ratio of sums), nan without a pixel."""
        s = self._sums
        with np.errstate(divide="ignore", invalid="ignore"):
            p = s["right"] / s["pixels"]
            squares = s["right_squared"] - 2 * p * s["right_pixels"] + p * p * s["pixels_squared"]
            correction = s["pictures"] / np.maximum(s["pictures"] - 1, 1)
            return p, np.sqrt(np.maximum(squares, 0) * correction) / s["pixels"]


def blind_miou(pixels_of_classes: Sequence[int], pairs: Iterable[Sequence[int]]) -> float | None:
    """Return the expected mIoU of who is perfect on all but look-alikes, and tosses a fair coin between these.

    Args:
        pixels_of_classes: True pixels of each class.
        pairs: Pairs of classes that look alike.
    """
    iou = [1.0 if pixels else None for pixels in pixels_of_classes]
    for first, second in pairs:
        for own, other in ((first, second), (second, first)):
            a, b = pixels_of_classes[own], pixels_of_classes[other]
            iou[own] = a / (2 * a + b) if a + b else None
    known = [value for value in iou if value is not None]
    return sum(known) / len(known) if known else None


def _by_bin(distances: npt.NDArray[np.uint8]) -> Counts:
    counts = np.bincount(distances // BIN_PX, minlength=_BINS)
    return np.append(counts, counts.sum()).astype(np.int64)


def _name(number: int) -> str:
    return str(number * BIN_PX)
