"""Learning rates chosen on the validation split: which are tried, which one a row gets, and what its table then is."""

from __future__ import annotations

from typing import Any

import pytest

from bench.config.grid import Variant
from bench.config.presets import preset
from experiments.tables import lr_sweep, table8
from experiments.tables.registry import only_rows, trained_table
from reports.analysis.lr_sweep import candidate_name

TRIED = (5e-4, 1e-3, 2e-3)


def run(row: str, rate: float, miou: float | None, seed: int = 0, status: str = "ok") -> dict[str, Any]:
    metrics = {} if miou is None else {"miou": miou}
    return {
        "kind": "run",
        "variant": candidate_name(row, rate),
        "seed": seed,
        "status": status,
        "metrics": metrics,
    }


def rows(**means: tuple[float, float, float]) -> list[dict[str, Any]]:
    return [run(row, rate, miou) for row, three in means.items() for rate, miou in zip(TRIED, three, strict=True)]


def test_the_rate_of_the_highest_mean_is_taken_and_the_lower_of_equals() -> None:
    found = rows(low=(0.5, 0.4, 0.3), high=(0.1, 0.2, 0.3), level=(0.3, 0.3, 0.1))
    assert [lr_sweep.best_rate(found, row, TRIED) for row in ("low", "high", "level")] == [5e-4, 2e-3, 5e-4]
    found = [run("x", 5e-4, 0.9, 0), run("x", 5e-4, 0.1, 1), run("x", 1e-3, 0.6, 0), run("x", 1e-3, 0.6, 1)]
    assert lr_sweep.best_rate(found, "x", TRIED) == 1e-3, "the mean decides, not the best seed"


def test_a_rate_with_a_run_that_did_not_end_well_is_out() -> None:
    found = [run("x", 5e-4, 0.2), run("x", 1e-3, 0.9), run("x", 1e-3, None, 1, "diverged"), run("x", 2e-3, 0.3)]
    assert lr_sweep.best_rate(found, "x", TRIED) == 2e-3
    assert lr_sweep.best_rate([run("x", rate, None, 0, "failed") for rate in TRIED], "x", TRIED) == 5e-4


def test_candidates_are_scored_on_the_validation_split_and_the_table_on_the_test_split() -> None:
    base = preset("quick")
    make = only_rows(trained_table(8), ("deformable", "none"))
    tried = lr_sweep.candidate_variants(make, TRIED)(base)
    assert [variant.name for variant in tried] == [
        *(f"deformable lr={rate}" for rate in ("0.0005", "0.001", "0.002")),
        *(f"none lr={rate}" for rate in ("0.0005", "0.001", "0.002")),
    ]
    assert {variant.settings.evaluation.split for variant in tried} == {"val"}
    assert [variant.settings.train.lr for variant in tried] == [*TRIED, *TRIED]
    found = rows(deformable=(0.1, 0.2, 0.3), none=(0.3, 0.2, 0.1))
    final = {variant.name: variant for variant in lr_sweep.with_best_rates(make, found, TRIED)(base)}
    assert {name: variant.settings.train.lr for name, variant in final.items()} == {"deformable": 2e-3, "none": 5e-4}
    assert {variant.settings.evaluation.split for variant in final.values()} == {"test"}
    assert all(variant.axes["lr"] == variant.settings.train.lr for variant in final.values())
    assert all(same_but_for_rate_and_split(variant, make(base)) for variant in final.values())


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
