"""Power of Welch's test: what a number of seeds can show, and how many a difference needs.

The power is exact for normal values whose standard deviations are known. The test rejects where the difference is
larger than Welch's critical value times the standard error that came out, and this is averaged over both samples'
spreads. Student's test, which knows that spreads are equal, would promise more than Welch's keeps.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import special, stats

MAX_SEEDS = 100_000  # seeds a side that `seeds_needed` looks at
NODES = 80  # of the quadrature over each sample's spread


@dataclass(frozen=True, kw_only=True)
class Design:
    """Two samples before they are drawn.

    Args:
        sd: Standard deviation of the first one.
        sd_other: Of the second one, in the same unit.
        n: Values in the first one.
        n_other: In the second one.

    Raises:
        ValueError: For an impossible value.
    """

    sd: float
    sd_other: float
    n: int
    n_other: int

    def __post_init__(self) -> None:
        for sd in (self.sd, self.sd_other):
            if not (math.isfinite(sd) and sd >= 0):
                raise ValueError(f"sd {sd}: expected a standard deviation of 0 or more")
        for n in (self.n, self.n_other):
            if n < 2:
                raise ValueError(f"n {n}: expected 2 or more, a spread needs two values")

    @property
    def standard_error(self) -> float:
        """Standard error of the difference of the means."""
        return math.sqrt(self.sd**2 / self.n + self.sd_other**2 / self.n_other)


def equal_design(sd: float, n: int) -> Design:
    """Return two samples of n with one standard deviation."""
    return Design(sd=sd, sd_other=sd, n=n, n_other=n)


def achieved_power(difference: float, design: Design, alpha: float = 0.05) -> float:
    """Return the probability that Welch's test shows a true difference of the means at `alpha`, two-sided.

    Args:
        difference: The true difference.
        design: The samples.
        alpha: Level of the test.

    Raises:
        ValueError: For an impossible value.
    """
    check_difference(difference)
    check_share("alpha", alpha)
    if design.standard_error == 0:
        return 1.0
    return _power(difference / design.standard_error, *_limits(_scaled(design), alpha))


def detectable_difference(design: Design, power: float = 0.8, alpha: float = 0.05) -> float:
    """Return the true difference that Welch's test shows at `alpha` with probability `power`.

    The inverse of `achieved_power`; 0 where chance alone rejects as often.

    Raises:
        ValueError: For an impossible value.
    """
    check_share("power", power)
    check_share("alpha", alpha)
    if design.standard_error == 0:
        return 0.0
    limits = _limits(_scaled(design), alpha)
    low, high = 0.0, 1.0
    while _power(high, *limits) < power:
        low, high = high, 2 * high
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if _power(middle, *limits) < power else (low, middle)
    return high * design.standard_error


def seeds_needed(
    difference: float, sds: tuple[float, float], power: float = 0.8, alpha: float = 0.05, largest: int = MAX_SEEDS
) -> int | None:
    """Return the least n at which two samples of n show a true difference at `alpha` with probability `power`.

    Args:
        difference: The true difference.
        sds: Standard deviations of the samples.
        power: Probability to show the difference.
        alpha: Level of the test.
        largest: Most values a sample to look at.

    Returns:
        The number of seeds; None if it is above `largest`.

    Raises:
        ValueError: For an impossible value.
    """
    check_difference(difference)
    check_share("power", power)
    check_share("alpha", alpha)
    Design(sd=sds[0], sd_other=sds[1], n=largest, n_other=largest)  # refuses what is impossible

    def enough(n: int) -> bool:
        return achieved_power(difference, Design(sd=sds[0], sd_other=sds[1], n=n, n_other=n), alpha) >= power

    low, high = 1, 2  # low is too few
    while not enough(high):
        if high >= largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def check_difference(difference: float) -> None:
    """Refuse a difference that is not above 0."""
    if not (math.isfinite(difference) and difference > 0):
        raise ValueError(f"difference {difference}: expected a number above 0")


def check_share(name: str, value: float) -> None:
    """Refuse a probability of 0 or 1, or beyond."""
    if not 0 < value < 1:
        raise ValueError(f"{name} {value}: expected a probability above 0 and below 1")


def _scaled(design: Design) -> tuple[float, int, int]:
    """Return the first sample's share of the squared standard error, and both sizes: all that power depends on."""
    share = (design.sd / design.standard_error) ** 2 / design.n
    return round(share, 12), design.n, design.n_other


@functools.lru_cache(maxsize=64)
def _limits(scaled: tuple[float, int, int], alpha: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the least difference that is significant, in standard errors, by spread of the samples, and weights."""
    share, n, n_other = scaled
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    chances, weights = (nodes + 1) / 2, weights / 2
    first, second = (stats.chi2.ppf(chances, size - 1) / (size - 1) for size in (n, n_other))
    one, other = share * first[:, None], (1 - share) * second[None, :]
    freedom = (one + other) ** 2 / (one**2 / (n - 1) + other**2 / (n_other - 1))
    return stats.t.isf(alpha / 2, freedom) * np.sqrt(one + other), np.outer(weights, weights)


def _power(effect: float, limits: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """Return the power for a difference of so many standard errors."""
    return float((weights * (special.ndtr(effect - limits) + special.ndtr(-effect - limits))).sum())
