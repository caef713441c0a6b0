"""mIoU and pixel accuracy from one confusion matrix over a whole data set (spec section 2, "Evaluation")."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Fractions in 0..1; `iou` is None for a class that occurs neither in the truth nor in the prediction."""

    miou: float | None
    pixel_accuracy: float | None
    iou: tuple[float | None, ...]


class ConfusionMatrix:
    """Counts of (truth, prediction) pairs, int64 (classes, classes), exact for any number of pixels.

    Args:
        classes: Number of classes.
        ignore: Label value of pixels that are left out.
    """

    def __init__(self, classes: int, ignore: int = 255) -> None:
        self.classes = classes
        self.ignore = ignore
        self.counts: npt.NDArray[np.int64] = np.zeros((classes, classes), dtype=np.int64)

    def add(self, truth: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]) -> None:
        """Count one image.

        Args:
            truth: Labels, any integer type.
            prediction: Predicted classes, of the same shape, in 0..classes-1 wherever truth is not ignored.

        Raises:
            ValueError: A label lies outside the classes.
        """
        assert truth.shape == prediction.shape, (truth.shape, prediction.shape)
        kept = truth != self.ignore
        true = truth[kept].astype(np.int64)
        predicted = prediction[kept].astype(np.int64)
        outside = [int(v) for v in np.unique(np.concatenate([true, predicted])) if not 0 <= v < self.classes]
        if outside:
            raise ValueError(f"label value {outside[0]} outside 0..{self.classes - 1} (ignore is {self.ignore})")
        pairs = np.bincount(true * self.classes + predicted, minlength=self.classes**2)
        self.counts += pairs.reshape(self.classes, self.classes)

    def scores(self) -> Scores:
        """Return mIoU, the mean over the classes with a union, and pixel accuracy; None without a labelled pixel."""
        hits = np.diag(self.counts)
        union = self.counts.sum(0) + self.counts.sum(1) - hits
        total = int(self.counts.sum())
        iou = tuple(float(h / u) if u else None for h, u in zip(hits, union, strict=True))
        seen = [value for value in iou if value is not None]
        return Scores(
            miou=float(np.mean(seen)) if seen else None,
            pixel_accuracy=float(hits.sum() / total) if total else None,
            iou=iou,
        )

    def group_accuracy(self, groups: Iterable[tuple[int, ...]]) -> float | None:
        """Return the share of pixels that were given the right class, among those that stayed within their group.

        Args:
            groups: Groups of classes. Counted are the pixels of each group's classes that were given to a class of the
                group.

        Returns:
            A fraction, or None where there is no such pixel.
        """
        blocks = [self.counts[np.ix_(group, group)] for group in groups]
        total = sum(int(block.sum()) for block in blocks)
        return float(sum(int(np.trace(block)) for block in blocks) / total) if total else None
