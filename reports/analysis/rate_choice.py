"""The rule by which a row's learning rate is chosen, and which runs it takes: pure functions of the rows so far.

1. Every rate is trained with `FIRST_SEEDS`. While the best is the lowest or the highest that was tried, the next one
   beyond is tried too, a factor of `EXTENSION_FACTOR` away, up to `MAX_EXTENSIONS` each way.
2. The two best rates are trained with `FURTHER_SEEDS` too. The best with all seeds is the row's; where it is the lowest
   or the highest that was tried, step 1 goes on.

A rate is better where more of its seeds learned to tell look-alikes apart; among equals, where the seeds that learned
(all of them where none did) have the higher mean mIoU; among equals still, where it is lower. A rate is out if a run
did not end well or has no score. No other run uses these seeds, so no table is scored on seeds that favoured its rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from bench.config.fields import format_value
from reports.analysis import study_rows
from reports.analysis.cue_groups import accuracy_to_learn, cue_threshold
from reports.analysis.study_rows import Row, has_succeeded, number_at

LR_SWEEP_KIND = "rates"  # kind of a study whose variants are a study's rows at several learning rates
LR_SEPARATOR = " lr="
FIRST_SEEDS = (1000, 1001)  # of each rate
FURTHER_SEEDS = (1002, 1003)  # of the best two rates of each row
EXTENSION_FACTOR = 2.0
MAX_EXTENSIONS = 3  # beyond the lowest of the given rates, and as many beyond the highest
FINALISTS = 2

RowsByRate = Mapping[float, Sequence[Row]]  # the runs of one row
SeedPlan = dict[float, tuple[int, ...]]  # seeds by rate


@dataclass(frozen=True, kw_only=True)
class RateScore:
    """The runs of one row at one rate.

    Args:
        rate: The learning rate.
        seeds: Number of runs.
        learned: Runs that learned to tell look-alikes apart; all of them on data without look-alikes.
        miou: Mean mIoU of the runs that learned, of all where none did, a fraction; None where the rate is out.
        status: How the first run that did not end well ended; "" where all did.
    """

    rate: float
    seeds: int
    learned: int
    miou: float | None
    status: str


def candidate_name(row: str, lr: float) -> str:
    """Return the name of a study's row trained at one learning rate, as in `dense lr=0.001`."""
    return f"{row}{LR_SEPARATOR}{format_value(lr)}"


def row_of_candidate(variant: str) -> str:
    """Return the study's row that `candidate_name` made this name from."""
    return variant.rpartition(LR_SEPARATOR)[0]


def score_rates(runs: RowsByRate) -> list[RateScore]:
    """Return the score of each rate that has runs, the best first and those that are out last, each part by rate.

    Seeds have learned from the row's `cue_threshold` on, which is one for all of its rates.
    """
    cues = [score for own in runs.values() for run in own if (score := _lookalike_accuracy(run)) is not None]
    least = max((accuracy_to_learn(run) for own in runs.values() for run in own), default=0.0)
    threshold = cue_threshold(cues, least)
    scores = [_score(rate, own, threshold) for rate, own in sorted(runs.items()) if own]
    return sorted(scores, key=_merit, reverse=True)


def choose_rate(runs: RowsByRate) -> float | None:
    """Return the best of the rates with the most runs; None where no rate is left."""
    scores = [score for score in score_rates(runs) if score.miou is not None]
    most = max((score.seeds for score in scores), default=0)
    return next((score.rate for score in scores if score.seeds == most), None)


def plan_seeds(rates: Sequence[float], runs: RowsByRate) -> SeedPlan:
    """Return the seeds that a row is trained with at each rate, as far as its runs so far decide it.

    With all runs of a plan the next call returns a longer plan, or the same one: then the rate is chosen.

    Args:
        rates: The rates that are tried in any case.
        runs: The row's runs so far, by rate; what the plan does not have is left aside.
    """
    plan: SeedPlan = dict.fromkeys(sorted(rates), FIRST_SEEDS)
    while True:
        known = {rate: _runs_with(runs.get(rate, ()), seeds) for rate, seeds in plan.items()}
        if any(len(known[rate]) < len(seeds) for rate, seeds in plan.items()):
            return plan
        step = _next_step(plan, known, rates)
        if not step:
            return plan
        plan = dict(sorted({**plan, **step}.items()))


