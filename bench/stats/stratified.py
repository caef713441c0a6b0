"""Differences between two levels of one factor, with the levels permuted within strata of the other factors.

Under the null the two levels of a stratum have the same distribution, whatever the strata have. The test is exact where
all allocations are enumerated, and as exact as a test by a random sample of them otherwise.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MAX_ALLOCATIONS = 200_000  # enumerated; of more, SAMPLED_ALLOCATIONS are drawn
SAMPLED_ALLOCATIONS = 50_000
INTERVAL_STEPS = 40  # halvings of the search for an end of an interval

Stratum = tuple[Sequence[float], Sequence[float]]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StratifiedDifference:
    """Difference of two levels, `first - second`, averaged over strata.

    Args:
        difference: Mean over the strata of the difference of means.
        p: Two-sided p of the permutation test.
        low: Lower end of the interval: the shifts of the first level that the same test does not reject; None where
            the strata are too small to have an interval.
        high: Upper end.
    """

    difference: float
    p: float
    low: float | None
    high: float | None


def compare_within_strata(
    strata: Sequence[Stratum], confidence: float = 0.95, *, allocations: int = SAMPLED_ALLOCATIONS, seed: int = 0
) -> StratifiedDifference:
    """Compare two levels by permutation of their labels within each stratum; strata count alike.

    The interval and p come of the same allocations: at confidence 1 - alpha it holds 0 exactly where p is above alpha.

    Args:
        strata: Values of the first level and of the second one, a pair for each stratum, none empty.
        confidence: Coverage of the interval, for a shift of the first level.
        allocations: Number of allocations to draw where there are too many to enumerate.
        seed: Random seed of those that are drawn.

    Raises:
        ValueError: No stratum, or a stratum that lacks a level.
    """
    if not strata or any(not first or not second for first, second in strata):
        raise ValueError(f"{len(strata)} strata: a comparison needs one at least, with values of both levels in each")
    differences, shares = _allocated(strata, allocations, seed)
    observed, slack = differences[0], 1e-9 * max(1.0, float(np.abs(differences).max()))

    def p_of(shift: float) -> float:
        """Return p after the first level is moved by `-shift`; the first allocation is the one observed."""
        distances = np.abs(differences - shift * shares)
        return float((distances >= abs(observed - shift) - slack).mean())

    alpha = 1 - confidence
    reach = 4 * float(np.abs(differences).max()) + slack
    ends = [_end(p_of, observed, observed + side * reach, alpha) for side in (-1, 1)]
    return StratifiedDifference(difference=float(observed), p=p_of(0.0), low=ends[0], high=ends[1])


def _end(p_of: Callable[[float], float], inside: float, outside: float, alpha: float) -> float | None:
    """Return the shift between an accepted and a rejected one at which p falls to `alpha`; None if none is rejected."""
    for _ in range(4):
        if p_of(outside) <= alpha:
            break
        outside = inside + 4 * (outside - inside)
    else:
        return None
    for _ in range(INTERVAL_STEPS):
        middle = (inside + outside) / 2
        inside, outside = (inside, middle) if p_of(middle) <= alpha else (middle, outside)
    return outside


def _allocated(strata: Sequence[Stratum], allocations: int, seed: int) -> tuple[Values, Values]:
    """Return the difference of each allocation, and what a shift of 1 of the first level adds to it, observed first.

    Both are averages over the strata.
    """
    count = math.prod(math.comb(len(first) + len(second), len(first)) for first, second in strata)
    chance = np.random.default_rng(seed)
    differences, shares = np.zeros(1), np.zeros(1)
    for first, second in strata:
        n, pooled = len(first), np.array([*first, *second], dtype=np.float64)
        chosen = _splits(n, len(pooled)) if count <= MAX_ALLOCATIONS else _draws(chance, n, len(pooled), allocations)
        difference = _contrast(chosen, pooled, n)
        share = _contrast(chosen, (np.arange(len(pooled)) < n).astype(np.float64), n)
        if count <= MAX_ALLOCATIONS:
            differences, shares = (
                np.add.outer(known, new).ravel() for known, new in ((differences, difference), (shares, share))
            )
        else:
            differences, shares = differences + difference, shares + share
    return differences / len(strata), shares / len(strata)


def _contrast(chosen: npt.NDArray[np.bool_], values: Values, n: int) -> Values:
    """Return the mean of the values that an allocation gives to the first level, less the mean of the others."""
    sums = chosen @ values
    return np.asarray(sums / n - (values.sum() - sums) / (len(values) - n), dtype=np.float64)


@functools.lru_cache(maxsize=8)
def _splits(n: int, total: int) -> npt.NDArray[np.bool_]:
    """Return every choice of n of `total`, (splits, total); the first is of the first n."""
    choices = np.array(list(itertools.combinations(range(total), n)), dtype=np.intp)
    chosen = np.zeros((len(choices), total), dtype=np.bool_)
    np.put_along_axis(chosen, choices, True, axis=1)
    return chosen


def _draws(chance: np.random.Generator, n: int, total: int, allocations: int) -> npt.NDArray[np.bool_]:
    """Return random choices of n of `total` after the one of the first n, (allocations + 1, total)."""
    observed = np.arange(total) < n
    drawn = chance.permuted(np.tile(observed, (allocations, 1)), axis=1)
    return np.concatenate([observed[None], drawn])
