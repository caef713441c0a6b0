"""How many seeds a wished difference needs, and what a number of seeds can show: the plan of a study, in words.

Differences and spreads are in one unit, percent points of mIoU. In a family of comparisons Holm's correction begins at
`alpha / family`, which is the worst case that a single comparison meets; plans are made for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.stats.seed_statistics import (
    MAX_SEEDS,
    achieved_power,
    detectable_difference,
    pairs_needed,
    permutation_seeds,
    seeds_needed,
)

SIZES = (3, 5, 10, 20, 30)


@dataclass(frozen=True, kw_only=True)
class SeedCountPower:
    """What `n` seeds a side show: the difference detectable at the plan's power, and the power for the wished one."""

    n: int
    detectable: float
    power: float


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """Seeds a side for a wished difference; `seeds` is None where more than `seed_statistics.MAX_SEEDS` are needed.

    `permutation_seeds` are those at which an exact permutation test could reach significance at all, `pairs` those that
    a probability of .75 of beating the control takes.
    """

    difference: float
    sd: float
    family: int
    power: float
    alpha: float
    seeds: int | None
    permutation_seeds: int
    pairs: int
    sizes: tuple[SeedCountPower, ...]


def plan_seeds(
    difference: float,
    sd: float,
    *,
    family: int = 1,
    power: float = 0.8,
    alpha: float = 0.05,
    sizes: Sequence[int] = SIZES,
) -> SeedPlan:
    """The seeds that `difference` needs where runs of one variant spread by `sd`, among `family` comparisons.

    Raises ValueError for an impossible value.
    """
    least = permutation_seeds(alpha, family)  # refuses an impossible alpha or family before they meet
    level = alpha / family
    return SeedPlan(
        difference=difference,
        sd=sd,
        family=family,
        power=power,
        alpha=alpha,
        seeds=seeds_needed(difference, sd, power, level),
        permutation_seeds=least,
        pairs=pairs_needed(),
        sizes=tuple(
            SeedCountPower(
                n=n,
                detectable=detectable_difference(sd, n, power, level),
                power=achieved_power(difference, sd, n, level),
            )
            for n in sizes
        ),
    )


def seed_plan_lines(planned: SeedPlan) -> Iterator[str]:
    """The plan as lines of plain text: the answer, a table by number of seeds, and what else to know."""
    level = planned.alpha / planned.family
    seeds = f"more than {MAX_SEEDS}" if planned.seeds is None else str(planned.seeds)
    among = f"the strictest of {planned.family} comparisons, " if planned.family > 1 else ""
    yield (
        f"{seeds} seeds a variant show a difference of {_points(planned.difference)} with {_percent(planned.power)} "
        f"probability, if seeds spread by {_points(planned.sd)} ({among}two-sided t test at {level:.3g})."
    )
    yield ""
    shown = f"power for {planned.difference:g}"
    yield f"{'seeds':>5}  {'detectable, points':>18}  {shown:>{len(shown)}}"
    for size in planned.sizes:
        yield f"{size.n:>5}  {size.detectable:>18.2f}  {_percent(size.power):>{len(shown)}}"
    yield ""
    yield f"Detectable: shown with {_percent(planned.power)} probability. Welch's test needs a bit more at few seeds."
    yield f"An exact permutation test could reach this level from {planned.permutation_seeds} seeds a variant on."
    yield (
        f"To show that one variant beats the other in more than 3 of 4 pairs of runs takes {planned.pairs} pairs "
        "(both error rates 5 %; Noether's formula, as in Bouthillier et al. 2021)."
    )


def _points(value: float) -> str:
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
