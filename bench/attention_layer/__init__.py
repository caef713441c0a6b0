"""Check of a user's attention in under a minute: its correctness, cost and receptive field.

Each check gives a line: PASS or FAIL for what every attention must hold, WARN for a figure that does not tell all, INFO
for what is good to know. A check in which the attention raises fails with the exception, and the others go on. Checks
that would repeat the same failure are skipped.

    subject = attention_from_options("encoder_self", "mypackage.mymodule:MyAttention", [])
    lines = check_attention(subject, say=print)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.attention_layer import behaviour, costs, gradients, timing
from bench.attention_layer.attention_under_test import AttentionUnderTest, Shapes, attention_from_options
from bench.attention_layer.budget import CHECK_SECONDS, OutOfTime, TimeBudget
from bench.attention_layer.result import CheckLine, Status, failure_line
from bench.profiling.memory.layer_peak import MAP_SIDES
from unept.utils import user_code

CHECK_ALLOWANCE = 3.0  # times the limit of a user's code that one check may take

__all__ = [
    "CHECK_ALLOWANCE",
    "CHECK_SECONDS",
    "AttentionUnderTest",
    "CheckEffort",
    "CheckLine",
    "LayerCheck",
    "TimeBudget",
    "attention_from_options",
    "brief_checks",
    "check_attention",
    "run_check",
    "summary_line",
]


@dataclass(frozen=True, kw_only=True)
class CheckEffort:
    """Sizes of the maps, and seconds.

    Attributes:
        side: Side in tokens of the paper's maps, at 480 pixels: for trace, operations, memory and time.
        middle: Side in tokens for order and padding: more tokens than a window or a few chunks have.
        reach: Side in tokens for the receptive field.
        queries: Queries of each level for the receptive field, where that is quick.
        sides: Sides in tokens for the growth of memory.
        seconds: For the time check, in all; 0 leaves it out.
    """

    side: int = 60  # of the paper's maps, at 480 pixels: trace, operations, memory, time
    middle: int = 36  # order and padding: more tokens than a window or a few chunks have
    reach: int = 24
    queries: int = 6  # of each level, for the reach, where that is quick
    sides: tuple[int, ...] = MAP_SIDES  # for the memory's growth
    seconds: float = 20.0  # for the time, in all; 0: it is not taken


@dataclass(frozen=True, kw_only=True)
class LayerCheck:
    """A check by its name; `needs` names the checks without which it says nothing."""

    name: str
    run: Callable[[], CheckLine | list[CheckLine]]
    needs: tuple[str, ...] = ()


def check_attention(
    subject: AttentionUnderTest,
    *,
    beside: Sequence[AttentionUnderTest] = (),
    effort: CheckEffort | None = None,
    say: Callable[[CheckLine], None] = lambda _: None,
    budget: TimeBudget | None = None,
) -> list[CheckLine]:
    """Run every check of an attention and return its lines. A check that has no time left to end is a WARN.

    Args:
        subject: The attention under test.
        beside: Attentions that are timed with it.
        effort: Sizes and seconds; None for the default.
        say: Called with each line as it comes.
        budget: Seconds of all checks; None for CHECK_SECONDS from now on.
    """
    lines: list[CheckLine] = []
    budget = budget or TimeBudget()
    subject = replace(subject, before=budget.require_time)
    beside = [replace(other, before=budget.require_time) for other in beside]
    checks = _checks(subject, beside, effort or CheckEffort(), budget)
    for check in checks:
        failed = [line.name for line in lines if line.status == "FAIL"]
        for line in _run_in_time(check, failed, budget, is_last=check is checks[-1]):
            lines.append(line)
            say(line)
    return lines


def _run_in_time(check: LayerCheck, failed: Sequence[str], budget: TimeBudget, *, is_last: bool) -> list[CheckLine]:
    """Return the lines of a check, or one that says that it did not end in its seconds."""
    began = budget.clock()
    try:
        with budget.one_check(is_last=is_last):
            return run_check(check, failed)
    except OutOfTime:
        spent = budget.clock() - began
        text = f"stopped after {spent:.0f} s: nothing is known of it, the other checks need their time"
        return [CheckLine(status="WARN", name=check.name, text=text, is_stopped=True)]


def summary_line(lines: Sequence[CheckLine], seconds: float) -> str:
    """Return the last line: the number of lines of each status, what had no time, and how long it took."""
    statuses = [line.status for line in lines]
    shown: tuple[Status, ...] = ("PASS", "FAIL", "WARN", "INFO") if "WARN" in statuses else ("PASS", "FAIL", "INFO")
    stopped = [line.name for line in lines if line.is_stopped]
    told = f"; no time was left for {', '.join(stopped)}" if stopped else ""
    return f"{', '.join(f'{statuses.count(status)} {status}' for status in shown)} in {seconds:.0f} s{told}"


def brief_checks(subject: AttentionUnderTest, maps: Shapes) -> list[LayerCheck]:
    """Return the checks of results that take seconds: what is tried before an attention trains.

    Args:
        subject: The attention under test.
        maps: Height and width of each map that it trains on, in tokens.
    """
    return [
        LayerCheck(name="shapes", run=lambda: behaviour.check_shapes(subject)),
        LayerCheck(name="finite results", run=lambda: behaviour.check_finite_results(subject, maps)),
        LayerCheck(name="determinism in evaluation", run=lambda: behaviour.check_determinism(subject)),
        LayerCheck(
            name="batch independence",
            run=lambda: behaviour.check_batch_independence(subject),
            needs=("determinism in evaluation",),
        ),
    ]


def run_check(check: LayerCheck, failed: Sequence[str]) -> list[CheckLine]:
    """Return the lines of a check; `failed` names the checks that have failed."""
    missing = [name for name in check.needs if name in failed]
    if missing:
        return [CheckLine(status="INFO", name=check.name, text=f"not looked at, since {missing[0]} fails")]
    try:
        with user_code.running(f"check {check.name!r}", allowance=CHECK_ALLOWANCE):
            lines = check.run()
    except (Exception, SystemExit) as error:  # an author's code may raise anything; the other checks go on
        return [failure_line(check.name, error)]
    return [lines] if isinstance(lines, CheckLine) else lines


def _checks(
    subject: AttentionUnderTest, beside: Sequence[AttentionUnderTest], effort: CheckEffort, budget: TimeBudget
) -> list[LayerCheck]:
    shapes, traced, repeatable = ("shapes",), ("fake-tensor trace",), ("determinism in evaluation",)
    maps = _square(effort.side, subject.levels)
    near = _square(effort.reach, subject.levels)
    checks = [  # what takes no time comes first: it is known however slow the attention is
        LayerCheck(name="shapes", run=lambda: behaviour.check_shapes(subject)),
        LayerCheck(name="fake-tensor trace", run=lambda: costs.check_fake_tensor_trace(subject, maps)),
        LayerCheck(name="operations counted", run=lambda: costs.check_operations(subject, maps), needs=traced),
        LayerCheck(name="parameters", run=lambda: costs.check_parameters(subject, near)),
        LayerCheck(name="gradients in float64", run=lambda: gradients.check_gradients(subject)),
        LayerCheck(name="determinism in evaluation", run=lambda: behaviour.check_determinism(subject)),
        LayerCheck(
            name="batch independence", run=lambda: behaviour.check_batch_independence(subject), needs=repeatable
        ),
        LayerCheck(name="permutation", run=lambda: behaviour.check_permutation(subject, effort.middle), needs=shapes),
        LayerCheck(name="padding", run=lambda: behaviour.check_padding(subject, effort.middle), needs=shapes),
        LayerCheck(name="padding of its own", run=lambda: behaviour.check_inner_padding(subject)),
        LayerCheck(name="memory exponent", run=lambda: costs.check_memory(subject, maps, effort.sides), needs=traced),
        LayerCheck(
            name="reach after two layers",
            run=lambda: costs.check_receptive_field(subject, near, effort.queries),
            needs=shapes,
        ),
    ]
    if effort.seconds:
        # Rounds are planned for one half of the seconds that are left: predictions come before them.
        run = lambda: timing.check_time(subject, beside, maps, min(effort.seconds, budget.left / 2))  # noqa: E731
        checks.append(LayerCheck(name=timing.TIME_CHECK, run=run, needs=(*shapes, *traced)))
    return checks


def _square(side: int, levels: int) -> Shapes:
    return ((side, side),) * levels
