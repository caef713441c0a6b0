"""Paired bootstrap over images: can two results on the same images be told apart?

The interval is the uncertainty due to the choice of test images, for two fixed checkpoints. The variation between
training seeds is not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 10_000
RESAMPLES_PER_BLOCK = 500  # resamples at a time

Counts = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PairedInterval:
    """Difference of one metric between two results, `first - second`, as fractions.

    Args:
        metric: `miou` or `pixel_accuracy`.
        first: Score of the first result.
        second: Score of the second result.
        low: 2.5th percentile of the difference over resamples.
        high: 97.5th percentile.
        above: Share of resamples in which the difference is above 0.
    """

    metric: str
    first: float
    second: float
    low: float
    high: float
    above: float

    @property
    def difference(self) -> float:
        """`first - second`."""
        return self.first - self.second


def paired_bootstrap(
    first: Counts, second: Counts, *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[PairedInterval, ...]:
    """Compare mIoU and pixel accuracy of two results on the same images.

    A resample draws as many images as there are, with replacement, the same for both results.

    Args:
        first: `Results.per_picture` (3, images, classes): correct, true and predicted pixels.
        second: The same of the other result.
        resamples: Number of resamples.
        seed: Random seed of the resamples.

    Raises:
        ValueError: For other shapes, another truth, and fewer than two images.
    """
    if first.shape != second.shape or not np.array_equal(first[1], second[1]):
        raise ValueError("the two results are not of the same pictures and truth: nothing to pair")
    pictures = first.shape[1]
    if pictures < 2:
        raise ValueError(f"{pictures} picture: a bootstrap over pictures needs two at least")
    if not first[1].any():
        raise ValueError("no labelled pixel in any picture: nothing to compare")
    chance = np.random.default_rng(seed)
    drawn = []
    for start in range(0, resamples, RESAMPLES_PER_BLOCK):
        weights = _weights(chance, min(RESAMPLES_PER_BLOCK, resamples - start), pictures)
        drawn.append(_scores(weights, first) - _scores(weights, second))
    differences = np.concatenate(drawn, axis=1)
    everything = np.ones((1, pictures))
    ours, theirs = _scores(everything, first)[:, 0], _scores(everything, second)[:, 0]
    return tuple(
        PairedInterval(
            metric=name,
            first=float(ours[index]),
            second=float(theirs[index]),
            low=float(np.nanpercentile(differences[index], 2.5)),
            high=float(np.nanpercentile(differences[index], 97.5)),
            above=float(np.mean(differences[index][~np.isnan(differences[index])] > 0)),
        )
        for index, name in enumerate(("miou", "pixel_accuracy"))
    )


def _weights(chance: np.random.Generator, resamples: int, pictures: int) -> Scores:
    """Return how often each image is drawn, (resamples, images)."""
    picked = chance.integers(pictures, size=(resamples, pictures)) + pictures * np.arange(resamples)[:, None]
    return np.bincount(picked.ravel(), minlength=resamples * pictures).reshape(resamples, pictures).astype(np.float64)


def _scores(weights_RN: Scores, counts: Counts) -> Scores:
    """Return mIoU and pixel accuracy of each resample, (2, resamples): exact sums, while they are below 2^53 pixels.

    As over a whole data set, the mean goes over the classes with a union; a resample without any labelled pixel has no
    score, NaN.
    """
    hits_RC, true_RC, predicted_RC = (weights_RN @ count_PC.astype(np.float64) for count_PC in counts)
    union_RC = true_RC + predicted_RC - hits_RC
    seen_RC = union_RC > 0
    iou_RC = np.divide(hits_RC, union_RC, out=np.zeros_like(hits_RC), where=seen_RC)
    total_R = true_RC.sum(1)
    scored_R = total_R > 0
    nothing = np.full(len(total_R), np.nan)
    miou_R = np.divide(iou_RC.sum(1), seen_RC.sum(1), out=nothing.copy(), where=scored_R)
    accuracy_R = np.divide(hits_RC.sum(1), total_R, out=nothing.copy(), where=scored_R)
    return np.stack([miou_R, accuracy_R])
