"""Against SciPy, against numbers worked out by hand, and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.stats.seed_statistics import (
    holm_adjust,
    is_enumerable,
    pairs_needed,
    permutation_seeds,
    permutation_test,
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


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
