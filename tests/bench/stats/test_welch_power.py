"""Power of Welch's test: by simulation, and against SciPy's noncentral t where the two tests meet."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from bench.stats.welch_power import Design, achieved_power, detectable_difference, equal_design, seeds_needed


def simulated_power(difference: float, design: Design, alpha: float, trials: int, seed: int = 0) -> float:
    chance = np.random.default_rng(seed)
    first = chance.normal(difference, design.sd, (trials, design.n))
    second = chance.normal(0, design.sd_other, (trials, design.n_other))
    return float(np.mean(stats.ttest_ind(first, second, axis=1, equal_var=False).pvalue <= alpha))


DESIGNS = [
    (Design(sd=0.3, sd_other=3, n=5, n_other=5), 0.05),
    (Design(sd=0.3, sd_other=3, n=5, n_other=5), 0.01),
    (Design(sd=1, sd_other=1, n=3, n_other=3), 0.05),
    (Design(sd=1, sd_other=2, n=2, n_other=4), 0.05),
    (equal_design(0.3, 5), 0.05 / 9),
]


@pytest.mark.parametrize(("design", "alpha"), DESIGNS)
def test_what_is_detectable_is_detected_as_often_as_it_says(design: Design, alpha: float) -> None:
    trials = 20_000
    difference = detectable_difference(design, 0.8, alpha)
    found = simulated_power(difference, design, alpha, trials)
    assert found == pytest.approx(0.8, abs=4 * math.sqrt(0.16 / trials))


def test_the_pooled_spread_and_students_freedom_would_promise_too_much() -> None:
    """A variant that spreads ten times as much as its control, at the strictest of nine comparisons: .6, not .8."""
    design, alpha = Design(sd=0.3, sd_other=3, n=5, n_other=5), 0.05 / 9
    pooled = math.sqrt((0.3**2 + 3**2) / 2)
    student = stats.t.isf(alpha / 2, 8) * pooled * math.sqrt(2 / 5)  # a lower bound of Student's
    assert simulated_power(1.25 * student, design, alpha, 20_000) < 0.7
    assert detectable_difference(design, 0.8, alpha) > 1.5 * student


def test_many_seeds_of_one_spread_are_students() -> None:
    n = 200
    critical = stats.t.isf(0.025, 2 * n - 2)
    for effect in (1.0, 2.0, 3.0):
        expected = stats.nct.sf(critical, 2 * n - 2, effect) + stats.nct.cdf(-critical, 2 * n - 2, effect)
        assert achieved_power(effect * math.sqrt(2 / n), equal_design(1, n)) == pytest.approx(expected, abs=1e-4)


def test_few_seeds_show_less_than_student_would() -> None:
    critical = stats.t.isf(0.025, 8)
    students = stats.nct.sf(critical, 8, 2.6)
    assert students - 0.04 < achieved_power(2.6 * math.sqrt(2 / 5), equal_design(1, 5)) < students


def test_cohens_known_sizes() -> None:
    assert [seeds_needed(d, (1, 1)) for d in (0.2, 0.5, 0.8)] == [394, 64, 26]


def test_seeds_needed_is_the_least_that_suffices() -> None:
    for difference, sds, power, alpha in (
        (1.0, (0.4, 0.4), 0.8, 0.05),
        (0.5, (1.0, 0.2), 0.9, 0.01),
        (0.3, (0.31, 0.31), 0.8, 0.05 / 6),
    ):
        n = seeds_needed(difference, sds, power, alpha)
        assert n is not None
        enough, fewer = (Design(sd=sds[0], sd_other=sds[1], n=size, n_other=size) for size in (n, n - 1))
        assert achieved_power(difference, enough, alpha) >= power > achieved_power(difference, fewer, alpha)
        assert detectable_difference(enough, power, alpha) <= difference < detectable_difference(fewer, power, alpha)


def test_the_edges() -> None:
    assert seeds_needed(0.1, (0, 0)) == 2
    assert seeds_needed(100, (0.1, 0.1)) == 2
    assert seeds_needed(0.5, (1, 1), largest=63) is None
    assert seeds_needed(0.5, (1, 1), largest=64) == 64
    assert seeds_needed(0.001, (1, 1)) is None
    assert achieved_power(0.1, equal_design(0, 2)) == 1
    assert detectable_difference(equal_design(0, 2)) == 0
    assert detectable_difference(Design(sd=0, sd_other=1, n=5, n_other=5)) > 0
    assert achieved_power(1e6, equal_design(1, 2), 1e-3) == pytest.approx(1, abs=1e-3)
    assert achieved_power(1e-9, equal_design(1, 5)) < 0.05  # Welch's test is a little conservative


@pytest.mark.parametrize("power", [0.5, 0.8, 0.999])
@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_detectable_difference_is_the_inverse_of_power(n: int, power: float) -> None:
    design = equal_design(0.7, n)
    for alpha in (0.05, 0.05 / 19):
        assert achieved_power(detectable_difference(design, power, alpha), design, alpha) == pytest.approx(power)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: seeds_needed(0, (1, 1)), r"difference 0: expected a number above 0"),
        (lambda: seeds_needed(math.nan, (1, 1)), r"difference nan: expected a number above 0"),
        (lambda: seeds_needed(1, (-0.1, 1)), r"sd -0\.1: expected a standard deviation of 0 or more"),
        (lambda: seeds_needed(1, (1, math.inf)), r"sd inf: expected"),
        (lambda: seeds_needed(1, (1, 1), power=1), r"power 1: expected a probability above 0 and below 1"),
        (lambda: seeds_needed(1, (1, 1), alpha=0), r"alpha 0: expected a probability above 0 and below 1"),
        (lambda: seeds_needed(1, (1, 1), largest=1), r"n 1: expected 2 or more"),
        (lambda: achieved_power(-1, equal_design(1, 5)), r"difference -1: expected a number above 0"),
        (lambda: equal_design(1, 1), r"n 1: expected 2 or more"),
        (lambda: achieved_power(1, equal_design(1, 5), 1.5), r"alpha 1\.5: expected"),
        (lambda: equal_design(-1, 5), r"sd -1: expected"),
        (lambda: detectable_difference(equal_design(1, 5), power=0), r"power 0: expected"),
    ],
)
def test_impossible_values_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
