"""The Jeffreys interval: by its definition, by hand, and by simulation of its coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.stats.proportion import jeffreys_interval


def test_the_interval_is_of_the_beta_distribution_and_reaches_its_ends() -> None:
    low, high = jeffreys_interval(4, 5)
    assert stats.beta.cdf([low, high], 4.5, 1.5) == pytest.approx([0.025, 0.975])
    assert jeffreys_interval(0, 5)[0] == 0
    assert jeffreys_interval(5, 5) == (pytest.approx(0.621, abs=0.001), 1.0)
    none, every = jeffreys_interval(0, 7), jeffreys_interval(7, 7)
    assert none[1] == pytest.approx(1 - every[0])


@pytest.mark.parametrize(("count", "n"), [(6, 5), (-1, 5), (0, 0)])
def test_impossible_counts_are_refused(count: int, n: int) -> None:
    with pytest.raises(ValueError, match="expected a count from 0 to n"):
        jeffreys_interval(count, n)


@pytest.mark.parametrize("n", [5, 10, 30])
def test_coverage_over_proportions(n: int) -> None:
    """Over proportions drawn from Jeffreys' prior 95 % of the intervals hold theirs; ends of 0 and 1 add a little."""
    chance = np.random.default_rng(n)
    proportions = chance.beta(0.5, 0.5, 20_000)
    intervals = np.array([jeffreys_interval(count, n) for count in range(n + 1)])
    low, high = intervals[chance.binomial(n, proportions)].T
    assert 0.945 <= ((low <= proportions) & (proportions <= high)).mean() <= 0.985
