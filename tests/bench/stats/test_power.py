"""The plan of a study: its figures are those of bench.stats.seed_statistics at the level of the family."""

from __future__ import annotations

import pytest

from bench.stats.power import plan_seeds, seed_plan_lines
from bench.stats.welch_power import achieved_power, detectable_difference, equal_design, seeds_needed


def test_a_plan_is_made_for_the_strictest_comparison() -> None:
    alone, family = plan_seeds(1.0, 0.5), plan_seeds(1.0, 0.5, family=5)
    assert alone.seeds == seeds_needed(1.0, (0.5, 0.5))
    assert family.seeds == seeds_needed(1.0, (0.5, 0.5), alpha=0.01)
    assert (alone.permutation_seeds, family.permutation_seeds) == (4, 5)
    assert alone.pairs == 29
    assert [size.n for size in family.sizes] == [3, 5, 10, 20, 30]
    five = family.sizes[1]
    assert five.detectable == detectable_difference(equal_design(0.5, 5), alpha=0.01)
    assert five.power == achieved_power(1.0, equal_design(0.5, 5), alpha=0.01)


def test_more_seeds_show_more() -> None:
    sizes = plan_seeds(0.5, 0.4, family=3).sizes
    assert [size.detectable for size in sizes] == sorted((size.detectable for size in sizes), reverse=True)
    assert [size.power for size in sizes] == sorted(size.power for size in sizes)


def test_the_plan_in_words() -> None:
    said = list(seed_plan_lines(plan_seeds(1.0, 0.5, family=5)))
    seeds = seeds_needed(1.0, (0.5, 0.5), alpha=0.01)
    assert said[0] == (
        f"{seeds} seeds a variant show a difference of 1 point with 80 % probability, if seeds spread by 0.5 points "
        "(the strictest of 5 comparisons, two-sided Welch test at 0.01)."
    )
    assert said[2] == "seeds  detectable, points  power for 1"
    five = plan_seeds(1.0, 0.5, family=5).sizes[1]
    assert said[4] == f"    5  {five.detectable:18.2f}  {100 * five.power:9.0f} %"
    assert "from 5 seeds" in said[-2]
    assert "takes 29 pairs" in said[-1]
    assert all(len(line) < 180 for line in said)
    assert "strictest" not in next(seed_plan_lines(plan_seeds(1.0, 0.5)))


def test_a_hopeless_difference_is_said_to_be_one() -> None:
    assert next(seed_plan_lines(plan_seeds(0.0001, 1))).startswith("more than 100000 seeds a variant show")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"difference": 0}, "difference 0: expected"),
        ({"sd": -1}, "sd -1: expected"),
        ({"family": 0}, "family 0: expected"),
        ({"power": 1}, "power 1: expected"),
        ({"alpha": 2}, "alpha 2: expected"),
        ({"sizes": (1,)}, "n 1: expected"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan_seeds(**({"difference": 1.0, "sd": 0.5} | changes))  # type: ignore[arg-type]


def test_no_difference_is_told_that_miou_cannot_have() -> None:
    said = list(seed_plan_lines(plan_seeds(1.0, 30.0, family=9)))
    assert plan_seeds(1.0, 30.0, family=9).sizes[0].detectable > 100
    assert said[3].split()[:2] == ["3", "none"]
    assert "none" not in said[6]
