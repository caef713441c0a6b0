"""The rule that chooses a row's learning rate, on made-up scores: nothing is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from reports.analysis import rate_choice
from reports.analysis.rate_choice import FIRST_SEEDS, FURTHER_SEEDS, choose_rate, plan_seeds

RATES = (0.001, 0.002, 0.004)
ALL_SEEDS = (*FIRST_SEEDS, *FURTHER_SEEDS)
Outcome = float | str | tuple[float, float]  # mIoU; how it ended; mIoU and look-alike accuracy


def run(seed: int, outcome: Outcome) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"seed": seed, "status": outcome, "metrics": {}}
    miou, cue = outcome if isinstance(outcome, tuple) else (outcome, None)
    return {"seed": seed, "status": "ok", "metrics": {"miou": miou, "lookalike_accuracy": cue}}


def runs_by_rate(outcomes: Mapping[float, tuple[Outcome, ...]]) -> dict[float, list[dict[str, Any]]]:
    return {rate: [run(seed, one) for seed, one in zip(ALL_SEEDS, own, strict=False)] for rate, own in outcomes.items()}


def sweep(
    outcome: Callable[[float, int], Outcome], rates: tuple[float, ...] = RATES
) -> tuple[float | None, dict[float, tuple[int, ...]], list[list[tuple[float, int]]]]:
    """Do what is due until nothing is; the choice, the whole plan, and what each stage trained."""
    known: dict[float, list[dict[str, Any]]] = {}
    stages: list[list[tuple[float, int]]] = []
    plan = plan_seeds(rates, known)
    while True:
        due = [(r, s) for r, seeds in plan.items() for s in seeds if s not in [x["seed"] for x in known.get(r, ())]]
        if not due:
            return choose_rate({rate: known[rate] for rate in plan}), plan, stages
        stages.append(due)
        for rate, seed in due:
            known.setdefault(rate, []).append(run(seed, outcome(rate, seed)))
        before, plan = plan, plan_seeds(rates, known)
        assert plan.items() >= {rate: plan[rate] for rate in before}.items()
        assert all(set(before[rate]) <= set(plan[rate]) for rate in before), "a plan never takes anything back"


def peak_at(best: float) -> Callable[[float, int], float]:
    """Scores that fall with the distance from the best rate, in factors of two."""
    return lambda rate, seed: 0.7 - 0.01 * max(rate / best, best / rate) + seed * 1e-9


def test_an_interior_rate_takes_two_seeds_at_each_and_two_more_at_the_best_two() -> None:
    chosen, plan, stages = sweep(peak_at(0.002))
    assert chosen == 0.002
    assert stages == [
        [(rate, seed) for rate in RATES for seed in FIRST_SEEDS],
        [(rate, seed) for rate in (0.001, 0.002) for seed in FURTHER_SEEDS],  # of two equal neighbours the lower
    ]
    assert sum(map(len, plan.values())) == rate_choice.least_runs(RATES) == 10


@pytest.mark.parametrize(("best", "beyond"), [(0.00025, [0.0005, 0.00025, 0.000125]), (0.008, [0.008, 0.016])])
def test_rates_are_extended_until_the_best_is_interior(best: float, beyond: list[float]) -> None:
    chosen, plan, stages = sweep(peak_at(best))
    assert chosen == best
    assert sorted(plan) == sorted([*RATES, *beyond])
    assert [stage[0][0] for stage in stages[1:-1]] == beyond, "one rate at a time"


@pytest.mark.parametrize(("best", "end"), [(1e-6, 0.001 / 8), (10.0, 0.004 * 8)])
def test_the_extension_ends_at_its_bound(best: float, end: float) -> None:
    chosen, plan, _ = sweep(peak_at(best))
    assert chosen == end
    assert len(plan) == len(RATES) + rate_choice.MAX_EXTENSIONS


def test_a_rate_beyond_that_diverges_is_an_edge() -> None:
    chosen, plan, _ = sweep(lambda rate, seed: "diverged" if rate > 0.004 else peak_at(0.004)(rate, seed))
    assert chosen == 0.004
    assert max(plan) == 0.008


def test_a_single_rate_is_extended_both_ways() -> None:
    chosen, plan, stages = sweep(peak_at(0.001), (0.001,))
    assert chosen == 0.001
    assert stages[1] == [(rate, seed) for rate in (0.0005, 0.002) for seed in FIRST_SEEDS]
    assert sum(map(len, plan.values())) == rate_choice.least_runs((0.001,))


def test_more_seeds_overturn_a_lucky_rate_and_extension_goes_on_from_there() -> None:
    def outcome(rate: float, seed: int) -> float:
        lucky = 0.2 * (rate == 0.002) * (1 if seed in FIRST_SEEDS else -1)
        return peak_at(0.008)(rate, seed) + lucky

    chosen, plan, stages = sweep(outcome)
    assert stages[1] == [(rate, seed) for rate in (0.002, 0.004) for seed in FURTHER_SEEDS]
    assert stages[2] == [(0.008, seed) for seed in FIRST_SEEDS], "0.004 was best of the two, and the highest"
    assert chosen == 0.008
    assert len(plan[0.002]) == 4


def test_learning_comes_before_the_mean() -> None:
    runs = runs_by_rate({0.001: ((0.71, 0.99), (0.48, 0.5)), 0.002: ((0.58, 0.98), (0.57, 0.97))})
    assert choose_rate(runs) == 0.002, "two of two learned, though the mean of one of two is higher"
    runs = runs_by_rate({0.001: ((0.70, 0.99), (0.48, 0.5)), 0.002: ((0.71, 0.98), (0.40, 0.5))})
    assert choose_rate(runs) == 0.002, "of equals the mean of those that learned"
    runs = runs_by_rate({0.001: ((0.50, 0.5), (0.48, 0.5)), 0.002: ((0.47, 0.5), (0.52, 0.5))})
    assert choose_rate(runs) == 0.002, "where none learned, the mean of all"
    runs = runs_by_rate({0.001: ((0.64, 0.80), (0.64, 0.80)), 0.002: ((0.63, 0.97), (0.63, 0.97))})
    assert choose_rate(runs) == 0.002, "the row's seeds fall in two groups, with one threshold for all rates"


def test_of_equal_means_the_lower_rate() -> None:
    assert choose_rate(runs_by_rate({0.004: (0.5, 0.5), 0.001: (0.5, 0.5), 0.002: (0.5, 0.4)})) == 0.001


@pytest.mark.parametrize("ending", ["failed", "diverged", "oom"])
def test_a_rate_with_a_run_that_did_not_end_well_is_out(ending: str) -> None:
    assert choose_rate(runs_by_rate({0.001: (0.5, 0.5), 0.002: (0.9, ending)})) == 0.001
    assert choose_rate(runs_by_rate({0.001: (ending, ending)})) is None
    unscored = runs_by_rate({0.001: (0.5, 0.5), 0.002: (0.9, 0.9)})
    del unscored[0.002][1]["metrics"]["miou"]
    assert choose_rate(unscored) == 0.001


def test_a_finalist_that_fails_is_replaced() -> None:
    chosen, plan, _ = sweep(
        lambda rate, seed: "failed" if (rate, seed) == (0.002, 1003) else peak_at(0.002)(rate, seed)
    )
    assert chosen in (0.001, 0.004)
    assert {rate for rate, seeds in plan.items() if seeds == ALL_SEEDS} >= {*RATES}


def test_rates_that_all_diverge_are_lowered_and_others_that_fail_are_not() -> None:
    chosen, plan, _ = sweep(lambda rate, seed: "diverged" if rate > 0.0003 else peak_at(0.00025)(rate, seed))
    assert chosen == 0.00025
    assert min(plan) == 0.000125
    chosen, plan, _ = sweep(lambda *_: "failed")
    assert chosen is None
    assert plan == dict.fromkeys(RATES, FIRST_SEEDS)
    assert sweep(lambda *_: "diverged")[0] is None


def test_no_sweep_takes_more_runs_than_the_most() -> None:
    import random

    for case in range(300):
        draw = random.Random(case)
        rates = tuple(sorted(draw.sample((0.0005, 0.001, 0.002, 0.003, 0.004), draw.randint(1, 4))))
        table: dict[tuple[float, int], Outcome] = {}

        def outcome(rate: float, seed: int, draw: random.Random = draw, table: Any = table) -> Outcome:
            drawn = "diverged" if draw.random() < 0.1 else (draw.random(), draw.choice((0.5, 0.99)))
            return table.setdefault((rate, seed), drawn)

        chosen, plan, _ = sweep(outcome, rates)
        assert sum(map(len, plan.values())) <= rate_choice.most_runs(rates)
        if chosen is None:
            continue
        edge = {min(plan): min(rates) / 8, max(plan): max(rates) * 8}.get(chosen)
        assert edge in (None, chosen), "interior, or at the bound"
        assert len(plan[chosen]) == 4


def test_rows_beside_the_plan_change_nothing() -> None:
    runs = runs_by_rate({rate: (peak_at(0.002)(rate, 0),) * 2 for rate in RATES})
    further = runs | runs_by_rate({0.016: (0.9, 0.9)})
    assert plan_seeds(RATES, further) == plan_seeds(RATES, runs)
