"""Statistics for a handful of seeds: what a mean of five runs can and cannot show.

Standard deviations are those of a sample (ddof = 1) and intervals are Student's t. Seeds of different variants are not
paired: their random streams part at the first difference of shape, so every comparison here is between two independent
samples.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from bench.stats.welch_power import check_share

MAX_SPLITS = 200_000  # of a permutation test: ten values against ten


@dataclass(frozen=True, kw_only=True)
class SampleSummary:
    """Mean and spread of one sample.

    Args:
        n: Number of values.
        mean: None without a value.
        sd: Sample standard deviation; None below two values.
        low: Lower end of the t-interval of the mean; None below two values.
        high: Upper end.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class WelchResult:
    """Difference of two means, `first - second`, with Welch's interval and two-sided p.

    Args:
        difference: Of the means.
        low: Lower end of the interval.
        high: Upper end.
        p: Two-sided p.
        standard_error: Of the difference.
        freedom: Welch's degrees of freedom; infinite without any spread.
    """

    difference: float
    low: float
    high: float
    p: float
    standard_error: float
    freedom: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval of another coverage."""
        if self.standard_error == 0:
            return self.difference, self.difference
        half = float(stats.t.isf((1 - confidence) / 2, self.freedom)) * self.standard_error
        return self.difference - half, self.difference + half


@dataclass(frozen=True, kw_only=True)
class PermutationResult:
    """Result of an exact permutation test.

    Args:
        p: Two-sided p over every split of the pooled values.
        smallest: The least p that these sample sizes can reach.
    """

    p: float
    smallest: float


def summarize_sample(values: Sequence[float], confidence: float = 0.95) -> SampleSummary:
    """Return mean, sample standard deviation and t-interval of `values`, which must be finite."""
    n = len(values)
    if n == 0:
        return SampleSummary(n=0, mean=None, sd=None, low=None, high=None)
    mean = math.fsum(values) / n
    if n == 1:
        return SampleSummary(n=1, mean=mean, sd=None, low=None, high=None)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * sd / math.sqrt(n)
    return SampleSummary(n=n, mean=mean, sd=sd, low=mean - half, high=mean + half)


def welch_test(first: Sequence[float], second: Sequence[float], confidence: float = 0.95) -> WelchResult:
    """Compare two means without assuming equal variances (SciPy's Welch test).

    Two samples without any spread have the interval of zero width that their values have, and p is 0 or 1.

    Args:
        first: Finite values, at least two.
        second: Finite values, at least two.
        confidence: Coverage of the interval.

    Raises:
        ValueError: For a sample of fewer than two values.
    """
    a, b = summarize_sample(first), summarize_sample(second)
    if a.mean is None or b.mean is None or a.sd is None or b.sd is None:
        raise ValueError(f"samples of {a.n} and {b.n}: a comparison needs two values in each")
    difference = a.mean - b.mean
    if a.sd == b.sd == 0:
        return WelchResult(
            difference=difference,
            low=difference,
            high=difference,
            p=float(difference == 0),
            standard_error=0.0,
            freedom=math.inf,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a spread of rounding alone
        result = stats.ttest_ind(first, second, equal_var=False)
    interval = result.confidence_interval(confidence)
    return WelchResult(
        difference=difference,
        low=float(interval.low),
        high=float(interval.high),
        p=float(result.pvalue),
        standard_error=math.sqrt(a.sd**2 / a.n + b.sd**2 / b.n),
        freedom=float(result.df),
    )


def holm_adjust(ps: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p of each comparison of one family, in the order of `ps`."""
    adjusted = [0.0] * len(ps)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[index]))
        adjusted[index] = highest
    return adjusted


def permutation_test(first: Sequence[float], second: Sequence[float]) -> PermutationResult:
    """Test a difference of means exactly: unpaired, two-sided by the absolute difference.

    All C(n + m, n) splits are enumerated (252 for five against five), so the sizes must stay small: see
    `is_enumerable`. SciPy's test of that name doubles the smaller tail instead, refuses samples of one, and is some 60
    times slower at ten against ten.
    """
    pooled = [float(value) for value in (*first, *second)]
    n, total = len(first), len(pooled)
    assert is_enumerable(n, total - n), f"{math.comb(total, n)} splits are too many to walk"
    splits = math.comb(total, n)
    sums = np.fromiter(map(math.fsum, itertools.combinations(pooled, n)), dtype=np.float64, count=splits)
    distances = np.abs(sums / n - (math.fsum(pooled) - sums) / (total - n))
    slack = 1e-9 * max(1.0, *map(abs, pooled))  # the same split, summed in another order, still counts
    extreme = int((distances >= distances[0] - slack).sum())
    return PermutationResult(p=extreme / splits, smallest=smallest_permutation_p(n, total - n))


def is_enumerable(n: int, m: int) -> bool:
    """Return True if samples of `n` and `m` have few enough splits for `permutation_test`."""
    return n >= 1 and m >= 1 and math.comb(n + m, n) <= MAX_SPLITS


def smallest_permutation_p(n: int, m: int) -> float:
    """Return the least two-sided p that the exact permutation test of samples of `n` and `m` can reach."""
    return (2 if n == m else 1) / math.comb(n + m, n)


def permutation_seeds(alpha: float = 0.05, family: int = 1) -> int:
    """Return the least n at which the permutation test of two samples of n could fall to `alpha / family`.

    That is where Holm's correction begins in a family of this size.

    Raises:
        ValueError: For an impossible value.
    """
    check_share("alpha", alpha)
    _check_family(family)
    return next(n for n in itertools.count(1) if smallest_permutation_p(n, n) * family <= alpha)


def pairs_needed(threshold: float = 0.75, power: float = 0.95, alpha: float = 0.05) -> int:
    """Return the pairs of runs that tell P(A beats B) = `threshold` from a coin's toss, one-sided: Noether's formula.

    Bouthillier et al. 2021 (arXiv 2103.03098) recommend .75 with these error rates.

    Raises:
        ValueError: For an impossible value.
    """
    if not 0.5 < threshold < 1:
        raise ValueError(f"threshold {threshold}: expected a probability above 0.5 and below 1")
    check_share("power", power)
    check_share("alpha", alpha)
    reach = float(stats.norm.isf(alpha) + stats.norm.ppf(power))
    return max(1, math.ceil((reach / (math.sqrt(6) * (threshold - 0.5))) ** 2))


def _check_family(family: int) -> None:
    if family < 1:
        raise ValueError(f"family {family}: expected 1 comparison or more")
