"""Half-range: the distance at which an accuracy has fallen half the way from near to chance."""

from __future__ import annotations

import math
from collections.abc import Sequence


def half_range(distances: Sequence[float], accuracies: Sequence[float], *, chance: float, least: float = 0.05) -> float:
    """Return the distance at which an accuracy, by distance, has fallen half the way from its nearest value to chance.

    Args:
        distances: Middles of the classes of distance, ascending.
        accuracies: The accuracy in each.
        chance: The accuracy without any cue.
        least: How far above chance the nearest accuracy must be for there to be a range at all.

    Returns:
        The first crossing, interpolated between the middles of two classes; 0 where the nearest accuracy is not above
        chance, and infinity where no accuracy falls so low.
    """
    assert len(distances) == len(accuracies), (len(distances), len(accuracies))
    if not accuracies or accuracies[0] < chance + least:
        return 0.0
    half = (accuracies[0] + chance) / 2
    for number in range(1, len(accuracies)):
        before, after = accuracies[number - 1], accuracies[number]
        if after <= half:
            share = (before - half) / (before - after)
            return distances[number - 1] + share * (distances[number] - distances[number - 1])
    return math.inf
