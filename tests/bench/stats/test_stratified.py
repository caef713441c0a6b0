"""The stratified permutation test: against SciPy's and by simulation of its error and of its interval's coverage."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from bench.stats.stratified import compare_within_strata

FIRST = [42.1, 42.9, 41.7, 43.3, 42.4]
SECOND = [44.0, 43.1, 45.2, 44.4, 43.9]


def test_one_stratum_is_scipys_permutation_test() -> None:
    ours = compare_within_strata([(FIRST, SECOND)])
    theirs = stats.permutation_test(
        (FIRST, SECOND), lambda a, b, axis: abs(a.mean(axis) - b.mean(axis)), alternative="greater", vectorized=True
    )
    assert ours.difference == pytest.approx(np.mean(FIRST) - np.mean(SECOND))
    assert ours.p == pytest.approx(theirs.pvalue)


def test_two_strata_are_every_pair_of_splits_by_hand() -> None:
    strata = [([1.0, 4.0], [2.0, 7.0]), ([0.5], [3.0, 8.0])]
    observed = np.mean([2.5 - 4.5, 0.5 - 5.5])

    def splits(first: list[float], second: list[float]) -> list[float]:
        pooled, n = [*first, *second], len(first)
        chosen = itertools.combinations(range(len(pooled)), n)
        return [
            float(np.mean([pooled[i] for i in own]) - np.mean([pooled[i] for i in range(len(pooled)) if i not in own]))
            for own in chosen
        ]

    every = [(a + b) / 2 for a in splits(*strata[0]) for b in splits(*strata[1])]
    result = compare_within_strata(strata)
    assert len(every) == 6 * 3
    assert result.p == pytest.approx(np.mean([abs(value) >= abs(observed) - 1e-9 for value in every]))
    assert result.low is result.high is None  # p cannot fall to .05 with 18 allocations of such values


def test_a_difference_between_strata_is_not_one_of_levels() -> None:
    """Strata that lie 100 apart hide nothing: permuted over all values, this difference would drown."""
    strata = [([value + shift for value in FIRST], [value + shift for value in SECOND]) for shift in (0, 100)]
    assert compare_within_strata(strata).p < 0.001
    pooled = [[*strata[0][side], *strata[1][side]] for side in (0, 1)]
    assert stats.ttest_ind(*pooled).pvalue > 0.9


def test_many_allocations_are_drawn_and_agree_with_all() -> None:
    strata = [(FIRST, SECOND), (SECOND, [value + 0.3 for value in SECOND])]
    every = compare_within_strata(strata)
    three = compare_within_strata([*strata, (FIRST, FIRST)])  # 252 ** 3 allocations
    again = compare_within_strata([*strata, (FIRST, FIRST)])
    assert three == again
    assert every.p < three.p
    larger = compare_within_strata([*strata, (FIRST, FIRST)], allocations=200_000, seed=1)
    assert three.p == pytest.approx(larger.p, abs=0.004)


def test_interval_and_p_agree_on_zero() -> None:
    chance = np.random.default_rng(3)
    agreed = []
    for _ in range(60):
        strata = [(list(chance.normal(0.8, 1, 4)), list(chance.normal(0, 2, 4))) for _ in range(2)]
        result = compare_within_strata(strata)
        assert result.low is not None
        assert result.high is not None
        assert result.low <= result.difference <= result.high
        agreed.append((result.p <= 0.05) == (not result.low < 0 < result.high))
    assert all(agreed)


def test_an_interval_of_equal_values_has_no_width() -> None:
    result = compare_within_strata([([2.0] * 5, [1.0] * 5)])
    assert (result.low, result.high) == (pytest.approx(1, abs=1e-6), pytest.approx(1, abs=1e-6))


def test_a_stratum_without_values_is_refused() -> None:
    with pytest.raises(ValueError, match="a comparison needs one at least"):
        compare_within_strata([])
    with pytest.raises(ValueError, match="values of both levels"):
        compare_within_strata([([1.0], [])])


def error_and_coverage(studies: int, seed: int) -> tuple[float, float]:
    """Rejections of a true null by level .05, and intervals at .95 that hold the true shift, of a grid with two strata
    whose means and spreads differ.
    """
    chance = np.random.default_rng(seed)
    rejected = covered = 0
    for _ in range(studies):
        strata = [(chance.normal(mean, sd, 5), chance.normal(mean, sd, 5)) for mean, sd in ((0, 0.3), (50, 2.0))]
        result = compare_within_strata([(list(a), list(b)) for a, b in strata])
        rejected += result.p <= 0.05
        moved = compare_within_strata([(list(a + 1.5), list(b)) for a, b in strata])
        assert moved.low is not None
        assert moved.high is not None
        covered += moved.low <= 1.5 <= moved.high
    return rejected / studies, covered / studies


def test_error_and_coverage_of_a_grid() -> None:
    error, coverage = error_and_coverage(300, seed=4)
    assert 0.025 <= error <= 0.08  # 2.5 standard errors of a simulation of this size
    assert 0.92 <= coverage <= 0.98


@pytest.mark.slow
def test_error_and_coverage_of_many_grids() -> None:
    error, coverage = error_and_coverage(4000, seed=5)
    assert 0.04 <= error <= 0.06
    assert 0.94 <= coverage <= 0.96
