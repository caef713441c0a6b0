"""Fields that a user changes for all rows of a table."""

from __future__ import annotations

import pytest

from bench.config.presets import preset
from experiments.tables import table8
from experiments.tables.overrides import with_overrides
from experiments.tables.registry import only_rows

ROWS = only_rows(table8.table8_variants, ("deformable", "none"))


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
        (["encoder_self=none"], "--set encoder_self=none: none sets that itself"),
        (["probs=0"], "probs.*probes"),
        (["probes=0,1"], "expected one value for each field"),
        (["heads=3"], "heads"),
    ],
)
def test_what_cannot_be_is_refused(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_overrides(ROWS, words)(preset("quick"))
