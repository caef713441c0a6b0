"""Rows of a kernel benchmark: one long table, a unique key per row, made of nothing but what was timed or counted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from bench.results.csv_text import csv_text
from bench.timing import quartiles

RATIO_AT_MOST = "ratio_at_most"  # the quantity of `bench.microbench.operator.lower_bounds`
Samples = Mapping[tuple[str, str], Sequence[float]]  # of a side and a phase, a number a round, in the order of rounds


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """One quantity of an implementation (`side`) in a phase at a shape: median and quartiles over `n` rounds."""

    part: str  # operator | module | machine | instructions | scaling | memory
    malloc: str  # default | tuned | counted
    shape: str
    side: str
    phase: str  # forward | forward+backward | backward | held | ...
    quantity: str  # seconds | core_ns_per_point | ratio | ratio_at_most | bytes | ...
    value: float
    q1: float
    q3: float
    n: int
    threads: int
    rounds: str = ""  # of seconds: every one of them

    @property
    def key(self) -> str:
        """Text that no other row of a benchmark has."""
        return "/".join((self.part, self.malloc, self.shape, self.side, self.phase, self.quantity))


ROW_COLUMNS = ("key", *(field.name for field in fields(BenchmarkRow)))


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """Columns that rows share.

    Attributes:
        part: Part of the benchmark.
        malloc: Setting of malloc: default, tuned or counted.
        shape: Name of the shape.
        threads: Threads of every implementation.
    """

    part: str
    malloc: str
    shape: str
    threads: int

    def row(
        self, side: str, phase: str, quantity: str, values: Sequence[float], *, every: bool = False
    ) -> BenchmarkRow:
        """Return the row of these values.

        Args:
            side: Name of the implementation.
            phase: What was run.
            quantity: What the values are, with their unit.
            values: One per round, at least one.
            every: Keep every value in the column `rounds`.
        """
        assert len(values) > 0, (self, side, phase, quantity)
        summary = quartiles(values)
        return BenchmarkRow(
            **asdict(self),
            side=side,
            phase=phase,
            quantity=quantity,
            value=summary.median,
            q1=summary.q1,
            q3=summary.q3,
            n=summary.n,
            rounds=" ".join(f"{value:.6g}" for value in values) if every else "",
        )


def timing_rows(context: RowContext, samples: Samples, points: int) -> list[BenchmarkRow]:
    """Return rows of seconds, and of core-nanoseconds per sampling point, for every implementation and phase.

    Args:
        context: Columns that the rows share.
        samples: Seconds by (implementation, phase).
        points: Sampling points of the call.
    """
    rows = []
    for (side, phase), seconds in samples.items():
        core_ns = [1e9 * number * context.threads / points for number in seconds]
        rows.append(context.row(side, phase, "seconds", seconds, every=True))
        rows.append(context.row(side, phase, "core_ns_per_point", core_ns))
    return rows


def ratio_rows(context: RowContext, samples: Samples, ours: str) -> list[BenchmarkRow]:
    """Return rows of the seconds of every other implementation over those of `ours`, round by round."""
    rows = []
    for (side, phase), seconds in samples.items():
        if side != ours and (ours, phase) in samples:
            rows.append(context.row(side, phase, "ratio", paired_ratios(seconds, samples[ours, phase])))
    return rows


def paired_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratios of numbers of the same round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def rows_to_csv(rows: Iterable[BenchmarkRow]) -> str:
    """Return the table as CSV text.

    Raises:
        AssertionError: Two rows have one key.
    """
    lines, seen = [], set()
    for row in rows:
        assert row.key not in seen, f"two rows of {row.key}"
        seen.add(row.key)
        numbers = {name: f"{getattr(row, name):.6g}" for name in ("value", "q1", "q3")}
        lines.append({"key": row.key, **asdict(row), **numbers})
    return csv_text(ROW_COLUMNS, lines)
