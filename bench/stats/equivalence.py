"""Two one-sided tests: are two means the same within a margin?"""

from __future__ import annotations

from scipy import stats

from bench.stats.seed_statistics import WelchResult


def equivalence_p(welch: WelchResult, margin: float) -> float:
    """Return p of the claim that the true difference lies within ± `margin`: the larger of two one-sided Welch tests.

    Args:
        welch: The difference with its standard error.
        margin: Largest difference that counts as none, above 0.

    Raises:
        ValueError: For a margin that is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin {margin}: expected a number above 0")
    room = margin - abs(welch.difference)
    if welch.standard_error == 0:
        return float(room < 0)
    return float(stats.t.sf(room / welch.standard_error, welch.freedom))


def least_margin(welch: WelchResult, alpha: float = 0.05) -> float:
    """Return the least margin within which the means are the same at `alpha`: the farther end of the interval of
    coverage 1 - 2 alpha.
    """
    return max(map(abs, welch.interval(1 - 2 * alpha)))
