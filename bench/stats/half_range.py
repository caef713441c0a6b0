"""Half-range: the distance at which an accuracy has fallen half the way from its highest value to chance."""

from __future__ import annotations

import math
from collections.abc import Sequence


def half_range(distances: Sequence[float], accuracies: Sequence[float], *, chance: float, least: float = 0.1) -> float:
    """Return the distance at which an accuracy, by distance, has fallen half the way from its highest value to chance.

    Args:
        distances: Middles of the classes of distance, ascending.
        accuracies: The accuracy in each.
        chance: The accuracy without any cue.
        least: How far above chance the highest accuracy must be for there to be a range at all.

    Returns:
        The first crossing beyond the highest value, interpolated between the middles of two classes; 0 where the
        highest is not above chance, and infinity where no later accuracy falls so low.
    """
    assert len(distances) == len(accuracies), (len(distances), len(accuracies))
    if not accuracies or max(accuracies) < chance + least:
        return 0.0
    highest = max(range(len(accuracies)), key=accuracies.__getitem__)
    half = (accuracies[highest] + chance) / 2
    for number in range(highest + 1, len(accuracies)):
        before, after = accuracies[number - 1], accuracies[number]
        if after <= half:
            share = (before - half) / (before - after)
            return distances[number - 1] + share * (distances[number] - distances[number - 1])
    return math.inf
