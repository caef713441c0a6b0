"""Time of a training step of one layer, taken in turns with others, within the available memory and seconds."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterable, Sequence
from functools import partial

import torch

from bench import environment
from bench.attention_layer.attention_under_test import AttentionUnderTest, Shapes, format_sizes
from bench.attention_layer.costs import predict_layer_peak
from bench.attention_layer.result import CheckLine
from bench.environment import USABLE_MEMORY_SHARE
from bench.profiling.memory.layer_peak import power_law_exponent
from bench.timing import run_in_turns, seconds_of
from bench.units import GIB

MAX_ROUNDS = 5  # at most
# A step of more than this share of the seconds in all is taken once: its first is not much slower than its next.
SLOW_SHARE = 0.1
TIME_CHECK = "time"


def check_time(
    subject: AttentionUnderTest, beside: Sequence[AttentionUnderTest], maps: Shapes, seconds: float
) -> list[CheckLine]:
    """Time forward and backward of one layer on one image, in turns with others.

    Without dropout, with which some fused kernels are not available. What memory or time do not allow is skipped, and a
    line says so.

    Args:
        subject: The attention under test.
        beside: Attentions to compare with.
        maps: Height and width of each map, in tokens.
        seconds: About how long the check takes in all.
    """
    lines, chosen, left = [], [], seconds
    for candidate in (subject, *beside):
        expected = predict_step_seconds(candidate, maps)
        reason = _too_much(candidate, maps, expected, left)
        if reason:
            lines.append(CheckLine(status="INFO", name=TIME_CHECK, text=f"{candidate.name} skipped: {reason}"))
        else:
            chosen.append(candidate)
            left -= expected
    if subject not in chosen:
        return lines
    step_times = _in_turns(chosen, maps, seconds)
    return [_line(subject, chosen, maps, step_times), *lines]


def _in_turns(chosen: Sequence[AttentionUnderTest], maps: Shapes, seconds: float) -> list[list[float]]:
    """Return each attention's seconds of a step, by round.

    A slow one is taken once. No round begins that would end after `seconds` in all.
    """
    step_times: list[list[float]] = [[] for _ in chosen]

    def task(number: int) -> dict[str, float]:
        if step_times[number] and step_times[number][0] > SLOW_SHARE * seconds:
            return {}
        step_times[number].append(layer_step_seconds(chosen[number], maps))
        return {"step": step_times[number][-1]}

    def another() -> bool:
        next_round = sum(steps[-1] for steps in step_times if steps[0] <= SLOW_SHARE * seconds)
        return sum(map(sum, step_times)) + next_round <= seconds

    tasks = {number: partial(task, number) for number in range(len(chosen))}
    run_in_turns(tasks, MAX_ROUNDS + 1, warm_up=False, another=another)
    return step_times


def _line(
    subject: AttentionUnderTest,
    chosen: Sequence[AttentionUnderTest],
    maps: Shapes,
    step_times: Sequence[Sequence[float]],
) -> CheckLine:
    medians = [statistics.median(mine[1:] or mine) for mine in step_times]
    index, most = chosen.index(subject), max(map(len, step_times))
    own, rounds = medians[index], len(step_times[index])
    text = f"{_told(own)} forward and backward at {format_sizes(maps)}, one image"
    for other, median, steps in zip(chosen, medians, step_times, strict=True):
        if other is not subject:
            once = ", once" if len(steps) < most else ""
            text += f"; {own / median:.2g} times {other.name} ({_told(median)}{once})"
    how = f"median of {rounds - 1} rounds in turns" if rounds > 2 else "one round"
    how += "" if rounds > 1 else ", not warmed up"
    threads = torch.get_num_threads()
    how += f", {threads} thread{'s' * (threads > 1)}, no dropout"
    return CheckLine(status="INFO", name=TIME_CHECK, text=f"{text}; {how}")


def _told(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _too_much(subject: AttentionUnderTest, maps: Shapes, expected: float, left: float) -> str:
    needs, free = predict_layer_peak(subject, maps, dropout=0.0).peak, environment.available_memory_bytes()
    if needs > USABLE_MEMORY_SHARE * free:
        return f"needs {needs / GIB:.1f} GiB at {format_sizes(maps)}, predicted; {free / GIB:.1f} GiB are free"
    if expected > left:
        predicted = f"about {expected:.0f} s a step at {format_sizes(maps)}, by its time at smaller maps"
        return f"{predicted}; {max(left, 0):.0f} s are left"
    return ""


def predict_step_seconds(subject: AttentionUnderTest, maps: Shapes) -> float:
    """Predict the seconds of a step by the power law through two smaller steps, between linear and quadratic."""
    smaller = [tuple((max(1, h // part), max(1, w // part)) for h, w in maps) for part in (4, 2)]
    (few, many), tokens = (
        [_best(subject, shapes) for shapes in smaller],
        [_tokens(shapes) for shapes in (*smaller, maps)],
    )
    power = power_law_exponent(tokens[:2], [few, many]) if tokens[1] > tokens[0] else 1.0
    return many * (tokens[2] / tokens[1]) ** min(2.0, max(1.0, power))


def _best(subject: AttentionUnderTest, maps: Shapes) -> float:
    """Return the seconds of the faster of two steps, or of the first if it is slow."""
    first = layer_step_seconds(subject, maps)
    return first if first > 1 else min(first, layer_step_seconds(subject, maps))


def _tokens(maps: Iterable[tuple[int, int]]) -> int:
    return sum(height * width for height, width in maps)


def layer_step_seconds(subject: AttentionUnderTest, maps: Shapes) -> float:
    """Return the seconds of one forward and backward pass, for the gradients of all inputs and parameters."""
    module, call = subject.make(dropout=0.0).train(), subject.call(maps, batch=1)
    for name, tensor in call.present_tensors.items():
        tensor.requires_grad_(name != "position")
    gradient = torch.ones_like(call.query_tensor)

    def step() -> None:
        result = call(module)
        if result.requires_grad:
            result.backward(gradient)

    gc.collect()
    return seconds_of(step)
