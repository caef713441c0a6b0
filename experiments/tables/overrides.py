"""Fields that a user gives other values for all rows of a table: the same rows on a smaller recipe, say."""

from __future__ import annotations

from collections.abc import Sequence

from bench.config.grid import Variant, with_field_values
from bench.config.settings import Settings, settings_to_dict
from bench.study.request import VariantFactory

FIELDS_WITH_OPTIONS = {
    "steps": "--steps",
    "split": "--split",
    "backbone_weights": "--backbone-weights",
    "data": "--data",
}


def with_overrides(make: VariantFactory, words: Sequence[str]) -> VariantFactory:
    """Return the rows of `make` over settings that are changed as `words` say (`size=128 probes=0`).

    Raises:
        ValueError: A field has an option of its own or, once rows are made, is set by a row itself; also as
            `bench.config.grid.with_field_values`.
    """
    overrides = [word for part in words for word in part.split()]
    for word in overrides:
        name = word.partition("=")[0]
        if name in FIELDS_WITH_OPTIONS:
            raise ValueError(f"--set {name}: use {FIELDS_WITH_OPTIONS[name]}")

    def made(base: Settings) -> tuple[Variant, ...]:
        rows = make(base)
        changed = make(with_field_values(base, overrides))
        for word in overrides:
            alone = with_field_values(base, [word])
            for before, row, after in zip(rows, make(alone), changed, strict=True):
                if base != alone and settings_to_dict(before.settings) == settings_to_dict(row.settings):
                    raise ValueError(f"--set {word}: {after.name} sets that itself")
        return changed

    return made if overrides else make
