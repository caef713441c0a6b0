"""An author's attention, checked in under a minute: what it must hold, what it costs, what it sees.

Each check gives a line: PASS or FAIL for what every attention must hold, INFO for what is good to know. A check in
which the attention raises fails with the exception, and the others go on; one that needs what another found failing is
not made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.attention_layer import behaviour, costs, gradients, timing
from bench.attention_layer.attention_under_test import Shapes, Subject, subject
from bench.attention_layer.result import Line, raised
from bench.profiling.memory.layer_peak import SIDES

__all__ = ["Effort", "Line", "Subject", "check", "subject", "total"]


@dataclass(frozen=True, kw_only=True)
class Effort:
    """Sizes of the maps, in tokens a side, and seconds."""

    side: int = 60  # of the paper's maps, at 480 pixels: trace, operations, memory, time
    middle: int = 36  # order and padding: more tokens than a window or a few chunks have
    reach: int = 24
    queries: int = 6  # of each level, for the reach, where that is quick
    sides: tuple[int, ...] = SIDES  # for the memory's growth
    seconds: float = 20.0  # for the time, in all; 0: it is not taken


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check by its name; ``needs`` names those without which it says nothing."""

    name: str
    run: Callable[[], Line | list[Line]]
    needs: tuple[str, ...] = ()


def check(
    given: Subject,
    *,
    beside: Sequence[Subject] = (),
    effort: Effort | None = None,
    say: Callable[[Line], None] = lambda _: None,
) -> list[Line]:
    """Every check of ``given``, each line told to ``say`` as it comes; ``beside`` are timed with it."""
    lines: list[Line] = []
    for each in _checks(given, beside, effort or Effort()):
        for line in _done(each, [line.name for line in lines if line.status == "FAIL"]):
            lines.append(line)
            say(line)
    return lines


def total(lines: Sequence[Line], seconds: float) -> str:
    """The last line: how many of each, and how long it took."""
    counts = [f"{sum(line.status == status for line in lines)} {status}" for status in ("PASS", "FAIL", "INFO")]
    return f"{', '.join(counts)} in {seconds:.0f} s"


def _done(each: Check, failed: Sequence[str]) -> list[Line]:
    missing = [name for name in each.needs if name in failed]
    if missing:
        return [Line(status="INFO", name=each.name, text=f"not looked at, since {missing[0]} fails")]
    try:
        found = each.run()
    except Exception as error:  # an author's code may raise anything; the other checks go on
        return [raised(each.name, error)]
    return [found] if isinstance(found, Line) else found


def _checks(given: Subject, beside: Sequence[Subject], effort: Effort) -> list[Check]:
    shapes, traced, repeatable = ("shapes",), ("fake-tensor trace",), ("determinism in evaluation",)
    maps = _square(effort.side, given.levels)
    near = _square(effort.reach, given.levels)
    checks = [
        Check(name="shapes", run=lambda: behaviour.shapes(given)),
        Check(name="gradients in float64", run=lambda: gradients.gradients(given)),
        Check(name="determinism in evaluation", run=lambda: behaviour.determinism(given)),
        Check(name="batch independence", run=lambda: behaviour.batch_independence(given), needs=repeatable),
        Check(name="permutation", run=lambda: behaviour.permutation(given, effort.middle), needs=shapes),
        Check(name="padding", run=lambda: behaviour.padding(given, effort.middle), needs=shapes),
        Check(name="padding of its own", run=lambda: behaviour.inner_padding(given)),
        Check(name="fake-tensor trace", run=lambda: costs.trace(given, maps)),
        Check(name="operations counted", run=lambda: costs.operations(given, maps), needs=traced),
        Check(name="parameters", run=lambda: costs.parameters(given, near)),
        Check(name="memory exponent", run=lambda: costs.memory(given, maps, effort.sides), needs=traced),
        Check(name="reach after two layers", run=lambda: costs.seen(given, near, effort.queries), needs=shapes),
    ]
    if effort.seconds:
        run = lambda: timing.times(given, beside, maps, effort.seconds)  # noqa: E731
        checks.append(Check(name=timing.NAME, run=run, needs=(*shapes, *traced)))
    return checks


def _square(side: int, levels: int) -> Shapes:
    return ((side, side),) * levels
