"""Against SciPy, against numbers worked out by hand, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.stats.seed_statistics import (
    achieved_power,
    detectable_difference,
    holm_adjust,
    is_enumerable,
    pairs_needed,
    permutation_seeds,
    permutation_test,
    pooled_sd,
    seeds_needed,
    smallest_permutation_p,
    summarize_sample,
    welch_test,
)

FIRST = [42.1, 42.9, 41.7, 43.3, 42.4]
SECOND = [44.0, 43.1, 45.2, 44.4, 43.9]


def test_five_seeds_by_hand() -> None:
    summary = summarize_sample([1.0, 2.0, 3.0, 4.0, 5.0])
    assert summary.mean == 3
    assert summary.sd == pytest.approx(math.sqrt(2.5))  # ddof = 1; ddof = 0 would be sqrt(2)
    half = 2.776445 * math.sqrt(2.5 / 5)
    assert summary.low == pytest.approx(3 - half, abs=1e-5)
    assert summary.high == pytest.approx(3 + half, abs=1e-5)


def test_one_seed_has_no_spread_and_none_has_no_mean() -> None:
    one = summarize_sample([7.0])
    assert (one.n, one.mean, one.sd, one.low, one.high) == (1, 7.0, None, None, None)
    none = summarize_sample([])
    assert (none.n, none.mean, none.sd) == (0, None, None)


def test_interval_is_scipys() -> None:
    summary = summarize_sample(FIRST)
    expected = stats.ttest_1samp(FIRST, 0).confidence_interval(0.95)
    assert (summary.low, summary.high) == pytest.approx((expected.low, expected.high))


def test_order_does_not_change_a_summary() -> None:
    assert summarize_sample(FIRST) == summarize_sample(FIRST[::-1])


def test_welch_is_scipys() -> None:
    ours = welch_test(FIRST, SECOND)
    theirs = stats.ttest_ind(FIRST, SECOND, equal_var=False)
    interval = theirs.confidence_interval(0.95)
    assert ours.p == pytest.approx(theirs.pvalue)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high))
    assert ours.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))


def test_welch_without_spread() -> None:
    assert welch_test([1.0, 1.0], [2.0, 2.0]).p == 0
    assert welch_test([1.0, 1.0], [1.0, 1.0]).p == 1
    with pytest.raises(ValueError, match="samples of 1 and 2"):
        welch_test([1.0], [1.0, 2.0])


def test_permutation_is_scipys() -> None:
    ours = permutation_test(FIRST, SECOND)
    theirs = stats.permutation_test(
        (FIRST, SECOND), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), vectorized=True, n_resamples=np.inf
    )
    assert ours.p == pytest.approx(theirs.pvalue)
    assert ours.smallest == pytest.approx(2 / 252)


@pytest.mark.parametrize(("n", "m", "smallest"), [(5, 5, 2 / 252), (3, 3, 2 / 20), (4, 5, 1 / 126), (1, 1, 1.0)])
def test_smallest_attainable_p_is_attained(n: int, m: int, smallest: float) -> None:
    apart = permutation_test([float(i) for i in range(n)], [100.0 + i for i in range(m)])
    assert apart.smallest == pytest.approx(smallest)
    assert apart.p == pytest.approx(smallest)


def test_permutation_of_ties_is_one() -> None:
    assert permutation_test([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]).p == 1


def test_holm_by_hand() -> None:
    assert holm_adjust([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm_adjust([0.5, 0.9]) == [1.0, 1.0]
    assert holm_adjust([]) == []


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


@pytest.mark.parametrize("n", [2, 3, 5, 10, 100, 2000])
@pytest.mark.parametrize("alpha", [0.05, 0.01, 0.0001])
def test_power_is_scipys_noncentral_t(n: int, alpha: float) -> None:
    """Where SciPy has a value: its noncentral t is NaN at many arguments."""
    freedom = 2 * n - 2
    critical = stats.t.isf(alpha / 2, freedom)
    agreed = 0
    for effect in np.linspace(0.05, 2.5, 12) * critical:
        expected = stats.nct.sf(critical, freedom, effect) + stats.nct.cdf(-critical, freedom, effect)
        if np.isfinite(expected):
            agreed += 1
            ours = achieved_power(effect * math.sqrt(2 / n), 1, n, alpha)
            assert ours == pytest.approx(expected, abs=1e-8)
    assert agreed >= 4


def test_power_is_that_of_the_noncentral_f() -> None:
    """The square of the statistic: another road to the same number."""
    for n, effect in ((2, 8.0), (3, 4.0), (5, 2.5), (20, 3.0)):
        critical = stats.f.isf(0.05, 1, 2 * n - 2)
        expected = stats.ncf.sf(critical, 1, 2 * n - 2, effect**2)
        assert achieved_power(effect * math.sqrt(2 / n), 1, n) == pytest.approx(expected, abs=1e-9)


def test_cohens_known_sizes() -> None:
    """Two-sided, 5 %, 80 %: the sizes of every textbook (Cohen 1988), and their power as statsmodels gives it."""
    assert [seeds_needed(d, 1) for d in (0.2, 0.5, 0.8)] == [394, 64, 26]
    assert achieved_power(0.5, 1, 64) == pytest.approx(0.8014596, abs=1e-6)
    assert achieved_power(0.8, 1, 26) == pytest.approx(0.8074866, abs=1e-6)


def test_power_of_five_seeds_is_near_welchs() -> None:
    """Simulated Welch figures for +0.5 points at n = 5. Student's test, used here, knows that the spreads are equal.

    So it is the stronger one: by up to .04 in power and 5 % in the detectable difference, and never the weaker one by
    more than the figures' own rounding.
    """
    welchs = {0.2: (0.92, 0.42), 0.3: (0.61, 0.63), 0.4: (0.39, 0.83), 0.5: (0.26, 1.06)}
    for sd, (power, detectable) in welchs.items():
        assert -0.005 <= achieved_power(0.5, sd, 5) - power <= 0.04
        assert -0.05 <= detectable_difference(sd, 5) / detectable - 1 <= 0.005


def test_welchs_own_power_by_simulation() -> None:
    rng = np.random.default_rng(2)
    trials = 20_000
    first, second = rng.normal(0.5, 0.3, (trials, 5)), rng.normal(0, 0.3, (trials, 5))
    share = np.mean(stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue < 0.05)
    assert share == pytest.approx(0.61, abs=0.005 + 4 * math.sqrt(0.61 * 0.39 / trials))


def test_seeds_needed_is_the_least_that_suffices() -> None:
    for difference, sd, power, alpha in ((1.0, 0.4, 0.8, 0.05), (0.5, 1.0, 0.9, 0.01), (0.3, 0.31, 0.8, 0.05 / 6)):
        n = seeds_needed(difference, sd, power, alpha)
        assert n is not None
        assert achieved_power(difference, sd, n, alpha) >= power > achieved_power(difference, sd, n - 1, alpha)
        assert detectable_difference(sd, n, power, alpha) <= difference
        assert detectable_difference(sd, n - 1, power, alpha) > difference


def test_seeds_needed_at_the_edges() -> None:
    assert seeds_needed(0.1, 0) == 2
    assert seeds_needed(100, 0.1) == 2
    assert seeds_needed(0.5, 1, largest=63) is None
    assert seeds_needed(0.5, 1, largest=64) == 64
    assert seeds_needed(0.001, 1) is None
    assert achieved_power(0.1, 0, 2) == 1
    assert detectable_difference(0, 2) == 0
    assert achieved_power(1e6, 1, 2, 1e-6) == pytest.approx(1)
    assert achieved_power(1e-9, 1, 5) == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.999])
@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_detectable_difference_is_the_inverse_of_power(n: int, power: float) -> None:
    for alpha in (0.05, 0.05 / 19):
        assert achieved_power(detectable_difference(0.7, n, power, alpha), 0.7, n, alpha) == pytest.approx(power)


def test_noethers_pairs() -> None:
    """Bouthillier et al. 2021: 29 pairs for a probability of .75, both error rates 5 %."""
    assert pairs_needed() == 29
    assert pairs_needed(0.75, power=0.8) == math.ceil((1.644854 + 0.841621) ** 2 / (6 * 0.25**2))
    assert pairs_needed(0.6) > pairs_needed(0.75) > pairs_needed(0.9)


def test_seeds_for_a_permutation_test() -> None:
    assert [permutation_seeds(0.05, family) for family in (1, 5, 6, 7, 23, 24)] == [4, 5, 5, 6, 6, 7]
    assert permutation_seeds(1 / 252) == 6
    assert permutation_seeds(2 / 252) == 5
    assert smallest_permutation_p(5, 5) == 2 / 252
    assert smallest_permutation_p(4, 5) == 1 / 126
    assert is_enumerable(10, 10)
    assert not is_enumerable(11, 11)
    assert not is_enumerable(0, 5)


def test_pooled_spread() -> None:
    a, b = summarize_sample(FIRST), summarize_sample([1.0, 3.0])
    assert pooled_sd(a, b) == pytest.approx(math.sqrt((4 * np.var(FIRST, ddof=1) + 2) / 5))
    assert pooled_sd(a, summarize_sample([1.0])) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seeds_needed(0, 1), r"difference 0: expected a number above 0"),
        (lambda: seeds_needed(math.nan, 1), r"difference nan: expected a number above 0"),
        (lambda: seeds_needed(1, -0.1), r"sd -0\.1: expected a standard deviation of 0 or more"),
        (lambda: seeds_needed(1, math.inf), r"sd inf: expected"),
        (lambda: seeds_needed(1, 1, power=1), r"power 1: expected a probability above 0 and below 1"),
        (lambda: seeds_needed(1, 1, alpha=0), r"alpha 0: expected a probability above 0 and below 1"),
        (lambda: seeds_needed(1, 1, largest=1), r"n 1: expected 2 or more"),
        (lambda: achieved_power(-1, 1, 5), r"difference -1: expected a number above 0"),
        (lambda: achieved_power(1, 1, 1), r"n 1: expected 2 or more"),
        (lambda: achieved_power(1, 1, 5, 1.5), r"alpha 1\.5: expected"),
        (lambda: detectable_difference(-1, 5), r"sd -1: expected"),
        (lambda: detectable_difference(1, 1), r"n 1: expected 2 or more"),
        (lambda: detectable_difference(1, 5, power=0), r"power 0: expected"),
        (lambda: permutation_seeds(0.05, 0), r"family 0: expected 1 comparison or more"),
        (lambda: permutation_seeds(1), r"alpha 1: expected"),
        (lambda: pairs_needed(0.5), r"threshold 0\.5: expected a probability above 0\.5 and below 1"),
    ],
)
def test_impossible_values_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_no_more_than_five_percent_of_false_positives_in_a_family() -> None:
    """Four thousand null families of five variants and one control of five seeds each: Holm errs in at most 5 %."""
    rng = np.random.default_rng(3)
    trials = 4000
    samples = rng.normal(size=(trials, 6, 5))
    p = stats.ttest_ind(samples[:, 1:], samples[:, :1], axis=2, equal_var=False).pvalue
    erred = np.mean([min(holm_adjust(ps)) <= 0.05 for ps in p.tolist()])
    assert 0.01 < erred <= 0.05 + 4 * math.sqrt(0.05 * 0.95 / trials)
    bare = np.mean((p <= 0.05).any(axis=1))
    assert bare > 0.12  # without the correction most of it would be chance


def test_welch_is_slightly_conservative_at_five_seeds() -> None:
    """About 4.4 % of 20000 null comparisons fall below .05, fewer than Student's 5 %."""
    rng = np.random.default_rng(4)
    trials = 20_000
    samples = rng.normal(size=(2, trials, 5))
    share = np.mean(stats.ttest_ind(*samples, axis=1, equal_var=False).pvalue < 0.05)
    assert share == pytest.approx(0.044, abs=4 * math.sqrt(0.044 * 0.956 / trials))


def test_permutation_keeps_its_level() -> None:
    """A thousand null experiments, no more than 5 % below .05: its p takes steps of 2/252, so 12/252 is the level."""
    rng = np.random.default_rng(5)
    trials = 1000
    ps = [permutation_test(*pair).p for pair in rng.normal(size=(trials, 2, 5)).tolist()]
    level = 12 / 252
    assert np.mean([p <= 0.05 for p in ps]) == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / trials))


def test_intervals_cover_and_false_positives_are_rare() -> None:
    """2000 null experiments of five seeds: 95 % coverage, and no more than 5 % of Welch's p below .05."""
    rng = np.random.default_rng(1)
    trials = 2000
    error = 4 * math.sqrt(0.95 * 0.05 / trials)
    covered = rejected = 0
    for first, second in rng.normal(size=(trials, 2, 5)):
        summary = summarize_sample(first.tolist())
        assert summary.low is not None
        assert summary.high is not None
        covered += summary.low <= 0 <= summary.high
        rejected += welch_test(first.tolist(), second.tolist()).p < 0.05
    assert covered / trials == pytest.approx(0.95, abs=error)
    assert 0.03 < rejected / trials < 0.05 + error
