"""Interval of a proportion: how often does something happen, if it did in k of n?"""

from __future__ import annotations

from scipy import stats


def jeffreys_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Jeffreys interval of a proportion: quantiles of Beta(count + 1/2, n - count + 1/2).

    Its ends are 0 for none and 1 for all of n (Brown, Cai and DasGupta 2001).

    Args:
        count: Number of times that it happened.
        n: Number of times that it could have.
        confidence: Coverage, on average over proportions.

    Raises:
        ValueError: `count` is not between 0 and `n`, or `n` is 0.
    """
    if not 0 <= count <= n or n == 0:
        raise ValueError(f"{count} of {n}: expected a count from 0 to n, and n above 0")
    tail = (1 - confidence) / 2
    posterior = stats.beta(count + 0.5, n - count + 0.5)
    return (
        0.0 if count == 0 else float(posterior.ppf(tail)),
        1.0 if count == n else float(posterior.isf(tail)),
    )
