"""Statistics for a handful of seeds: what a mean of five runs can and cannot show.

Standard deviations are those of a sample (ddof = 1) and intervals are Student's t. Seeds of different variants are not
paired: their random streams part at the first difference of shape, so every comparison here is between two independent
samples.
"""

from __future__ import annotations

import functools
import itertools
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

MAX_SPLITS = 200_000  # of a permutation test: ten values against ten
MAX_SEEDS = 100_000  # seeds a side that `seeds_needed` looks at


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
    """

    difference: float
    low: float
    high: float
    p: float


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
        return WelchResult(difference=difference, low=difference, high=difference, p=float(difference == 0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a spread of rounding alone
        result = stats.ttest_ind(first, second, equal_var=False)
    interval = result.confidence_interval(confidence)
    return WelchResult(
        difference=difference, low=float(interval.low), high=float(interval.high), p=float(result.pvalue)
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
    _check_share("alpha", alpha)
    _check_family(family)
    return next(n for n in itertools.count(1) if smallest_permutation_p(n, n) * family <= alpha)


def pooled_sd(first: SampleSummary, second: SampleSummary) -> float | None:
    """Return the standard deviation common to two samples, by degrees of freedom; None where one of them has none."""
    if first.sd is None or second.sd is None:
        return None
    freedom = first.n + second.n - 2
    return math.sqrt(((first.n - 1) * first.sd**2 + (second.n - 1) * second.sd**2) / freedom)


def achieved_power(difference: float, sd: float, n: int, alpha: float = 0.05) -> float:
    """Return the probability that two samples of `n` show a true difference at `alpha`, two-sided.

    Student's two-sample t (equal variances). Welch's test, which gives up some freedom, has a few hundredths less at
    five seeds.

    Args:
        difference: The true difference of the means.
        sd: Standard deviation of both, in the same unit.
        n: Values in each sample.
        alpha: Level of the test.

    Raises:
        ValueError: For an impossible value.
    """
    _check_difference(difference)
    _check_spread(sd)
    _check_size(n)
    _check_share("alpha", alpha)
    return 1.0 if sd == 0 else _power(difference / (sd * math.sqrt(2 / n)), n, alpha)


def detectable_difference(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true difference that two samples of `n` show at `alpha` with probability `power`.

    The inverse of `achieved_power`; Welch's test needs a few percent more at five seeds.

    Raises:
        ValueError: For an impossible value.
    """
    _check_spread(sd)
    _check_size(n)
    _check_share("power", power)
    _check_share("alpha", alpha)
    return _detectable_effect(n, power, alpha) * sd * math.sqrt(2 / n)


def seeds_needed(
    difference: float, sd: float, power: float = 0.8, alpha: float = 0.05, largest: int = MAX_SEEDS
) -> int | None:
    """Return the least n at which two samples of n show a true difference at `alpha` with probability `power`.

    Returns:
        The number of seeds; None if it is above `largest`.

    Raises:
        ValueError: For an impossible value.
    """
    _check_difference(difference)
    _check_spread(sd)
    _check_share("power", power)
    _check_share("alpha", alpha)
    _check_size(largest)

    def enough(n: int) -> bool:
        return achieved_power(difference, sd, n, alpha) >= power

    low, high = 1, 2  # low is too few
    while not enough(high):
        if high >= largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def pairs_needed(threshold: float = 0.75, power: float = 0.95, alpha: float = 0.05) -> int:
    """Return the pairs of runs that tell P(A beats B) = `threshold` from a coin's toss, one-sided: Noether's formula.

    Bouthillier et al. 2021 (arXiv 2103.03098) recommend .75 with these error rates.

    Raises:
        ValueError: For an impossible value.
    """
    if not 0.5 < threshold < 1:
        raise ValueError(f"threshold {threshold}: expected a probability above 0.5 and below 1")
    _check_share("power", power)
    _check_share("alpha", alpha)
    reach = float(stats.norm.isf(alpha) + stats.norm.ppf(power))
    return max(1, math.ceil((reach / (math.sqrt(6) * (threshold - 0.5))) ** 2))


def _power(effect: float, n: int, alpha: float) -> float:
    """Return the two-sided power of Student's test whose statistic is shifted by `effect` standard errors.

    Given the normal part z of the statistic, the test rejects if the spread came out small enough, which has a
    chi-squared probability; that is averaged over z. (SciPy's noncentral t is NaN at many arguments.)
    """
    freedom = 2 * n - 2
    critical = float(stats.t.isf(alpha / 2, freedom))
    z, step = np.linspace(-9, 9, 4001, retstep=True)
    rejected = special.gammainc(freedom / 2, freedom / 2 * ((z + effect) / critical) ** 2)
    return min(1.0, float((rejected * np.exp(-(z**2) / 2)).sum() * step) / math.sqrt(2 * math.pi))


@functools.cache
def _detectable_effect(n: int, power: float, alpha: float) -> float:
    """Return the `effect` at which `_power` is `power`, by bisection; 0 where chance alone rejects as often."""
    low, high = 0.0, 1.0
    while _power(high, n, alpha) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, n, alpha) < power else (low, middle)
    return high


def _check_difference(difference: float) -> None:
    if not (math.isfinite(difference) and difference > 0):
        raise ValueError(f"difference {difference}: expected a number above 0")


def _check_spread(sd: float) -> None:
    if not (math.isfinite(sd) and sd >= 0):
        raise ValueError(f"sd {sd}: expected a standard deviation of 0 or more")


def _check_size(n: int) -> None:
    if n < 2:
        raise ValueError(f"n {n}: expected 2 or more, a spread needs two values")


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} {value}: expected a probability above 0 and below 1")


def _check_family(family: int) -> None:
    if family < 1:
        raise ValueError(f"family {family}: expected 1 comparison or more")
