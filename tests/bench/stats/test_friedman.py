"""Friedman's test against SciPy, and its error by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from bench.stats.friedman import friedman_test


def test_the_chi_squared_p_is_scipys_and_many_blocks_agree_with_it() -> None:
    chance = np.random.default_rng(0)
    blocks = chance.normal([0, 0.2, 0.4, 0], size=(40, 4))
    result = friedman_test(blocks.tolist())
    assert result.p_chi_squared == pytest.approx(stats.friedmanchisquare(*blocks.T).pvalue)
    assert result.p == pytest.approx(result.p_chi_squared, abs=0.01)
    assert (result.blocks, result.treatments) == (40, 4)


def test_a_block_of_its_own_level_changes_nothing() -> None:
    blocks = np.random.default_rng(1).normal(size=(5, 6))
    assert friedman_test(blocks.tolist()) == friedman_test((blocks + np.arange(0, 50, 10)[:, None]).tolist())


def test_ties_and_equal_treatments() -> None:
    assert friedman_test([[1, 1, 1], [2, 2, 2]]).p == 1
    assert friedman_test([[1, 1, 2], [3, 3, 5], [0, 0, 4], [1, 1, 9]]).p < 0.05


@pytest.mark.parametrize("blocks", [[[1.0, 2.0, 3.0]], [[1.0, 2.0], [2.0, 1.0]], []])
def test_too_few_are_refused(blocks: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="two blocks or more of three values or more"):
        friedman_test(blocks)


def errors(studies: int, seed: int) -> tuple[float, float]:
    """Rejections at .05 of a true null by either p, for six cells and five seeds."""
    chance = np.random.default_rng(seed)
    results = [friedman_test(chance.normal(size=(5, 6)).tolist(), resamples=1000) for _ in range(studies)]
    ps = np.array([(one.p, one.p_chi_squared) for one in results])
    by_permutation, by_limit = (ps <= 0.05).mean(0).tolist()
    return by_permutation, by_limit


def test_error_of_six_cells_and_five_seeds() -> None:
    by_permutation, by_limit = errors(1000, seed=2)
    assert 0.033 <= by_permutation <= 0.067  # 2.5 standard errors
    assert by_limit < by_permutation


@pytest.mark.slow
def test_error_of_six_cells_and_five_seeds_in_many_studies() -> None:
    by_permutation, by_limit = errors(6000, seed=3)
    assert 0.04 <= by_permutation <= 0.06
    assert by_limit < 0.04


def test_a_grid_of_thousands_of_cells_takes_no_memory_and_little_time() -> None:
    result = friedman_test(np.random.default_rng(4).normal(size=(5, 20_000)).tolist())
    assert result.p == result.p_chi_squared
