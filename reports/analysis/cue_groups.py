"""Seeds that learned the far cue, told from those that did not by their look-alike accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

LEARNED_ACCURACY = 0.75  # of the look-alike pixels: midway between guessing and perfect
GROUP_GAP = 0.15  # between neighbouring seeds of a variant: no spread of one group of five seeds was above 0.1


def cue_threshold(scores: Sequence[float]) -> float:
    """Return the look-alike accuracy from which on a seed of a variant has learned the cue.

    It is `LEARNED_ACCURACY`, or the best group's lowest score where a gap of `GROUP_GAP` or more parts it from others.

    Args:
        scores: Final look-alike accuracy of the variant's seeds, fractions.
    """
    ordered = sorted(scores)
    tops = [above for below, above in itertools.pairwise(ordered) if above - below >= GROUP_GAP]
    return max([LEARNED_ACCURACY, *tops])


def has_two_groups(scores: Sequence[float]) -> bool:
    """Return True if a variant's seeds fall in two groups or more, so that their mean describes none of them.

    Args:
        scores: Final look-alike accuracy of the variant's seeds, fractions.
    """
    learned = sum(score >= cue_threshold(scores) for score in scores)
    gaps = (above - below for below, above in itertools.pairwise(sorted(scores)))
    return 0 < learned < len(scores) or any(gap >= GROUP_GAP for gap in gaps)