def least_runs(rates: Sequence[float]) -> int:
    """Return the runs of a row whose best rate is interior at once, or after the fewest further rates."""
    return max(len(rates), 3) * len(FIRST_SEEDS) + FINALISTS * len(FURTHER_SEEDS)


def most_runs(rates: Sequence[float]) -> int:
    """Return the runs that no row exceeds: every rate within the bound, with every seed."""
    return (len(rates) + 2 * MAX_EXTENSIONS) * (len(FIRST_SEEDS) + len(FURTHER_SEEDS))


def _next_step(plan: SeedPlan, known: RowsByRate, rates: Sequence[float]) -> SeedPlan:
    """Return what follows once all runs of `plan` are there: rates beyond, or further seeds; {} at the end."""
    usable = {rate for rate in plan if _status(known[rate]) == ""}
    if not usable:
        too_high = all(_status(own) == "diverged" for own in known.values())
        return _beyond(plan, rates, min(plan), downwards_only=True) if too_high else {}
    first = score_rates({rate: _runs_with(known[rate], FIRST_SEEDS) for rate in usable})
    step = _beyond(plan, rates, first[0].rate)
    if step:
        return step
    finalists = [score.rate for score in first[:FINALISTS]]
    step = {rate: (*FIRST_SEEDS, *FURTHER_SEEDS) for rate in finalists if len(plan[rate]) == len(FIRST_SEEDS)}
    if step:
        return step
    chosen = choose_rate(known)
    return {} if chosen is None else _beyond(plan, rates, chosen)


def _beyond(plan: SeedPlan, rates: Sequence[float], best: float, *, downwards_only: bool = False) -> SeedPlan:
    """Return the next rate beyond `best`, on each side without a further one; {} within and at the bound."""
    reach = EXTENSION_FACTOR**MAX_EXTENSIONS
    step: SeedPlan = {}
    if best == min(plan) and best / EXTENSION_FACTOR >= min(rates) / reach:
        step[best / EXTENSION_FACTOR] = FIRST_SEEDS
    if best == max(plan) and best * EXTENSION_FACTOR <= max(rates) * reach and not downwards_only:
        step[best * EXTENSION_FACTOR] = FIRST_SEEDS
    return step


def _runs_with(runs: Iterable[Row], seeds: Sequence[int]) -> list[Row]:
    return [run for run in runs if study_rows.seed_of(run) in seeds]


def _status(runs: Iterable[Row]) -> str:
    """Return how the first of the runs that did not end well ended; "" where all did and have a score."""
    bad = (run for run in runs if not has_succeeded(run) or number_at(run, "metrics", "miou") is None)
    return next(("no score" if has_succeeded(run) else str(run.get("status")) for run in bad), "")


def _lookalike_accuracy(run: Row) -> float | None:
    return number_at(run, "metrics", "lookalike_accuracy") if has_succeeded(run) else None


def _score(rate: float, runs: Sequence[Row], threshold: float) -> RateScore:
    cues = [_lookalike_accuracy(run) for run in runs]
    learned = [run for run, cue in zip(runs, cues, strict=True) if cue is None or cue >= threshold]
    status = _status(runs)
    values = study_rows.metric_values(learned or runs, "miou")
    mean = None if status else fmean(values)
    return RateScore(rate=rate, seeds=len(runs), learned=len(learned), miou=mean, status=status)


def _merit(score: RateScore) -> tuple[bool, float, float, float]:
    usable = score.miou is not None
    return (usable, score.learned / score.seeds * usable, score.miou or 0.0, -score.rate)
