"""Against SciPy, against numbers worked out by hand, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics import detectable_difference, holm, permutation, summarise, welch

FIRST = [42.1, 42.9, 41.7, 43.3, 42.4]
SECOND = [44.0, 43.1, 45.2, 44.4, 43.9]


def test_five_seeds_by_hand() -> None:
    summary = summarise([1.0, 2.0, 3.0, 4.0, 5.0])
    assert summary.mean == 3
    assert summary.sd == pytest.approx(math.sqrt(2.5))  # ddof = 1; ddof = 0 would be sqrt(2)
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert summary.low == pytest.approx(3 - half, abs=1e-5)
    assert summary.high == pytest.approx(3 + half, abs=1e-5)


def test_one_seed_has_no_spread_and_none_has_no_mean() -> None:
    one = summarise([7.0])
    assert (one.n, one.mean, one.sd, one.low, one.high) == (1, 7.0, None, None, None)
    none = summarise([])
    assert (none.n, none.mean, none.sd) == (0, None, None)


def test_interval_is_scipys() -> None:
    summary = summarise(FIRST)
    expected = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))


def test_order_does_not_change_a_summary() -> None:
    assert summarise(FIRST) == summarise(FIRST[::-1])


def test_welch_is_scipys() -> None:
    ours = welch(FIRST, SECOND)
    theirs = stats.ttest_ind(FIRST, SECOND, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert ours.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))


def test_welch_without_spread() -> None:
    assert welch([1.0, 1.0], [2.0, 2.0]).p == 0
    assert welch([1.0, 1.0], [1.0, 1.0]).p == 1
    with pytest.raises(ValueError, match="samples of 1 and 2"):
        welch([1.0], [1.0, 2.0])


def test_permutation_is_scipys() -> None:
    ours = permutation(FIRST, SECOND)
    theirs = stats.permutation_test(
        (FIRST, SECOND), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), vectorized=True, n_resamples=np.inf
    )
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.smallest == pytest.approx(2 / 252)


@pytest.mark.parametrize(("n", "m", "smallest"), [(5, 5, 2 / 252), (3, 3, 2 / 20), (4, 5, 1 / 126), (1, 1, 1.0)])
def test_smallest_attainable_p_is_attained(n: int, m: int, smallest: float) -> None:
    apart = permutation([float(i) for i in range(n)], [100.0 + i for i in range(m)])
    assert apart.smallest == pytest.approx(smallest)
    assert apart.p == pytest.approx(smallest)


def test_permutation_of_ties_is_one() -> None:
    assert permutation([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]).p == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_detectable_difference_has_the_power_it_claims() -> None:
    """The power at that difference, from SciPy's noncentral t, is 80 %; and simulated, within four standard errors."""
    n, sd = 5, 0.3
    difference = detectable_difference(sd, n)
    noncentrality = difference / (sd * math.sqrt(2 / n))
    critical = stats.t.ppf(0.975, 2 * n - 2)
    assert stats.nct.sf(critical, 2 * n - 2, noncentrality) == pytest.approx(0.8, abs=1e-6)
    rng = np.random.default_rng(0)
    trials = 4000
    p = stats.ttest_ind(rng.normal(difference, sd, (trials, n)), rng.normal(0, sd, (trials, n)), axis=1).pvalue
    assert np.mean(p < 0.05) == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / trials))
    assert detectable_difference(2 * sd, n) == pytest.approx(2 * difference)
    assert detectable_difference(sd, 20) < difference / 2


def test_intervals_cover_and_false_positives_are_rare() -> None:
    """2000 null experiments of five seeds: 95 % coverage, and no more than 5 % of Welch's p below .05."""
    rng = np.random.default_rng(1)
    trials = 2000
    error = 4 * math.sqrt(0.95 * 0.05 / trials)
    covered = rejected = 0
    for first, second in rng.normal(size=(trials, 2, 5)):
        summary = summarise(first.tolist())
        assert summary.low is not None
        assert summary.high is not None
        covered += summary.low <= 0 <= summary.high
        rejected += welch(first.tolist(), second.tolist()).p < 0.05
    assert covered / trials == pytest.approx(0.95, abs=error)
    assert 0.03 < rejected / trials < 0.05 + error
