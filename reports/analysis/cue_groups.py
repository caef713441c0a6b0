"""Seeds that learned the far cue, told from those that did not by their look-alike accuracy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from bench.evaluation.cue_metrics import CHANCE, TOLD
from reports.analysis import study_rows

GROUP_GAP = 0.15  # between neighbouring seeds of a variant: no spread of one group of five seeds was above 0.1


def learned_accuracy(unplaced: float | None = None) -> float:
    """Return the look-alike accuracy that a seed needs to have learned the cue: midway from what is had without to all.

    Args:
        unplaced: Accuracy of who knows the scene's cues and not which is an object's own, a fraction; None or 1 where
            there is one cue for all, so that who has not learned it can only guess.
    """
    return ((CHANCE if unplaced in (None, TOLD) else float(unplaced)) + TOLD) / 2


def accuracy_to_learn(run: study_rows.Row) -> float:
    """Return the `learned_accuracy` of the scenes that a run was scored on; rows of the first version do not say it."""
    return learned_accuracy(study_rows.number_at(run, "metrics", "references", "unplaced_accuracy"))


def cue_threshold(scores: Sequence[float], least: float) -> float:
    """Return the look-alike accuracy from which on a seed of a variant has learned the cue.

    It is `least`, or the best group's lowest score where a gap of `GROUP_GAP` or more parts it from others.

    Args:
        scores: Final look-alike accuracy of the variant's seeds, fractions.
        least: The `learned_accuracy` of the scenes.
    """
    ordered = sorted(scores)
    tops = [above for below, above in itertools.pairwise(ordered) if above - below >= GROUP_GAP]
    return max([least, *tops])


def has_two_groups(scores: Sequence[float], least: float) -> bool:
    """Return True if a variant's seeds fall in two groups or more, so that their mean describes none of them.

    Args:
        scores: Final look-alike accuracy of the variant's seeds, fractions.
        least: The `learned_accuracy` of the scenes.
    """
    learned = sum(score >= cue_threshold(scores, least) for score in scores)
    gaps = (above - below for below, above in itertools.pairwise(sorted(scores)))
    return 0 < learned < len(scores) or any(gap >= GROUP_GAP for gap in gaps)
