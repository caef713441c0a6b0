"""Goals of the compiled kernel on two cores, and their verdicts from a benchmark's rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.microbench.rows import RATIO_AT_MOST

GOAL_CORES = 2  # that the goals are meant for
ENCODER_SHAPES = ("deit-encoder", "r50-encoder")
UNDECIDED = "undecided"
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward+backward"


@dataclass(frozen=True, kw_only=True)
class KernelGoal:
    """Bound on the worst shape of some rows.

    Attributes:
        floor: Bound that must hold; None for none.
        goal: Bound to aim at.
        more: True if more is better.
        shapes: Shapes that count; () for all that were measured.
    """

    title: str
    part: str
    malloc: str
    side: str
    phase: str
    quantity: str = "ratio"
    floor: float | None
    goal: float
    more: bool = True
    shapes: tuple[str, ...] = ()  # only these; none: all that were measured


@dataclass(frozen=True, kw_only=True)
class JudgedGoal:
    """Goal with the worst of its rows; `row` is None where there are none.

    `most` is the row of the limit of that ratio on the machine (`bench.microbench.operator.lower_bounds`), or None.
    """

    goal: KernelGoal
    row: Mapping[str, Any] | None
    most: Mapping[str, Any] | None = None

    def against(self, bound: float | None) -> str:
        """Return `reached` or `missed by 12 %`, marked undecided if the quartiles lie on both sides; "" without row or
        bound.
        """
        if self.row is None or bound is None:
            return ""
        value = self.row["value"]
        better = value >= bound if self.goal.more else value <= bound
        outcome = "reached" if better else f"missed by {100 * abs(value - bound) / bound:.0f} %"
        doubt = self.row["q1"] < bound < self.row["q3"]
        return f"{outcome}, {UNDECIDED}: quartiles on both sides" if doubt else outcome


def _over(part: str, title: str, side: str, malloc: str, phase: str, floor: float | None, goal: float) -> KernelGoal:
    return KernelGoal(
        title=f"{title}, {phase}, {malloc} malloc",
        part=part,
        malloc=malloc,
        side=side,
        phase=phase,
        floor=floor,
        goal=goal,
    )


def kernel_goals() -> tuple[KernelGoal, ...]:
    """Return all goals: of the operator beside others' and beside the machine, of its memory, and of the module."""
    title = "whole module, times faster than with mmcv's"
    return (
        *_operator_goals("torch-ms-deform-attn"),
        *_machine_goals(),
        *_memory_goals(),
        _over("module", title, "mmcv", "default", BOTH, 8, 10),
        _over("module", title, "mmcv", "tuned", BOTH, 4.5, 6),
    )


def _operator_goals(package: str) -> tuple[KernelGoal, ...]:
    return (
        _over("operator", "times faster than mmcv's", "mmcv", "tuned", FORWARD, 13, 15),
        _over("operator", "times faster than mmcv's", "mmcv", "default", FORWARD, 30, 35),
        _over("operator", "times faster than mmcv's", "mmcv", "tuned", BOTH, 13, 15),
        _over("operator", "times faster than mmcv's", "mmcv", "default", BOTH, 22, 25),
        _over("operator", f"times faster than {package}", package, "tuned", FORWARD, 5, 7),
        _over("operator", f"times faster than {package}", package, "tuned", BOTH, 5, 7),
        *(
            KernelGoal(
                title=f"times faster than {package} at r50-encoder, {phase}, tuned malloc",
                part="operator",
                malloc="tuned",
                side=package,
                phase=phase,
                floor=5,
                goal=8,
                shapes=("r50-encoder",),
            )
            for phase in (FORWARD, BOTH)
        ),
    )


def _machine_goals() -> Iterator[KernelGoal]:
    for phase, probes in ((FORWARD, "the gather probe"), (BACKWARD, "the gather and scatter probes")):
        yield KernelGoal(
            title=f"time over {probes}, {phase}, tuned malloc",
            part="operator",
            malloc="tuned",
            side="pyramid",
            phase=phase,
            quantity="over_probe",
            floor=1.6,
            goal=1.4,
            more=False,
            shapes=ENCODER_SHAPES,
        )
    for phase in (FORWARD, BACKWARD):
        yield KernelGoal(
            title=f"time of the AVX2 build over the AVX-512 build, {phase}",
            part="instructions",
            malloc="tuned",
            side="avx2",
            phase=phase,
            floor=None,
            goal=1.5,
            more=False,
        )


def _memory_goals() -> Iterator[KernelGoal]:
    for phase, factor in ((FORWARD, 70), (BOTH, 20)):
        yield KernelGoal(
            title=f"times less peak memory than mmcv's, {phase}",
            part="memory",
            malloc="counted",
            side="mmcv",
            phase=phase,
            floor=factor,
            goal=factor,
        )


def judge_goals(rows: Iterable[Mapping[str, Any]], wanted: Sequence[KernelGoal] = ()) -> list[JudgedGoal]:
    """Return every goal with the worst of its rows."""
    known = list(rows)
    judged = []
    for goal in wanted or kernel_goals():
        names = ("part", "malloc", "side", "phase", "quantity")
        about = [row for row in known if all(row[name] == getattr(goal, name) for name in names)]
        about = [row for row in about if not goal.shapes or row["shape"] in goal.shapes]
        worst = min if goal.more else max
        row = worst(about, key=lambda row: row["value"]) if about else None
        judged.append(JudgedGoal(goal=goal, row=row, most=_most(known, row) if row else None))
    return judged


def _most(known: Iterable[Mapping[str, Any]], row: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Row of the limit of this row's ratio; None where nothing bounds it."""
    names = ("part", "malloc", "shape", "side", "phase")
    alike = (other for other in known if all(other[name] == row[name] for name in names))
    return next((other for other in alike if (row["quantity"], other["quantity"]) == ("ratio", RATIO_AT_MOST)), None)
