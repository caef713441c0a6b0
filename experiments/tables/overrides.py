"""Fields that a user gives other values for all rows of a table: the same rows on a smaller recipe, say."""

from __future__ import annotations

from collections.abc import Sequence

from bench.config.fields import field_value, format_value
from bench.config.grid import Variant, with_field_values
from bench.config.settings import Settings, settings_to_dict
from bench.study.request import VariantFactory
from unept.config import SLOTS

FIELDS_WITH_OPTIONS = {
    "steps": "--steps",
    "split": "--split",
    "backbone_weights": "--backbone-weights",
    "data": "--data",
}
DEFINING_FIELDS = ("architecture", *SLOTS)  # of every row, beside the axes that set it apart
SHARED_FIELDS = ("backbone", "queries")  # rows are defined on top of the base's


def with_overrides(make: VariantFactory, words: Sequence[str]) -> VariantFactory:
    """Return the rows of `make` over settings that are changed as `words` say (`size=128 probes=0`).

    Raises:
        ValueError: A field has an option of its own or, once rows are made, is one that defines a row or that a row
            sets itself; also as `bench.config.grid.with_field_values`.
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
            for before, row in zip(rows, make(alone), strict=True):
                _refuse_another_row(word, before, row.settings)
                if base != alone and settings_to_dict(before.settings) == settings_to_dict(row.settings):
                    raise ValueError(f"--set {word}: {before.name} sets that itself")
        return changed

    return made if overrides else make


def _refuse_another_row(word: str, row: Variant, changed: Settings) -> None:
    """Raise ValueError where `word` changes what the name of `row` stands for."""
    for name in dict.fromkeys((*DEFINING_FIELDS, *row.axes)):
        own = field_value(row.settings, name)
        if name not in SHARED_FIELDS and field_value(changed, name) != own:
            raise ValueError(f"--set {word}: {row.name} sets {name} itself, to {format_value(own)}")
