"""Times until something is learned, right-censored where a run ended before: two samples compared.

The effect is the ratio of restricted geometric means: of the times, with the run's length for a run that did not learn.
Every run is followed to its end, so that the restricted mean of log time is an ordinary mean, and Welch's test applies
to it. With few events it rejects too seldom rather than too often. The log-rank test stands beside it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from scipy import stats

from bench.stats.seed_statistics import welch_test

LEAST_EVENTS = 2  # in each sample, for an interval: with fewer it covers the ratio too seldom


@dataclass(frozen=True, kw_only=True)
class LearningTime:
    """Time of one run.

    Args:
        step: Step at which the run had learned, or its last step.
        learned: False where the run ended without having learned.
    """

    step: float
    learned: bool


@dataclass(frozen=True, kw_only=True)
class TimeRatio:
    """Ratio of restricted geometric mean times, `first / second`.

    Args:
        ratio: Of the means; below 1 the first sample learns sooner.
        low: Lower end of the interval; None with fewer than `LEAST_EVENTS` events in a sample.
        high: Upper end.
        p: Two-sided p of Welch's test of the logarithms.
        p_log_rank: Two-sided p of the log-rank test, by its normal limit.
    """

    ratio: float
    low: float | None
    high: float | None
    p: float
    p_log_rank: float


def geometric_mean(times: Sequence[LearningTime]) -> float:
    """Return the restricted geometric mean of the times."""
    return math.exp(math.fsum(map(_log, times)) / len(times))


def compare_times(
    first: Sequence[LearningTime], second: Sequence[LearningTime], confidence: float = 0.95
) -> TimeRatio | None:
    """Compare the times of two samples; None without two runs in each and some variation.

    Args:
        first: Times above 0.
        second: Times above 0.
        confidence: Coverage of the interval.
    """
    logs = [[_log(time) for time in sample] for sample in (first, second)]
    if min(map(len, logs)) < 2 or all(max(sample) == min(sample) for sample in logs):
        return None
    welch = welch_test(logs[0], logs[1], confidence)
    certain = all(sum(time.learned for time in sample) >= LEAST_EVENTS for sample in (first, second))
    return TimeRatio(
        ratio=math.exp(welch.difference),
        low=math.exp(welch.low) if certain else None,
        high=math.exp(welch.high) if certain else None,
        p=welch.p,
        p_log_rank=_log_rank(first, second),
    )


def _log(time: LearningTime) -> float:
    return math.log(time.step)


def _censored(sample: Sequence[LearningTime]) -> Any:
    """Return the sample as SciPy takes it."""
    return stats.CensoredData(
        uncensored=[time.step for time in sample if time.learned],
        right=[time.step for time in sample if not time.learned],
    )


def _log_rank(first: Sequence[LearningTime], second: Sequence[LearningTime]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # no event at which both samples are at risk
        p = float(stats.logrank(_censored(first), _censored(second)).pvalue)
    return 1.0 if math.isnan(p) else p
