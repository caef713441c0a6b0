"""The axes of a grid: does any cell differ, and what does each axis do, averaged over the cells of the others?

First Friedman's test over all cells with the seeds as blocks, then each axis by a permutation of its levels within
strata of the other axes, Holm-adjusted over the contrasts. `comparisons` has the cells against the control.
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.config.fields import AXIS_LABELS
from bench.stats.friedman import friedman_test
from bench.stats.seed_statistics import holm_adjust
from bench.stats.stratified import SAMPLED_ALLOCATIONS, Stratum, compare_within_strata
from reports.analysis import study_rows
from reports.analysis.control import axes_of, control_variant
from reports.analysis.learned_cue import grouped_variants
from reports.analysis.sample_comparison import ALPHA, interval_of_verdict, judge_difference
from reports.analysis.study_rows import Study
from reports.formats.data_frames import make_frame

ALL_CELLS = "all cells"
MAX_CONTRASTS = 100  # a larger grid has no table by axis
DRAWN_VALUES, LEAST_ALLOCATIONS = 20_000_000, 1_000  # a large grid's permutations share the first; at least the second
CELLS_DIFFER = "cells differ"
TEXT = ("axis", "level", "base", "verdict")
NUMBERS = ("difference", "low", "high", "p", "p_holm", "p_chi_squared")

Cell = tuple[str, ...]  # a level of each axis, as its `repr`


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """A full grid: every combination of the levels of its axes is a variant.

    Args:
        levels: Levels of each axis by name, in the order of the variants.
        variants: Variant of each cell.
    """

    levels: Mapping[str, Sequence[object]]
    variants: Mapping[Cell, str]


def axis_effects_frame(study: Study, metric: str = "miou") -> pd.DataFrame:
    """Return a frame with a line for all cells, then one for each contrast of two levels of an axis.

    Args:
        study: Rows of the study.
        metric: Name of a metric of a run, a fraction.

    Returns:
        `difference` is `level - base` in percent points, averaged over the strata of the other axes, with the interval
        that holds for all contrasts at once; there is none where the seeds of a cell fall in two groups. An axis of two
        levels has its second one against its first; one of more has each against the control's. `n` values of the
        level, `n_base` of the base, over all strata. Empty where the study is no full grid of two axes or more,
        or one of more than `MAX_CONTRASTS` contrasts.
    """
    grid = _grid(study)
    lines: list[dict[str, object]] = []
    if grid is not None:
        lines = [*_omnibus_lines(study, grid, metric), *_contrast_lines(study, grid, metric)]
    columns = [*TEXT[:3], "n", "n_base", *NUMBERS, "verdict"]
    return make_frame(lines, columns, whole=("n", "n_base"), text=TEXT)


def axis_sentences(effects: pd.DataFrame) -> Iterator[str]:
    """Yield whether any cell of the grid differs, and what each axis does.

    Args:
        effects: The study's `axis_effects_frame`, or its CSV file read again.
    """
    for _, line in effects[effects["axis"] == ALL_CELLS].iterrows():
        outcome = "differ" if line["verdict"] == CELLS_DIFFER else "are not seen to differ"
        yield f"The cells of the grid {outcome} (Friedman's test by permutation, p {_p(line['p'])})."
    contrasts = effects[effects["axis"] != ALL_CELLS]
    seen = contrasts["p_holm"] <= ALPHA
    for kept, start in ((seen, "By axis, a difference is seen in"), (~seen, "By axis, none is seen in")):
        if len(contrasts[kept]):
            yield f"{start} {'; '.join(_contrast_words(line) for _, line in contrasts[kept].iterrows())}."


def _contrast_words(line: pd.Series) -> str:
    between = "" if pd.isna(line["low"]) else f", {line['low']:.2f} to {line['high']:.2f}"
    return (
        f"{line['axis']}={line['level']} against {line['base']} ({line['difference']:+.2f} points{between}; "
        f"p {_p(line['p_holm'])})"
    )


def _p(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}"


def _grid(study: Study) -> _Grid | None:
    """Return the study's grid; None where fewer than two axes vary or a combination is missing or there twice."""
    axes_by_variant = {variant: axes_of(study, variant) for variant in study.variants}
    counts = collections.Counter(tuple(sorted(axes)) for axes in axes_by_variant.values())
    most, _ = max(counts.items(), key=lambda item: item[1], default=((), 0))
    names = [name for name in study_rows.study_axes(study) if name in most]
    cells = {variant: axes for variant, axes in axes_by_variant.items() if set(axes) == set(names)}  # no added control
    levels = {name: list({repr(axes[name]): axes[name] for axes in cells.values()}.values()) for name in names}
    levels = {name: found for name, found in levels.items() if len(found) > 1}
    variants = {tuple(repr(axes[name]) for name in levels): variant for variant, axes in cells.items()}
    whole = math.prod(map(len, levels.values())) == len(variants) == len(cells)
    contrasts = sum(len(values) - 1 for values in levels.values())
    return _Grid(levels=levels, variants=variants) if whole and len(levels) > 1 and contrasts <= MAX_CONTRASTS else None


