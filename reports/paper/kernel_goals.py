"""Goals of the compiled kernel on two cores, and their verdicts from a benchmark's rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.microbench.rows import RATIO_AT_MOST

GOAL_CORES = 2  # that the goals are meant for
ENCODER_SHAPES = ("deit-encoder", "r50-encoder")
UNDECIDED = "undecided"


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
        said = "reached" if better else f"missed by {100 * abs(value - bound) / bound:.0f} %"
        doubt = self.row["q1"] < bound < self.row["q3"]
        return f"{said}, {UNDECIDED}: quartiles on both sides" if doubt else said


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
    """Return all goals."""
    forward, both, package = "forward", "forward+backward", "torch-ms-deform-attn"
    goals = [
        _over("operator", "times faster than mmcv's", "mmcv", "tuned", forward, 13, 15),
        _over("operator", "times faster than mmcv's", "mmcv", "default", forward, 30, 35),
        _over("operator", "times faster than mmcv's", "mmcv", "tuned", both, 13, 15),
        _over("operator", "times faster than mmcv's", "mmcv", "default", both, 22, 25),
        _over("operator", f"times faster than {package}", package, "tuned", forward, 5, 7),
        _over("operator", f"times faster than {package}", package, "tuned", both, 5, 7),
    ]
    goals += [
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
        for phase in (forward, both)
    ]
    goals += [
        KernelGoal(
            title=f"time over {what}, {phase}, tuned malloc",
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
        for phase, what in ((forward, "the gather probe"), ("backward", "the gather and scatter probes"))
    ]
    goals += [
        KernelGoal(
            title=f"time of the AVX2 build over the AVX-512 build, {phase}",
            part="instructions",
            malloc="tuned",
            side="avx2",
            phase=phase,
            floor=None,
            goal=1.5,
            more=False,
        )
        for phase in (forward, "backward")
    ]
    goals += [
        KernelGoal(
            title=f"times less peak memory than mmcv's, {phase}",
            part="memory",
            malloc="counted",
            side="mmcv",
            phase=phase,
            floor=bound,
            goal=bound,
        )
        for phase, bound in ((forward, 70), (both, 20))
    ]
    return (
        *goals,
        _over("module", "whole module, times faster than with mmcv's", "mmcv", "default", both, 8, 10),
        _over("module", "whole module, times faster than with mmcv's", "mmcv", "tuned", both, 4.5, 6),
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
