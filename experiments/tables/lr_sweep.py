"""The learning rate of each row of a study, chosen on the validation split before the row is trained for the study.

Rows that differ as much as convolution and attention rarely share their best rate. Each row is trained at several
rates, with seeds that the study never uses and the preset's steps (or the study's, where those are fewer), and scored
on the validation split. `reports.analysis.rate_choice` has the rule. The study then trains its own seeds, each row at
its rate, and scores the test split.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from bench.config.fields import LARGEST_INTEGER, config_fields, format_value, parse_field
from bench.config.grid import Axes, Variant, merge_equal
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.study.options import StudyRequest
from bench.study.request import VariantFactory
from reports.analysis.rate_choice import (
    FIRST_SEEDS,
    RowsByRate,
    SeedPlan,
    candidate_name,
    choose_rate,
    plan_seeds,
)

RATE_FACTORS = (0.5, 1.0, 2.0)  # of the recipe's own rate, where none are given
CHOICE_SPLIT = "val"  # that rates are chosen on
SCORE_SPLIT = "test"  # that the study is then scored on
NO_SWEEP = "none"
SWEPT_TABLES = (8,)  # rows differ so much that the quick preset sweeps rates by default
SWEEP_AXES = ("lr", "split")  # that an ablation which chooses rates sets itself

SeedPlans = Mapping[str, SeedPlan]  # by row


def parse_rates(words: str) -> tuple[float, ...]:
    """Return the rates in `5e-4,1e-3,2e-3`; () for "" and for "none".

    Raises:
        ValueError: A word is no number above 0, or is given twice.
    """
    rates: list[float] = []
    for word in words.split(",") if words not in ("", NO_SWEEP) else ():
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
    if not words and table in SWEPT_TABLES and preset_name == "quick":
        rate = preset(preset_name).train.lr
        return tuple(factor * rate for factor in RATE_FACTORS)
    return parse_rates(words)


def rates_text(rates: Iterable[float]) -> str:
    """Return the rates as a user types them."""
    return ",".join(map(format_value, rates))


def check_sweep_request(request: StudyRequest, axes: Axes, *, said: str) -> None:
    """Check that the study leaves to the choice of rates what that decides: seeds, the split, and the rate.

    Args:
        request: The study's options.
        axes: The study's own axes, or fields.
        said: What leads them in a message: `axis` or an option.

    Raises:
        ValueError: In one line.
    """
    without = f"--rates {NO_SWEEP} trains at the recipe's rate"
    if request.seeds > FIRST_SEEDS[0]:
        raise ValueError(
            f"--seeds {request.seeds}: expected at most {FIRST_SEEDS[0]}, later ones choose rates; {without}"
        )
    if request.split == CHOICE_SPLIT:
        raise ValueError(f"--split {CHOICE_SPLIT}: rates are chosen on it, so that another is scored; {without}")
    for axis in axes:
        if axis.name == "lr":
            raise ValueError(
                f"{said} {axis}: the rates of --rates take its place; --rates {NO_SWEEP} trains at that one"
            )
        if axis.name in SWEEP_AXES:
            raise ValueError(f"{said} {axis}: with --rates one split is scored, named by --split; {without}")


def score_split(base: Settings) -> str:
    """Return the split that a study is scored on whose rates are chosen: another one than they are chosen on."""
    return SCORE_SPLIT if base.evaluation.split == CHOICE_SPLIT else base.evaluation.split


def check_score_split(base: Settings) -> None:
    """Raise ValueError, before any run, if the data have not the split that is scored in the end, with labels."""
    from unept.data import check_data

    split = score_split(base)
    try:
        check_data(base.data, base.scenes, splits=(split,), read_files=False)
    except ValueError as error:
        how = f"rates are chosen on {CHOICE_SPLIT} and the study is scored on {split}"
        raise ValueError(f"{error}; {how}: --rates {NO_SWEEP} trains at the recipe's rate") from None


def candidate_variants(rows: Iterable[Variant], plans: SeedPlans) -> tuple[Variant, ...]:
    """Return each row at the rates of its plan, scored on the validation split and named `ROW lr=RATE`."""
    return tuple(
        replace(_at(row, rate, CHOICE_SPLIT), name=candidate_name(row.name, rate), axes={**row.axes, "lr": rate})
        for row in rows
        for rate in plans[row.name]
    )


def candidate_seeds(plans: SeedPlans) -> dict[str, tuple[int, ...]]:
    """Return the seeds of each candidate by its name."""
    return {candidate_name(row, rate): seeds for row, plan in plans.items() for rate, seeds in plan.items()}


def first_plans(rows: Iterable[Variant], rates: Sequence[float]) -> dict[str, SeedPlan]:
    """Return the plan of each row before it has runs."""
    return {row.name: plan_seeds(rates, {}) for row in rows}


def next_plans(plans: SeedPlans, rates: Sequence[float], runs: Iterable[Mapping[str, Any]]) -> dict[str, SeedPlan]:
    """Return the plan of each row after these runs: the same plans once no rate has anything due or to follow.

    Args:
        plans: The plans so far.
        rates: The rates that are tried in any case.
        runs: Result rows of the candidates.
    """
    return {row: plan_seeds(rates, by_rate) for row, by_rate in _runs_by_row(plans, runs).items()}


def chosen_rates(plans: SeedPlans, runs: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return the rate of each row: the best, or the lowest where no rate ended well, so that its own runs show that."""
    best = {row: choose_rate(by_rate) for row, by_rate in _runs_by_row(plans, runs).items()}
    return {row: min(plans[row]) if rate is None else rate for row, rate in best.items()}


def at_chosen_rates(make: VariantFactory, chosen: Mapping[str, float]) -> VariantFactory:
    """Return the rows of `make`, each at its rate and scored on another split than the rates were chosen on.

    Args:
        make: Makes the study's rows on top of base settings.
        chosen: Rate by row. A row without one has that of an equal row, or else the recipe's.
    """

    def made(base: Settings) -> tuple[Variant, ...]:
        rows, split = make(base), score_split(base)
        _, equal = merge_equal(rows)
        rates = [chosen.get(row.name, chosen.get(equal.get(row.name, ""), row.settings.train.lr)) for row in rows]
        return tuple(_at(row, rate, split) for row, rate in zip(rows, rates, strict=True))

    return made


def _runs_by_row(plans: SeedPlans, runs: Iterable[Mapping[str, Any]]) -> dict[str, RowsByRate]:
    named: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        named.setdefault(run["variant"], []).append(run)
    return {row: {rate: named.get(candidate_name(row, rate), []) for rate in plan} for row, plan in plans.items()}


def _at(row: Variant, rate: float, split: str) -> Variant:
    settings = row.settings
    train, evaluation = replace(settings.train, lr=rate), replace(settings.evaluation, split=split)
    return replace(row, settings=replace(settings, train=train, evaluation=evaluation))