def _omnibus_lines(study: Study, grid: _Grid, metric: str) -> Iterator[dict[str, object]]:
    """Yield Friedman's test over the seeds that every cell has."""
    by_cell = [_by_seed(study, variant, metric) for variant in grid.variants.values()]
    shared = sorted(set.intersection(*(set(values) for values in by_cell)))
    if len(shared) < 2:
        return
    result = friedman_test([[values[seed] for values in by_cell] for seed in shared])
    verdict = CELLS_DIFFER if result.p <= ALPHA else judge_difference(0.0, result.p)
    yield {
        "axis": ALL_CELLS,
        "n": len(shared),
        "p": result.p,
        "p_chi_squared": result.p_chi_squared,
        "verdict": verdict,
    }


def _contrast_lines(study: Study, grid: _Grid, metric: str) -> Iterator[dict[str, object]]:
    """Yield the contrasts of every axis that have values, Holm-adjusted together."""
    contrasts = {
        (name, level, base): strata
        for name, level, base in _contrasts(study, grid)
        if (strata := list(_strata(study, grid, metric, name, level, base)))
    }
    grouped = grouped_variants(study)
    confidence = 1 - ALPHA / max(1, len(contrasts))
    values = sum(len(first) + len(second) for strata in contrasts.values() for first, second in strata)
    allocations = min(SAMPLED_ALLOCATIONS, max(LEAST_ALLOCATIONS, DRAWN_VALUES // max(1, values)))
    results = {
        key: compare_within_strata(strata, confidence, allocations=allocations) for key, strata in contrasts.items()
    }
    adjusted = holm_adjust([result.p for result in results.values()])
    for (key, result), p_holm in zip(results.items(), adjusted, strict=True):
        name, level, base = key
        has_interval = grouped.isdisjoint(_cells_of(grid, *key))
        low, high = interval_of_verdict(result.difference, result.low, result.high, p_holm)
        if not has_interval:
            low, high = None, None
        yield {
            "axis": AXIS_LABELS.get(name, name),
            "level": study_rows.value_text(level),
            "base": study_rows.value_text(base),
            "n": sum(len(first) for first, _ in contrasts[key]),
            "n_base": sum(len(second) for _, second in contrasts[key]),
            "difference": result.difference,
            "low": low,
            "high": high,
            "p": result.p,
            "p_holm": p_holm,
            "verdict": judge_difference(result.difference, p_holm),
        }


def _contrasts(study: Study, grid: _Grid) -> Iterator[tuple[str, object, object]]:
    """Yield (axis, level, base): the second level of two against the first, of more each against the control's."""
    control = axes_of(study, control_variant(study))
    for name, levels in grid.levels.items():
        base = levels[0] if len(levels) == 2 else control.get(name, levels[0])
        yield from ((name, level, base) for level in levels if repr(level) != repr(base))


def _cells_of(grid: _Grid, name: str, level: object, base: object) -> set[str]:
    """Return the variants that have either level of the axis."""
    at = list(grid.levels).index(name)
    return {variant for cell, variant in grid.variants.items() if cell[at] in (repr(level), repr(base))}


def _strata(study: Study, grid: _Grid, metric: str, name: str, level: object, base: object) -> Iterator[Stratum]:
    """Yield the values of both levels in each combination of the other axes that has some of both."""
    others = [[(axis, value) for value in levels] for axis, levels in grid.levels.items() if axis != name]
    for combination in itertools.product(*others):
        pair = []
        for value in (level, base):
            chosen = {**dict(combination), name: value}
            variant = grid.variants[tuple(repr(chosen[axis]) for axis in grid.levels)]
            pair.append(study_rows.percent_values(study, variant, metric))
        if pair[0] and pair[1]:
            yield pair[0], pair[1]


def _by_seed(study: Study, variant: str, metric: str) -> dict[int, float]:
    """Return a metric of a variant's runs that have it, by seed."""
    runs = study.runs_of(variant)
    return {study_rows.seed_of(run): value for run in runs for value in study_rows.metric_values([run], metric)}
