"""The learning rate of each row, chosen on the validation split before the row is trained for its table.

Rows that differ as much as convolution and attention rarely share their best rate. Each row is trained at
each of the same few rates, with the same few seeds and the preset's steps (or the table's, where those are fewer), and
scored on the validation split. The rate with the highest mean mIoU is its row's; the table then trains its own seeds
and scores the test split.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from bench.config.fields import LARGEST_INTEGER, config_fields, format_value, parse_field
from bench.config.grid import Variant
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.study.request import VariantFactory
from reports.analysis.lr_sweep import candidate_name

RATE_FACTORS = (1.0, 2.0, 4.0)  # of the recipe's own rate, where none are given
CHOICE_SPLIT = "val"  # that rates are chosen on
SCORE_SPLIT = "test"  # that the table is then scored on
SWEEP_SEEDS = 2  # trainings of each row at each rate, or as many as the table has
NO_SWEEP = "none"
SWEPT_TABLES = (8,)  # rows differ so much that the quick preset sweeps rates by default


def parse_rates(words: str) -> tuple[float, ...]:
    """Return the rates in `5e-4,1e-3,2e-3`; () for "".

    Raises:
        ValueError: A word is no number above 0, or is given twice.
    """
    rates: list[float] = []
    for word in words.split(",") if words else ():
        try:
            value = parse_field(config_fields()["lr"], word.strip())
        except ValueError:
            value = 0.0
        if not 0 < value < LARGEST_INTEGER:
            raise ValueError(
                f"--rates {words}: expected numbers above 0 joined by commas, as in 5e-4,1e-3; not {word!r}"
            )
        if value in rates:
            raise ValueError(f"--rates {words}: {word.strip()} is given twice")
        rates.append(value)
    return tuple(rates)


def rates_to_try(words: str, *, table: int, preset_name: str) -> tuple[float, ...]:
    """Return the rates to choose from: those in `words`, () for "none", and the table's default for "".

    Raises:
        ValueError: As `parse_rates`.
    """
    if words == NO_SWEEP:
        return ()
    if not words and table in SWEPT_TABLES and preset_name == "quick":
        rate = preset(preset_name).train.lr
        return tuple(factor * rate for factor in RATE_FACTORS)
    return parse_rates(words)


def rates_text(rates: Iterable[float]) -> str:
    """Return the rates as a user types them."""
    return ",".join(map(format_value, rates))


def candidate_variants(make: VariantFactory, rates: Sequence[float]) -> VariantFactory:
    """Return every row of `make` at every rate, scored on the validation split and named `ROW lr=RATE`."""

    def made(base: Settings) -> tuple[Variant, ...]:
        return tuple(
            _at(variant, rate, CHOICE_SPLIT, candidate_name(variant.name, rate))
            for variant in make(base)
            for rate in rates
        )

    return made


def with_best_rates(make: VariantFactory, rows: Iterable[Mapping[str, Any]], rates: Sequence[float]) -> VariantFactory:
    """Return the rows of `make`, each at its best rate and scored on the test split.

    Args:
        make: Makes the table's rows on top of base settings.
        rows: Result rows of the candidates.
        rates: The rates that were tried.
    """
    runs = [row for row in rows if row["kind"] == "run"]

    def made(base: Settings) -> tuple[Variant, ...]:
        split = score_split(base)
        return tuple(_at(variant, best_rate(runs, variant.name, rates), split, variant.name) for variant in make(base))

    return made


def score_split(base: Settings) -> str:
    """Return the split that a table is scored on whose rates are chosen: another one than they are chosen on."""
    return SCORE_SPLIT if base.evaluation.split == CHOICE_SPLIT else base.evaluation.split


def check_score_split(base: Settings) -> None:
    """Raise ValueError, before any run, if the data have not the split that is scored in the end, with labels."""
    from unept.data import check_data

    split = score_split(base)
    try:
        check_data(base.data, base.scenes, splits=(split,), read_files=False)
    except ValueError as error:
        how = f"rates are chosen on {CHOICE_SPLIT} and the table is scored on {split}"
        raise ValueError(f"{error}; {how}: --rates {NO_SWEEP} trains at the recipe's rate") from None


def best_rate(runs: Iterable[Mapping[str, Any]], row: str, rates: Sequence[float]) -> float:
    """Return the rate at which the runs of `row` have the highest mean mIoU.

    A rate with a run that did not end well is out. Of equal means the lower rate is taken; the lowest where no rate
    is left, so that the row's own runs show what became of them.
    """
    own = list(runs)
    means = {rate: _mean([run for run in own if run["variant"] == candidate_name(row, rate)]) for rate in sorted(rates)}
    return max(means, key=means.__getitem__)


def _at(variant: Variant, rate: float, split: str, called: str) -> Variant:
    settings = variant.settings
    settings = replace(
        settings,
        train=replace(settings.train, lr=rate),
        evaluation=replace(settings.evaluation, split=split),
    )
    return Variant(name=called, axes={**variant.axes, "lr": rate}, settings=settings)


def _mean(runs: Sequence[Mapping[str, Any]]) -> float:
    if not runs or any(run["status"] != "ok" for run in runs):
        return -math.inf
    return fmean(run["metrics"]["miou"] for run in runs)
