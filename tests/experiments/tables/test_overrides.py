"""Fields that a user changes for all rows of a table."""

from __future__ import annotations

import pytest

from bench.config.presets import preset
from experiments.tables.overrides import with_overrides
from experiments.tables.registry import only_rows, trained_table

ROWS = only_rows(trained_table(8), ("deformable", "none"))


def test_every_row_has_the_values_and_nothing_else_changes() -> None:
    base = preset("quick")
    found = with_overrides(ROWS, ["probes=0 lr=0.01", "size=96"])(base)
    assert [variant.name for variant in found] == ["deformable", "none"]
    for variant, before in zip(found, ROWS(base), strict=True):
        settings = variant.settings
        assert (settings.train.probes, settings.train.lr, settings.model.size) == (0, 0.01, 96)
        assert (settings.model.encoder_self, settings.model.decoder_self) == (
            before.settings.model.encoder_self,
            before.settings.model.decoder_self,
        )
        assert settings.evaluation == before.settings.evaluation
    assert with_overrides(ROWS, []) is ROWS
    assert with_overrides(ROWS, ["probes=20"])(base) == ROWS(base)  # its value as it is


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["steps=5"], "--set steps: use --steps"),
        (["probes=0 data=scenes"], "--set data: use --data"),
        (["points=4"], "--set points=4: deformable sets that itself"),
        (["encoder_self=none"], "--set encoder_self=none: deformable sets encoder_self itself, to deformable"),
        (["probs=0"], "probs.*probes"),
        (["probes=0,1"], "expected one value for each field"),
        (["heads=3"], "heads"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_overrides(ROWS, words)(preset("quick"))


@pytest.mark.parametrize(
    ("table", "row", "word", "said"),
    [
        (8, "deformable", "encoder_self=none", "deformable sets encoder_self itself, to deformable"),
        (8, "deformable", "decoder_self=none", "deformable sets decoder_self itself, to deformable"),
        (8, "deformable", "decoder_cross=dense", "deformable sets decoder_cross itself, to deformable"),
        (8, "deformable", "profile=released", "deformable sets decoder_self itself, to deformable"),
        (8, "CCNet", "encoder_self=dense", "CCNet sets encoder_self itself, to deformable"),
        (7, "Ours", "encoder_self=none", "Ours sets encoder_self itself, to deformable"),
        (7, "Ours, convolutional", "decoder_self=batch", "Ours, convolutional sets decoder_self itself, to deformable"),
        (6, "N=16 L=3", "architecture=ccnet", "N=16 L=3 sets architecture itself, to unept"),
        (6, "N=16 L=3", "encoder_self=dense", "N=16 L=3 sets encoder_self itself, to deformable"),
        (5, "baseline", "encoder_self=none", "baseline sets encoder_self itself, to deformable"),
    ],
)
def test_a_row_stays_what_its_name_says(table: int, row: str, word: str, said: str) -> None:
    make = only_rows(trained_table(table), (row,))
    with pytest.raises(ValueError, match=f"^--set {word}: {said}$"):
        with_overrides(make, [word])(preset("quick"))


def test_a_field_that_defines_a_row_may_be_given_the_value_that_it_has() -> None:
    base = preset("quick")
    assert with_overrides(ROWS, ["decoder_cross=deformable"])(base) == ROWS(base)
    row = only_rows(trained_table(7), ("Ours, convolutional",))
    (found,) = with_overrides(row, ["width=64"])(base)
    assert found.settings.model.width == 64
    (found,) = with_overrides(only_rows(trained_table(5), ("+ spatial path",)), ["queries=spatial"])(base)
    assert found.settings.model.queries == "spatial"
