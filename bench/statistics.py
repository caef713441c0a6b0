"""Statistics for a handful of seeds: what a mean of five runs can and cannot say.

Spread is the sample standard deviation (ddof = 1) and intervals are Student's t. Seeds of different variants are not
paired: their random streams part at the first difference of shape, so every comparison here is between two
independent samples.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One sample. `mean` needs a value; `sd` and the interval `low`..`high` need two and are None below that."""

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Difference of two means, `first - second`, with Welch's interval and two-sided p."""

    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, kw_only=True)
class Permutation:
    """Two-sided p over every split of the pooled values, and the least p that these sizes can reach."""

    p: float
    smallest: float


def summarise(values: Sequence[float], confidence: float = 0.95) -> Summary:
    """Mean, sample standard deviation and t-interval of `values`, which must be finite."""
    n = len(values)
    if n == 0:
        return Summary(n=0, mean=None, sd=None, low=None, high=None)
    mean = math.fsum(values) / n
    if n == 1:
        return Summary(n=1, mean=mean, sd=None, low=None, high=None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return Summary(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half)


def welch(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> Comparison:
    """Welch's unequal-variance comparison. Raises ValueError for a sample of fewer than two.

    Two samples without any spread have the interval of zero width that their values have, and p is 0 or 1.
    """
    a, b = summarise(first), summarise(second)
    if a.mean is None or b.mean is None or a.sd is None or b.sd is None:
        raise ValueError(f"samples of {a.n} and {b.n}: a comparison needs two values in each")
    difference = a.mean - b.mean
    va, vb = a.sd**2 / a.n, b.sd**2 / b.n
    error = math.sqrt(va + vb)
    if error == 0:
        return Comparison(difference=difference, low=difference, high=difference, p=float(difference == 0))
    freedom = (va + vb) ** 2 / (va**2 / (a.n - 1) + vb**2 / (b.n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(difference) / error, freedom))
    return Comparison(difference=difference, low=difference - half, high=difference + half, p=p)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p of each comparison of one family, in the order given."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def permutation(first: Sequence[float], second: Sequence[float]) -> Permutation:
    """Exact unpaired permutation test of a difference of means, two-sided.

    All C(n + m, n) splits are walked (252 for five against five), so the sizes must stay small.
    """
    pooled = np.array([*first, *second], dtype=np.float64)
    n, total = len(first), len(pooled)
    splits = math.comb(total, n)
    assert splits <= 2_000_000, f"{splits} splits are too many to walk"
    sums = np.array([pooled[list(chosen)].sum() for chosen in itertools.combinations(range(total), n)])
    distances = np.abs(sums / n - (pooled.sum() - sums) / (total - n))
    slack = 1e-9 * max(1.0, float(np.abs(pooled).max()))  # the same split, summed in another order, still counts
    extreme = int((distances >= distances[0] - slack).sum())
    both_tails = 2 if 2 * n == total else 1
    return Permutation(p=extreme / splits, smallest=both_tails / splits)


def detectable_difference(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The true difference that two samples of `n` with spread `sd` each show at `alpha` with this probability.

    Student's two-sample t (equal variances), solved by bisection on the noncentral t; n >= 2. Welch's test, which gives
    up some freedom, needs a few percent more at five seeds.
    """
    assert n >= 2, "a spread needs two values"
    freedom = 2 * n - 2
    critical = float(stats.t.ppf(1 - alpha / 2, freedom))

    def missed(effect: float) -> float:
        return float(stats.nct.cdf(critical, freedom, effect) - stats.nct.cdf(-critical, freedom, effect))

    low, high = 0.0, 2 * critical + 10
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if missed(middle) > 1 - power else (low, middle)
    return high * sd * math.sqrt(2 / n)
