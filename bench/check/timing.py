"""Time of a training step of one layer, taken in turns with others, within the memory and seconds that there are."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Iterable, Sequence

import psutil
import torch

from bench.check.costs import GIB, peak
from bench.check.line import Line
from bench.check.subject import Shapes, Subject, sizes

ROUNDS = 5  # at most
SHARE = 0.8  # of the memory that is free, to be used
NAME = "time"


def times(subject: Subject, beside: Sequence[Subject], maps: Shapes, seconds: float) -> list[Line]:
    """Forward and backward of one layer on one image, in turns with those of ``beside``; about ``seconds`` in all.

    Without dropout, with which some fused kernels are not. What memory or time do not allow is left out, and said.
    """
    lines, chosen, left = [], [], seconds
    for each in (subject, *beside):
        expected = predicted_seconds(each, maps)
        reason = _too_much(each, maps, expected, left)
        if reason:
            lines.append(Line(status="INFO", name=NAME, text=f"{each.name} skipped: {reason}"))
        else:
            chosen.append(each)
            left -= expected
    if subject not in chosen:
        return lines
    rounds: list[list[float]] = []
    while len(rounds) < ROUNDS + 1:
        rounds.append([step_seconds(each, maps) for each in chosen])
        if sum(map(sum, rounds)) + sum(rounds[-1]) > seconds:
            break
    return [_line(subject, chosen, maps, rounds), *lines]


def _line(subject: Subject, chosen: Sequence[Subject], maps: Shapes, rounds: Sequence[Sequence[float]]) -> Line:
    warm = rounds[1:] or rounds
    medians = [statistics.median(taken) for taken in zip(*warm, strict=True)]
    own = medians[chosen.index(subject)]
    text = f"{_told(own)} forward and backward at {sizes(maps)}, one image"
    for each, median in zip(chosen, medians, strict=True):
        if each is not subject:
            text += f"; {own / median:.2g} times {each.name} ({_told(median)})"
    how = f"median of {len(warm)} rounds in turns" if len(warm) > 1 else "one round"
    how += "" if len(rounds) > 1 else ", not warmed up"
    threads = torch.get_num_threads()
    how += f", {threads} thread{'s' * (threads > 1)}, no dropout"
    return Line(status="INFO", name=NAME, text=f"{text}; {how}")


def _told(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _too_much(subject: Subject, maps: Shapes, expected: float, left: float) -> str:
    needs, free = peak(subject, maps, dropout=0.0).peak, psutil.virtual_memory().available
    if needs > SHARE * free:
        return f"needs {needs / GIB:.1f} GiB at {sizes(maps)}, predicted; {free / GIB:.1f} GiB are free"
    if expected > left:
        predicted = f"about {expected:.0f} s a step at {sizes(maps)}, by its time at smaller maps"
        return f"{predicted}; {max(left, 0):.0f} s are left"
    return ""


def predicted_seconds(subject: Subject, maps: Shapes) -> float:
    """Seconds of a step at ``maps`` by the power law through two smaller steps, between linear and quadratic."""
    smaller = [tuple((max(1, h // part), max(1, w // part)) for h, w in maps) for part in (4, 2)]
    (few, many), tokens = [_best(subject, each) for each in smaller], [_tokens(each) for each in (*smaller, maps)]
    power = math.log(many / few) / math.log(tokens[1] / tokens[0]) if tokens[1] > tokens[0] else 1.0
    return many * (tokens[2] / tokens[1]) ** min(2.0, max(1.0, power))


def _best(subject: Subject, maps: Shapes) -> float:
    """The faster of two steps, or the first if it is slow."""
    first = step_seconds(subject, maps)
    return first if first > 1 else min(first, step_seconds(subject, maps))


def _tokens(maps: Iterable[tuple[int, int]]) -> int:
    return sum(height * width for height, width in maps)


def step_seconds(subject: Subject, maps: Shapes) -> float:
    """Seconds of one forward and backward pass, for the gradients of all inputs and parameters."""
    module, call = subject.make(dropout=0.0).train(), subject.call(maps, batch=1)
    for name, tensor in call.given.items():
        tensor.requires_grad_(name != "position")
    gradient = torch.ones_like(call.first)
    gc.collect()
    began = time.perf_counter()
    result = call(module)
    if result.requires_grad:
        result.backward(gradient)
    return time.perf_counter() - began
