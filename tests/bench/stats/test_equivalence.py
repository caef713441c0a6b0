"""Two one-sided tests: against SciPy's one-sided Welch tests, and by simulation of their error."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.stats.equivalence import equivalence_p, least_margin
from bench.stats.seed_statistics import welch_test

FIRST = [42.1, 42.9, 41.7, 43.3, 42.4]
SECOND = [42.0, 43.1, 42.2, 42.4, 42.9, 42.3]


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0, 3.0])
def test_p_is_the_larger_of_scipys_two(margin: float) -> None:
    above = stats.ttest_ind(np.add(FIRST, margin), SECOND, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(np.subtract(FIRST, margin), SECOND, equal_var=False, alternative="less").pvalue
    assert equivalence_p(welch_test(FIRST, SECOND), margin) == pytest.approx(max(above, below))


def test_the_least_margin_has_p_of_its_level() -> None:
    welch = welch_test(FIRST, SECOND)
    for alpha in (0.05, 0.01):
        assert equivalence_p(welch, least_margin(welch, alpha)) == pytest.approx(alpha)


def test_values_without_spread() -> None:
    welch = welch_test([1.0, 1.0], [1.5, 1.5])
    assert (equivalence_p(welch, 0.4), equivalence_p(welch, 0.6)) == (1, 0)
    assert least_margin(welch) == 0.5


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_an_impossible_margin_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        equivalence_p(welch_test(FIRST, SECOND), margin)


def error(studies: int, seed: int) -> float:
    """Studies that call two variants the same within .5, whose true difference is just that."""
    chance = np.random.default_rng(seed)
    return float(
        np.mean(
            [
                equivalence_p(welch_test(chance.normal(0.5, 0.15, 5).tolist(), chance.normal(0, 0.25, 5).tolist()), 0.5)
                <= 0.05
                for _ in range(studies)
            ]
        )
    )


def test_error_at_the_margin() -> None:
    assert 0.03 <= error(1500, seed=1) <= 0.07


@pytest.mark.slow
def test_error_at_the_margin_of_many_studies() -> None:
    assert 0.04 <= error(15_000, seed=2) <= 0.06
