"""Two samples compared, and the family of comparisons that they belong to: tests, adjusted p, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import seed_statistics
from bench.stats.seed_statistics import PermutationResult, WelchResult

ALPHA = 0.05
POWER = 0.8
HIGHER, LOWER, NO_DIFFERENCE_SEEN, CANNOT_BE_JUDGED = "higher", "lower", "no difference seen", "cannot be judged"


@dataclass(frozen=True, kw_only=True)
class SampleComparison:
    """Comparison of two samples.

    Attributes:
        n: Values in the first sample.
        n_other: Values in the second one.
        difference: Mean of the first less mean of the second; None without a value in each.
        welch: Welch's test; None without two values in each and some variation.
        permutation: Exact permutation test; None also where there are too many splits to enumerate.
        sd: Pooled standard deviation.
    """

    n: int
    n_other: int
    difference: float | None = None
    welch: WelchResult | None = None
    permutation: PermutationResult | None = None  # None too where there are too many splits to walk
    sd: float | None = None  # pooled

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """Return the true difference that the smaller sample size shows with 80 % probability at `alpha`; None without
        a test.
        """
        if self.welch is None or self.sd is None:
            return None
        return seed_statistics.detectable_difference(self.sd, min(self.n, self.n_other), POWER, alpha)


def compare_samples(first: Sequence[float], second: Sequence[float]) -> SampleComparison:
    """Return `first - second` with the tests that the sample sizes allow."""
    a, b = seed_statistics.summarize_sample(first), seed_statistics.summarize_sample(second)
    if a.mean is None or b.mean is None:
        return SampleComparison(n=a.n, n_other=b.n)
    difference = a.mean - b.mean
    spread = min(first) < max(first) or min(second) < max(second)
    if min(a.n, b.n) < 2 or not spread:
        return SampleComparison(n=a.n, n_other=b.n, difference=difference)
    return SampleComparison(
        n=a.n,
        n_other=b.n,
        difference=difference,
        welch=seed_statistics.welch_test(first, second),
        permutation=seed_statistics.permutation_test(first, second)
        if seed_statistics.is_enumerable(a.n, b.n)
        else None,
        sd=seed_statistics.pooled_sd(a, b),
    )


def holm_p_values(contrasts: Sequence[SampleComparison]) -> list[float | None]:
    """Return Holm's adjusted p of each comparison of one family.

    A comparison without a test has None and does not count as a member of the family.
    """
    tested = [item.welch.p for item in contrasts if item.welch is not None]
    ps = iter(seed_statistics.holm_adjust(tested))
    return [None if item.welch is None else next(ps) for item in contrasts]


def interval_of_verdict(
    difference: float, low: float | None, high: float | None, p: float | None
) -> tuple[float | None, float | None]:
    """Return the ends of a simultaneous interval, so that it holds 0 exactly where the adjusted p shows no difference.

    The interval is Bonferroni's, and Holm's p may show a difference that it does not: there it ends at 0.
    """
    if low is not None and high is not None and p is not None and p <= ALPHA and low < 0 < high:
        return (0.0, high) if difference > 0 else (low, 0.0)
    return low, high


def judge_difference(difference: float | None, p: float | None) -> str:
    """Return the verdict on a difference by its adjusted p: higher, lower, no difference seen, or cannot be judged."""
    if difference is None or p is None:
        return CANNOT_BE_JUDGED
    if p > ALPHA:
        return NO_DIFFERENCE_SEEN
    return HIGHER if difference > 0 else LOWER
