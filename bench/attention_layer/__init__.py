"""An author's attention, checked in under a minute: what it must hold, what it costs, what it sees.

Each check gives a line: PASS or FAIL for what every attention must hold, INFO for what is good to know. A check in
which the attention raises fails with the exception, and the others go on; one that needs what another found failing is
not made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.attention_layer import behaviour, costs, gradients, timing
from bench.attention_layer.attention_under_test import AttentionUnderTest, Shapes, attention_from_options
from bench.attention_layer.result import CheckLine, failure_line
from bench.profiling.memory.layer_peak import MAP_SIDES

__all__ = [
    "AttentionUnderTest",
    "CheckEffort",
    "CheckLine",
    "attention_from_options",
    "check_attention",
    "summary_line",
]


@dataclass(frozen=True, kw_only=True)
class CheckEffort:
    """Sizes of the maps, in tokens a side, and seconds."""

    side: int = 60  # of the paper's maps, at 480 pixels: trace, operations, memory, time
    middle: int = 36  # order and padding: more tokens than a window or a few chunks have
    reach: int = 24
    queries: int = 6  # of each level, for the reach, where that is quick
    sides: tuple[int, ...] = MAP_SIDES  # for the memory's growth
    seconds: float = 20.0  # for the time, in all; 0: it is not taken


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """A check by its name; ``needs`` names those without which it says nothing."""

    name: str
    run: Callable[[], CheckLine | list[CheckLine]]
    needs: tuple[str, ...] = ()


def check_attention(
    given: AttentionUnderTest,
    *,
    beside: Sequence[AttentionUnderTest] = (),
    effort: CheckEffort | None = None,
    say: Callable[[CheckLine], None] = lambda _: None,
) -> list[CheckLine]:
    """Every check of ``given``, each line told to ``say`` as it comes; ``beside`` are timed with it."""
    lines: list[CheckLine] = []
    for each in _checks(given, beside, effort or CheckEffort()):
        for line in _done(each, [line.name for line in lines if line.status == "FAIL"]):
            lines.append(line)
            say(line)
    return lines


def summary_line(lines: Sequence[CheckLine], seconds: float) -> str:
    """The last line: how many of each, and how long it took."""
    counts = [f"{sum(line.status == status for line in lines)} {status}" for status in ("PASS", "FAIL", "INFO")]
    return f"{', '.join(counts)} in {seconds:.0f} s"


def _done(each: LayerCheck, failed: Sequence[str]) -> list[CheckLine]:
    missing = [name for name in each.needs if name in failed]
    if missing:
        return [CheckLine(status="INFO", name=each.name, text=f"not looked at, since {missing[0]} fails")]
    try:
        found = each.run()
    except Exception as error:  # an author's code may raise anything; the other checks go on
        return [failure_line(each.name, error)]
    return [found] if isinstance(found, CheckLine) else found


def _checks(given: AttentionUnderTest, beside: Sequence[AttentionUnderTest], effort: CheckEffort) -> list[LayerCheck]:
    shapes, traced, repeatable = ("shapes",), ("fake-tensor trace",), ("determinism in evaluation",)
    maps = _square(effort.side, given.levels)
    near = _square(effort.reach, given.levels)
    checks = [
        LayerCheck(name="shapes", run=lambda: behaviour.check_shapes(given)),
        LayerCheck(name="gradients in float64", run=lambda: gradients.check_gradients(given)),
        LayerCheck(name="determinism in evaluation", run=lambda: behaviour.check_determinism(given)),
        LayerCheck(name="batch independence", run=lambda: behaviour.check_batch_independence(given), needs=repeatable),
        LayerCheck(name="permutation", run=lambda: behaviour.check_permutation(given, effort.middle), needs=shapes),
        LayerCheck(name="padding", run=lambda: behaviour.check_padding(given, effort.middle), needs=shapes),
        LayerCheck(name="padding of its own", run=lambda: behaviour.check_inner_padding(given)),
        LayerCheck(name="fake-tensor trace", run=lambda: costs.check_fake_tensor_trace(given, maps)),
        LayerCheck(name="operations counted", run=lambda: costs.check_operations(given, maps), needs=traced),
        LayerCheck(name="parameters", run=lambda: costs.check_parameters(given, near)),
        LayerCheck(name="memory exponent", run=lambda: costs.check_memory(given, maps, effort.sides), needs=traced),
        LayerCheck(
            name="reach after two layers",
            run=lambda: costs.check_receptive_field(given, near, effort.queries),
            needs=shapes,
        ),
    ]
    if effort.seconds:
        run = lambda: timing.check_time(given, beside, maps, effort.seconds)  # noqa: E731
        checks.append(LayerCheck(name=timing.TIME_CHECK, run=run, needs=(*shapes, *traced)))
    return checks


def _square(side: int, levels: int) -> Shapes:
    return ((side, side),) * levels
