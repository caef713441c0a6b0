"""The sweep that chose the quick recipe: what it trains, what it keeps, and how its page reads the rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.config.presets import preset
from experiments import recipe_sweep as sweep
from unept.data.scenes import SceneConfig

ROW = sweep.SweepRow(
    recipe=sweep.CHOSEN,
    fields=sweep.RECIPES[sweep.CHOSEN],
    mechanism="dense",
    steps=500,
    seed=300,
    status="ok",
    miou="0.70000",
    lookalike_accuracy="0.99000",
    seconds="20.00000",
)


def row(**changes: object) -> sweep.SweepRow:
    return sweep.SweepRow(**{**vars(ROW), **changes})  # type: ignore[arg-type]


def test_no_record_uses_its_scenes_or_seeds() -> None:
    settings = sweep.settings_of(sweep.RECIPES[sweep.CHOSEN], sweep.MECHANISMS["dense"])
    assert settings.scenes.scene_seed != SceneConfig().scene_seed
    assert sweep.FIRST_SEED > 100
    assert settings.data == sweep.settings_of("heads=4", "N=4").data
    assert settings.model.encoder_self == settings.model.decoder_self == "dense_fused"


def test_the_chosen_recipe_is_the_presets() -> None:
    chosen = sweep.settings_of(sweep.RECIPES[sweep.CHOSEN], sweep.MECHANISMS["N=16 L=3"])
    quick = preset("quick", sweep.DATA)
    assert chosen.train == quick.train
    assert chosen.model == quick.model


@pytest.mark.parametrize("recipe", sweep.RECIPES)
@pytest.mark.parametrize("mechanism", sweep.MECHANISMS)
def test_every_candidate_is_possible_and_keeps_the_presets_steps(recipe: str, mechanism: str) -> None:
    settings = sweep.settings_of(sweep.RECIPES[recipe], sweep.MECHANISMS[mechanism])
    assert settings.train.steps == preset("quick").train.steps
    assert sweep.settings_of(sweep.RECIPES[recipe], sweep.MECHANISMS[mechanism], 7).train.steps == 7


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [row(seed=301), ROW, row(mechanism="N=4 L=1", status="diverged", miou="", lookalike_accuracy="")]
    sweep.write_rows(tmp_path / "results.csv", rows)
    assert sweep.read_rows(tmp_path / "results.csv") == [rows[2], ROW, rows[0]]
    assert sweep.read_rows(tmp_path / "none.csv") == []


def test_the_page_counts_seeds_that_learned_and_says_what_diverged() -> None:
    rows = [ROW, row(seed=301, miou="0.50000", lookalike_accuracy="0.55000")]
    rows += [row(mechanism="N=4 L=1", status="diverged", miou="", lookalike_accuracy="", seconds="")]
    page = sweep.sweep_page(rows)
    assert "| dense | N=4 L=1 | seconds a run |" in page
    assert "| 1 of 2: 60.00 ± 14.14 | 0 of 1: diverged | 20 |" in page
