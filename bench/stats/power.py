"""Number of seeds that a difference needs, and differences that a number of seeds can show: the plan of a study.

Differences and standard deviations are in one unit, percent points of mIoU. In a family of comparisons Holm's
correction begins at `alpha / family`, the worst case for a single comparison; plans are made for that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.stats.seed_statistics import pairs_needed, permutation_seeds
from bench.stats.welch_power import MAX_SEEDS, achieved_power, detectable_difference, equal_design, seeds_needed

MOST_POINTS = 100.0  # that mIoU can differ by
SIZES = (3, 5, 10, 20, 30)


@dataclass(frozen=True, kw_only=True)
class SeedCountPower:
    """Power of a comparison with `n` seeds a variant.

    Args:
        n: Seeds a variant.
        detectable: Difference that is detectable at the plan's power.
        power: Power for the plan's difference.
    """

    n: int
    detectable: float
    power: float


@dataclass(frozen=True, kw_only=True)
class SeedPlan:
    """Seeds a variant that a difference needs.

    Args:
        difference: The difference to show.
        sd: Standard deviation of the seeds.
        family: Number of comparisons.
        power: Probability to show the difference.
        alpha: Level of the whole family.
        seeds: Seeds a variant; None where more than `welch_power.MAX_SEEDS` are needed.
        permutation_seeds: Seeds from which an exact permutation test can reach significance at all.
        pairs: Pairs of runs that show a probability of .75 of beating the control.
        sizes: Power for other numbers of seeds.
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
    """Return the seeds that `difference` needs.

    Args:
        difference: The difference to show.
        sd: Standard deviation between seeds of one variant, in the same unit.
        family: Number of comparisons.
        power: Probability to show the difference.
        alpha: Level of the whole family.
        sizes: Numbers of seeds to list the power of.

    Raises:
        ValueError: For an impossible value.
    """
    least = permutation_seeds(alpha, family)  # refuses an impossible alpha or family before they meet
    level = alpha / family
    return SeedPlan(
        difference=difference,
        sd=sd,
        family=family,
        power=power,
        alpha=alpha,
        seeds=seeds_needed(difference, (sd, sd), power, level),
        permutation_seeds=least,
        pairs=pairs_needed(),
        sizes=tuple(
            SeedCountPower(
                n=n,
                detectable=detectable_difference(equal_design(sd, n), power, level),
                power=achieved_power(difference, equal_design(sd, n), level),
            )
            for n in sizes
        ),
    )


def seed_plan_lines(planned: SeedPlan) -> Iterator[str]:
    """Yield the plan as lines of plain text: the answer, a table by number of seeds, and notes."""
    level = planned.alpha / planned.family
    seeds = f"more than {MAX_SEEDS}" if planned.seeds is None else str(planned.seeds)
    among = f"the strictest of {planned.family} comparisons, " if planned.family > 1 else ""
    yield (
        f"{seeds} seeds a variant show a difference of {_points(planned.difference)} with {_percent(planned.power)} "
        f"probability, if seeds spread by {_points(planned.sd)} ({among}two-sided Welch test at {level:.3g})."
    )
    yield ""
    shown = f"power for {planned.difference:g}"
    yield f"{'seeds':>5}  {'detectable, points':>18}  {shown:>{len(shown)}}"
    for size in planned.sizes:
        least = f"{size.detectable:.2f}" if size.detectable <= MOST_POINTS else "none"
        yield f"{size.n:>5}  {least:>18}  {_percent(size.power):>{len(shown)}}"
    yield ""
    yield f"Detectable: shown with {_percent(planned.power)} probability by Welch's test (none: over 100 points)."
    yield f"An exact permutation test could reach this level from {planned.permutation_seeds} seeds a variant on."
    yield (
        f"To show that one variant beats the other in more than 3 of 4 pairs of runs takes {planned.pairs} pairs "
        "(both error rates 5 %; Noether's formula, as in Bouthillier et al. 2021)."
    )


def _points(value: float) -> str:
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
