"""The paired bootstrap: exact where it can be worked out, its interval covers, and pairing matters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.stats.bootstrap import paired_bootstrap


def counts(hits: list[list[int]], true: list[list[int]], predicted: list[list[int]]) -> np.ndarray:
    return np.array([hits, true, predicted], dtype=np.int64)


def drawn(chance: np.random.Generator, pictures: int, skill: float, truth: np.ndarray | None = None) -> np.ndarray:
    """Counts of random pictures of three classes; a picture's difficulty is shared by whatever sees the same truth."""
    true = chance.integers(50, 200, (pictures, 3)) if truth is None else truth
    hits = (true * np.clip(skill + 0.1 * chance.standard_normal((pictures, 1)), 0, 1)).astype(np.int64)
    predicted = hits + np.roll(true - hits, 1, axis=1)
    return np.stack([hits, true, predicted])


def test_the_same_results_differ_by_nothing() -> None:
    one = drawn(np.random.default_rng(0), 20, 0.7)
    for interval in paired_bootstrap(one, one):
        assert (interval.difference, interval.low, interval.high, interval.above) == (0, 0, 0, 0)


def test_point_values_are_those_of_the_data_set() -> None:
    first = counts([[3, 0], [1, 2]], [[4, 0], [2, 2]], [[3, 1], [2, 2]])
    second = counts([[2, 0], [2, 2]], [[4, 0], [2, 2]], [[2, 2], [2, 2]])
    miou, accuracy = paired_bootstrap(first, second, resamples=50)
    assert miou.first == pytest.approx((4 / 7 + 2 / 3) / 2)
    assert miou.second == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert (accuracy.first, accuracy.second) == (6 / 8, 6 / 8)
    assert miou.metric == "miou"


def test_two_pictures_have_three_resamples() -> None:
    """Drawing two of two pictures: both (half of the time), or one of them twice."""
    first = counts([[10], [5]], [[10], [10]], [[10], [10]])
    second = counts([[5], [5]], [[10], [10]], [[10], [10]])
    _, accuracy = paired_bootstrap(first, second, resamples=20_000)
    assert accuracy.difference == 0.25
    assert (accuracy.low, accuracy.high) == (0, 0.5)
    assert accuracy.above == pytest.approx(0.75, abs=0.02)


def test_it_is_the_same_every_time_and_seeded() -> None:
    chance = np.random.default_rng(1)
    first = drawn(chance, 30, 0.7)
    second = drawn(chance, 30, 0.68, first[1])
    assert paired_bootstrap(first, second) == paired_bootstrap(first, second)
    assert paired_bootstrap(first, second)[0].low != paired_bootstrap(first, second, seed=1)[0].low


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Accuracy over 60 pictures against that over 20,000: 95 of 100 intervals, give or take."""
    chance = np.random.default_rng(2)
    everything = drawn(chance, 20_000, 0.7), None
    other = drawn(chance, 20_000, 0.69, everything[0][1])
    truth = everything[0][0].sum() / everything[0][1].sum() - other[0].sum() / other[1].sum()
    held = 0
    for _ in range(200):
        picked = chance.choice(20_000, 60, replace=False)
        _, accuracy = paired_bootstrap(everything[0][:, picked], other[:, picked], resamples=500)
        held += accuracy.low <= truth <= accuracy.high
    assert 180 <= held <= 198


def test_pairing_takes_away_what_the_pictures_share() -> None:
    chance = np.random.default_rng(3)
    first = drawn(chance, 100, 0.7)
    better = first.copy()
    better[0] = np.minimum(first[0] + 1, first[1])
    _, accuracy = paired_bootstrap(better, first)
    assert accuracy.low > 0
    assert accuracy.high - accuracy.low < 0.1 * 2 * 1.96 * (first[0].sum(1) / first[1].sum(1)).std() / math.sqrt(100)


def test_a_class_that_a_resample_lacks_is_left_out_of_its_mean() -> None:
    first = counts([[10, 0]] * 30 + [[0, 10]], [[10, 0]] * 30 + [[0, 10]], [[10, 0]] * 30 + [[0, 10]])
    second = counts([[5, 0]] * 30 + [[0, 10]], first[1].tolist(), first[2].tolist())
    miou, _ = paired_bootstrap(first, second, resamples=2000)
    # with the second class the difference is a third, without it two thirds (5 of 15)
    assert miou.difference == pytest.approx(1 / 3)
    assert (miou.low, miou.high) == (pytest.approx(1 / 3), pytest.approx(2 / 3))


def test_what_cannot_be_compared() -> None:
    chance = np.random.default_rng(4)
    one = drawn(chance, 5, 0.5)
    with pytest.raises(ValueError, match="not of the same pictures and truth"):
        paired_bootstrap(one, drawn(chance, 5, 0.5))
    with pytest.raises(ValueError, match="not of the same pictures and truth"):
        paired_bootstrap(one, one[:, :4])
    with pytest.raises(ValueError, match="1 picture: a bootstrap over pictures needs two"):
        paired_bootstrap(one[:, :1], one[:, :1])
    with pytest.raises(ValueError, match="no labelled pixel in any picture"):
        paired_bootstrap(np.zeros_like(one), np.zeros_like(one))
