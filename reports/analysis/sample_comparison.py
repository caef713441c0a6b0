"""Two samples compared, and the family of comparisons that they belong to: tests, adjusted p, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.stats import seed_statistics
from bench.stats.seed_statistics import PermutationResult, WelchResult
from bench.stats.welch_power import Design, detectable_difference

ALPHA = 0.05
POWER = 0.8
HIGHER, LOWER, NO_DIFFERENCE_SEEN, CANNOT_BE_JUDGED = "higher", "lower", "no difference seen", "cannot be judged"
SAME = "same within the margin"


@dataclass(frozen=True, kw_only=True)
class SampleComparison:
    """Comparison of two samples.

    Attributes:
        n: Values in the first sample.
        n_other: Values in the second one.
        difference: Mean of the first less mean of the second; None without a value in each.
        welch: Welch's test; None without two values in each and some variation.
        permutation: Exact permutation test; None also where there are too many splits to enumerate.
        sds: Standard deviation of each sample; None without a test.
        room: Largest difference that percentages can have from the second sample's mean.
    """

    n: int
    n_other: int
    difference: float | None = None
    welch: WelchResult | None = None
    permutation: PermutationResult | None = None  # None too where there are too many splits to walk
    sds: tuple[float, float] | None = None
    room: float = 100.0

    def detectable(self, alpha: float = ALPHA) -> float | None:
        """Return the true difference that Welch's test shows with 80 % probability at `alpha`, if spreads are as seen.

        None without a test, and where percentages cannot differ by so much.
        """
        if self.design is None:
            return None
        least = detectable_difference(self.design, POWER, alpha)
        return least if least <= self.room else None

    @property
    def design(self) -> Design | None:
        """Sizes and spreads of both samples; None without a test."""
        return self.sds and Design(sd=self.sds[0], sd_other=self.sds[1], n=self.n, n_other=self.n_other)


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
        sds=None if a.sd is None or b.sd is None else (a.sd, b.sd),
        room=max(b.mean, 100 - b.mean),
    )


def holm_p_values(contrasts: Sequence[SampleComparison]) -> list[float | None]:
    """Return Holm's adjusted p of each comparison of one family.

    A comparison without a test has None and does not count as a member of the family.
    """
    tested = [item.welch.p for item in contrasts if item.welch is not None]
    ps = iter(seed_statistics.holm_adjust(tested))
    return [None if item.welch is None else next(ps) for item in contrasts]


def simultaneous_intervals(contrasts: Sequence[SampleComparison]) -> list[tuple[float | None, float | None]]:
    """Return an interval of each comparison of one family; they hold all at once with 95 %.

    Each is Welch's at Bonferroni's level, and holds 0 exactly where Holm's adjusted p shows no difference.
    """
    family = max(1, sum(item.welch is not None for item in contrasts))
    ends: list[tuple[float | None, float | None]] = []
    for item, p in zip(contrasts, holm_p_values(contrasts), strict=True):
        if item.welch is None:
            ends.append((None, None))
        else:
            low, high = item.welch.interval(1 - ALPHA / family)
            ends.append(interval_of_verdict(item.welch.difference, low, high, p))
    return ends


def interval_of_verdict(
    difference: float, low: float | None, high: float | None, p: float | None, null: float = 0.0
) -> tuple[float | None, float | None]:
    """Return the ends of a simultaneous interval, so that it holds `null` exactly where p shows no difference.

    The interval is Bonferroni's, and Holm's adjusted p may show a difference that it does not: there it ends at `null`.
    """
    if low is not None and high is not None and p is not None and p <= ALPHA and low < null < high:
        return (null, high) if difference > null else (low, null)
    return low, high


def judge_difference(difference: float | None, p: float | None) -> str:
    """Return the verdict on a difference by its adjusted p: higher, lower, no difference seen, or cannot be judged."""
    if difference is None or p is None:
        return CANNOT_BE_JUDGED
    if p > ALPHA:
        return NO_DIFFERENCE_SEEN
    return HIGHER if difference > 0 else LOWER
