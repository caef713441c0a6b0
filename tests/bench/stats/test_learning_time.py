"""Censored times: against SciPy, lifelines where it is installed, and by simulation of error and coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from bench.stats.learning_time import LearningTime, compare_times, geometric_mean

END = 500.0


def times(*steps: float) -> list[LearningTime]:
    """Times by their step; at the end or later is not learned."""
    return [LearningTime(step=min(step, END), learned=step < END) for step in steps]


FAST, SLOW = times(50, 75, 50, 100, 25), times(150, 325, 250, 150, 900)


def test_the_ratio_is_of_geometric_means_and_its_test_is_welchs_on_logarithms() -> None:
    result = compare_times(FAST, SLOW)
    assert result is not None
    logs = [[math.log(time.step) for time in sample] for sample in (FAST, SLOW)]
    expected = stats.ttest_ind(*logs, equal_var=False)
    assert result.ratio == pytest.approx(geometric_mean(FAST) / geometric_mean(SLOW))
    assert result.p == pytest.approx(expected.pvalue)
    assert result.low is not None
    assert math.log(result.low) == pytest.approx(expected.confidence_interval().low)


def test_the_log_rank_p_is_scipys() -> None:
    result = compare_times(FAST, SLOW)
    assert result is not None
    slow = stats.CensoredData(uncensored=[150, 325, 250, 150], right=[500])
    assert result.p_log_rank == pytest.approx(stats.logrank([50, 75, 50, 100, 25], slow).pvalue)


def test_the_log_rank_p_is_that_of_lifelines() -> None:
    statistics = pytest.importorskip("lifelines.statistics")
    result = compare_times(FAST, SLOW)
    assert result is not None
    steps, events = (
        [[getattr(time, name) for time in sample] for sample in (FAST, SLOW)] for name in ("step", "learned")
    )
    theirs = statistics.logrank_test(*steps, *events)
    assert result.p_log_rank == pytest.approx(theirs.p_value, rel=1e-3)


def test_few_events_have_no_interval() -> None:
    one = compare_times(times(100, 900, 900, 900, 900), FAST)
    assert one is not None
    assert one.low is one.high is None
    assert one.p < 0.05


def test_nothing_to_compare() -> None:
    assert compare_times(times(100), FAST) is None
    assert compare_times(times(900, 900), times(900, 900, 900)) is None
    assert compare_times([], FAST) is None


def error_and_coverage(learning: float, studies: int, seed: int, n: int = 5) -> tuple[float, float]:
    """Rejections of a true null, and coverage of a true ratio, with log-normal times that end with this probability."""
    chance = np.random.default_rng(seed)
    spread, shift = 0.4, 0.3
    middle = math.log(END) - float(stats.norm.ppf(learning)) * spread

    def mean(centre: float) -> float:
        draws = np.random.default_rng(0).normal(centre, spread, 400_000)
        return float(np.minimum(draws, math.log(END)).mean())

    truth = math.exp(mean(middle) - mean(middle - shift))
    rejected = covered = intervals = 0
    for _ in range(studies):
        first, second, sooner = (
            times(*np.exp(chance.normal(centre, spread, n))) for centre in (middle, middle, middle - shift)
        )
        null, moved = compare_times(first, second), compare_times(first, sooner)
        rejected += null is not None and null.p <= 0.05
        if moved is not None and moved.low is not None and moved.high is not None:
            intervals += 1
            covered += moved.low <= truth <= moved.high
    return rejected / studies, covered / intervals


def test_error_and_coverage() -> None:
    error, coverage = error_and_coverage(0.9, studies=800, seed=1)
    assert 0.03 <= error <= 0.07
    assert 0.93 <= coverage <= 0.97


@pytest.mark.slow
@pytest.mark.parametrize(("learning", "least"), [(0.99, 0.04), (0.9, 0.04), (0.6, 0.02)])
def test_error_and_coverage_of_many_studies(learning: float, least: float) -> None:
    """With few events the test rejects less often than it may, never more often."""
    error, coverage = error_and_coverage(learning, studies=8000, seed=2)
    assert least <= error <= 0.055
    assert 0.94 <= coverage <= 0.965
