"""The rows of a kernel benchmark: one long table, a unique key a row, made of nothing but what was timed or counted."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from bench.timing import quartiles

RATIO_AT_MOST = "ratio_at_most"  # the quantity of `bench.microbench.operator.lower_bounds`
Samples = Mapping[tuple[str, str], Sequence[float]]  # of a side and a phase, a number a round, in the order of rounds


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow:
    """A quantity of a side in a phase of a shape: its median and quartiles over `n` rounds."""

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
        """What no other row of a benchmark has."""
        return "/".join((self.part, self.malloc, self.shape, self.side, self.phase, self.quantity))


ROW_COLUMNS = ("key", *(field.name for field in fields(BenchmarkRow)))


@dataclass(frozen=True, kw_only=True)
class RowContext:
    """Where rows belong: what they share."""

    part: str
    malloc: str
    shape: str
    threads: int

    def row(
        self, side: str, phase: str, quantity: str, values: Sequence[float], *, every: bool = False
    ) -> BenchmarkRow:
        """The row of these values, one a round."""
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


def timing_rows(place: RowContext, samples: Samples, points: int) -> list[BenchmarkRow]:
    """Seconds, and core-nanoseconds a sampling point, of every side and phase."""
    rows = []
    for (side, phase), seconds in samples.items():
        each = [1e9 * number * place.threads / points for number in seconds]
        rows.append(place.row(side, phase, "seconds", seconds, every=True))
        rows.append(place.row(side, phase, "core_ns_per_point", each))
    return rows


def ratio_rows(place: RowContext, samples: Samples, ours: str) -> list[BenchmarkRow]:
    """Of every other side and phase: its seconds over ours, round by round."""
    rows = []
    for (side, phase), seconds in samples.items():
        if side != ours and (ours, phase) in samples:
            rows.append(place.row(side, phase, "ratio", paired_ratios(seconds, samples[ours, phase])))
    return rows


def paired_ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratios of numbers of the same round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def rows_to_csv(rows: Iterable[BenchmarkRow]) -> str:
    """The table as text. AssertionError where two rows have one key."""
    text = io.StringIO()
    writer = csv.DictWriter(text, ROW_COLUMNS, lineterminator="\n")
    writer.writeheader()
    seen = set()
    for row in rows:
        assert row.key not in seen, f"two rows of {row.key}"
        seen.add(row.key)
        numbers = {name: f"{getattr(row, name):.6g}" for name in ("value", "q1", "q3")}
        writer.writerow({"key": row.key, **asdict(row), **numbers})
    return text.getvalue()
