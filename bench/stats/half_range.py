"""Half-range: the distance at which an accuracy has fallen half the way from its highest value to chance."""

from __future__ import annotations

import math
from collections.abc import Sequence


def half_range(
    distances: Sequence[float],
    accuracies: Sequence[float],
    lows: Sequence[float],
    *,
    chance: float,
    least: float = 0.1,
) -> float:
    """Return the distance at which an accuracy, by distance, has fallen half the way from its highest value to chance.

    The highest value is looked for where accuracy is above chance: by `least`, and with the whole of its interval.

    Args:
        distances: Middles of the classes of distance, ascending.
        accuracies: The accuracy in each.
        lows: Lower end of the interval of each accuracy.
        chance: The accuracy without any cue.
        least: How far above chance an accuracy must be.

    Returns:
        The first crossing beyond the highest value, interpolated between the middles of two classes; 0 where no
        accuracy is above chance, and infinity where no later one falls so low.
    """
    assert len(distances) == len(accuracies) == len(lows), (len(distances), len(accuracies), len(lows))
    above = [number for number, low in enumerate(lows) if low > chance and accuracies[number] >= chance + least]
    if not above:
        return 0.0
    highest = max(above, key=accuracies.__getitem__)
    half = (accuracies[highest] + chance) / 2
    for number in range(highest + 1, len(accuracies)):
        before, after = accuracies[number - 1], accuracies[number]
        if after <= half:
            share = (before - half) / (before - after)
            return distances[number - 1] + share * (distances[number] - distances[number - 1])
    return math.inf
