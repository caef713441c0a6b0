"""Learning rates chosen on the validation split: which are tried, which one a row gets, and what its table then is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bench.config.grid import Variant
from bench.config.presets import preset
from bench.config.settings import Settings
from experiments.tables import lr_sweep, table8
from experiments.tables.registry import only_rows, trained_table
from reports.analysis.rate_choice import FIRST_SEEDS, candidate_name

TRIED = (5e-4, 1e-3, 2e-3)


def run(row: str, rate: float, miou: float | None, seed: int = 1000, status: str = "ok") -> dict[str, Any]:
    metrics = {} if miou is None else {"miou": miou}
    return {
        "kind": "run",
        "variant": candidate_name(row, rate),
        "seed": seed,
        "status": status,
        "metrics": metrics,
    }


def test_each_row_has_a_plan_of_its_own() -> None:
    make = only_rows(trained_table(8), ("deformable", "none"))
    rows = make(preset("quick"))
    plans = lr_sweep.first_plans(rows, TRIED)
    assert plans == {"deformable": dict.fromkeys(TRIED, FIRST_SEEDS), "none": dict.fromkeys(TRIED, FIRST_SEEDS)}
    runs = [
        run(row, rate, miou, seed)
        for seed in FIRST_SEEDS
        for row, means in {"deformable": (0.1, 0.2, 0.3), "none": (0.2, 0.3, 0.1)}.items()
        for rate, miou in zip(TRIED, means, strict=True)
    ]
    assert lr_sweep.next_plans(plans, TRIED, runs[:-1])["none"] == plans["none"], "one run is missing"
    further = lr_sweep.next_plans(plans, TRIED, runs)
    assert further["deformable"] == {**plans["deformable"], 4e-3: FIRST_SEEDS}
    assert further["none"] == {5e-4: (1000, 1001, 1002, 1003), 1e-3: (1000, 1001, 1002, 1003), 2e-3: FIRST_SEEDS}
    seeds = lr_sweep.candidate_seeds(further)
    assert seeds["none lr=0.001"] == (1000, 1001, 1002, 1003)
    assert [variant.name for variant in lr_sweep.candidate_variants(rows, further)] == [*seeds]


def test_a_row_without_a_rate_that_ended_well_has_the_lowest() -> None:
    plans = {"x": dict.fromkeys(TRIED, FIRST_SEEDS)}
    assert lr_sweep.chosen_rates(plans, [run("x", rate, None, status="failed") for rate in TRIED]) == {"x": 5e-4}
    assert lr_sweep.chosen_rates(plans, [run("x", rate, rate) for rate in TRIED]) == {"x": 2e-3}


def test_candidates_are_scored_on_the_validation_split_and_the_table_on_the_test_split() -> None:
    base = preset("quick")
    make = only_rows(trained_table(8), ("deformable", "none"))
    tried = lr_sweep.candidate_variants(make(base), lr_sweep.first_plans(make(base), TRIED))
    assert [variant.name for variant in tried] == [
        *(f"deformable lr={rate}" for rate in ("0.0005", "0.001", "0.002")),
        *(f"none lr={rate}" for rate in ("0.0005", "0.001", "0.002")),
    ]
    assert {variant.settings.evaluation.split for variant in tried} == {"val"}
    assert [variant.settings.train.lr for variant in tried] == [*TRIED, *TRIED]
    final = {variant.name: variant for variant in lr_sweep.at_chosen_rates(make, {"deformable": 1e-3})(base)}
    rates = {name: variant.settings.train.lr for name, variant in final.items()}
    assert rates == {"deformable": 1e-3, "none": base.train.lr}
    assert {variant.settings.evaluation.split for variant in final.values()} == {"test"}
    assert all("lr" not in variant.axes for variant in final.values()), "no axis of a grid: a row's rate is its own"
    assert all(same_but_for_rate_and_split(variant, make(base)) for variant in final.values())


def test_an_equal_row_has_the_rate_of_its_equal() -> None:
    base = preset("quick")
    (row,) = only_rows(trained_table(8), ("none",))(base)

    def make(_: Settings) -> tuple[Variant, ...]:
        return (row, replace(row, name="twin"))

    assert [each.settings.train.lr for each in lr_sweep.at_chosen_rates(make, {"none": 3e-3})(base)] == [3e-3, 3e-3]


def same_but_for_rate_and_split(variant: Variant, rows: tuple[Variant, ...]) -> bool:
    own = next(row.settings for row in rows if row.name == variant.name)
    settings = variant.settings
    return (settings.model, settings.loss, settings.scenes, settings.train.steps) == (
        own.model,
        own.loss,
        own.scenes,
        own.train.steps,
    )


def test_which_rates_are_tried() -> None:
    assert lr_sweep.rates_to_try("", table=8, preset_name="quick") == (1e-3, 2e-3, 4e-3)
    assert lr_sweep.rates_to_try("", table=8, preset_name="paper") == ()
    assert lr_sweep.rates_to_try("", table=7, preset_name="quick") == ()
    assert lr_sweep.rates_to_try("none", table=8, preset_name="quick") == ()
    assert lr_sweep.rates_to_try("1e-3,3e-3", table=5, preset_name="small") == (1e-3, 3e-3)


@pytest.mark.parametrize("words", ["x", "0", "-1", "1e-3,", "nan", "inf", "1e-3,1e-3", ","])
def test_what_is_no_rate_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match=f"^--rates {words}: "):
        lr_sweep.parse_rates(words)


def test_rows_of_a_table() -> None:
    base = preset("quick")
    assert only_rows(trained_table(8), ())(base) == table8.table8_variants(base)
    assert [row.name for row in only_rows(trained_table(8), ("none", "Reformer"))(base)] == ["Reformer", "none"]
    with pytest.raises(
        ValueError, match=r"--row reformer: expected deformable, .*, SETR or module:Class; did you mean 'Reformer'\?"
    ):
        only_rows(trained_table(8), ("reformer",))(base)
    with pytest.raises(ValueError, match=r"table 9: expected 5, 6, 7 or 8"):
        trained_table(9)
