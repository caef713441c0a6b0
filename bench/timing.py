"""Wall-clock timing of several tasks in turns, and the quartiles of repeated measurements. Imports no torch.

A round runs every task once, so that a busy moment of the machine meets all of them alike; every second round goes
through the tasks in reverse.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, kw_only=True)
class Quartiles:
    """Median and quartiles over `n` timed repetitions, in the unit of the values."""

    median: float
    q1: float
    q3: float
    n: int


def quartiles(values: Sequence[float]) -> Quartiles:
    """Return the median and the quartiles (linear interpolation) of one value or more."""
    q1, median, q3 = (float(value) for value in np.quantile(np.asarray(values, dtype=float), [0.25, 0.5, 0.75]))
    return Quartiles(median=median, q1=q1, q3=q3, n=len(values))


def seconds_of(function: Callable[[], object], device: str = "cpu") -> float:
    """Return the seconds of one call.

    Args:
        function: Called once, without arguments.
        device: Where it computes; on "cuda" the device is synchronised before and after the call.
    """
    _synchronize(device)
    start = time.perf_counter()
    function()
    _synchronize(device)
    return time.perf_counter() - start


def run_in_turns(
    tasks: Mapping[Name, Callable[[], Mapping[str, float]]],
    rounds: int | Callable[[float], int],
    *,
    warm_up: bool = True,
    another: Callable[[], bool] = lambda: True,
) -> dict[tuple[Name, str], list[float]]:
    """Run every task once a round and collect what they measure, in the order of rounds.

    Args:
        tasks: Each measures itself and returns seconds by phase; {} where it is not to be measured again.
        rounds: Number of rounds that count, or a function of the seconds of the warm-up round that returns it.
        warm_up: Run one more round at the start, whose figures are dropped.
        another: Called before each round but the first that counts; False ends the measurement.

    Returns:
        Seconds by (task, phase), sorted by task and in each task by phase as they first came.
    """
    samples: dict[tuple[Name, str], list[float]] = {}
    start = time.perf_counter()
    if warm_up:
        for task in tasks.values():
            task()
    number = rounds(time.perf_counter() - start) if callable(rounds) else rounds
    for turn in range(number):
        if turn and not another():
            break
        for name in list(tasks) if turn % 2 == 0 else list(tasks)[::-1]:
            for phase, seconds in tasks[name]().items():
                samples.setdefault((name, phase), []).append(seconds)
    return {key: samples[key] for name in tasks for key in samples if key[0] == name}


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
