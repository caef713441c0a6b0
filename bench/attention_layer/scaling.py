"""Memory, operations and time of one attention layer against the size of its maps, points, levels and batch.

Memory is predicted and operations are counted, on tensors without data, so at any size; time is measured, in turns, up
to the sizes that `timed` allows. Along an axis on which an attention's memory and operations stay as they are it is
not timed: nothing changes there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench import environment
from bench.attention_layer import costs
from bench.attention_layer.attention_under_test import Shapes, Subject
from bench.errors import one_line
from bench.microbench.timing import PHASES, Task, call_task, interleaved
from bench.profiling.memory.layer_peak import exponent
from bench.profiling.memory.predict import as_on, operator_of
from bench.profiling.variant import spread

Record = dict[str, Any]
MOST_GMACS = 9.0  # of a layer that is timed, counted
MOST_BYTES = 2 << 30  # of a layer that is timed, predicted
QUANTITIES = ("peak", "saved", "gmacs", *PHASES)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Of what a layer is given: square maps of `side` tokens, so many of them, points of a sampling one, and images."""

    side: int = 60
    levels: int = 1
    points: int = 16
    batch: int = 1

    @property
    def maps(self) -> Shapes:
        """Height and width of each level."""
        return ((self.side, self.side),) * self.levels

    @property
    def tokens(self) -> int:
        """Of one image, all levels."""
        return self.levels * self.side**2


@dataclass(frozen=True, kw_only=True)
class Effort:
    """The sizes along each axis, about which base, and how often each is timed."""

    base: Size = Size()
    side: tuple[int, ...] = (30, 60, 90, 120)
    points: tuple[int, ...] = (4, 16, 64)
    levels: tuple[int, ...] = (1, 2, 3, 4)
    batch: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3

    def sweeps(self) -> dict[str, tuple[Size, ...]]:
        """Sizes by axis; each differs from the base in that axis alone."""
        return {
            axis: tuple(replace(self.base, **{axis: value}) for value in getattr(self, axis))
            for axis in ("side", "points", "levels", "batch")
        }


QUICK = Effort(
    base=Size(side=8, points=4), side=(6, 8, 12), points=(2, 4), levels=(1, 2), batch=(1, 2), rounds=1
)  # to see that it works


def grow(subjects: Mapping[str, Subject], effort: Effort, say: Callable[[str], None] = lambda _: None) -> list[Record]:
    """A record for each attention, axis and size, in that order of axes: bytes, GMACs, seconds by phase.

    What fails has its reason as `message`; a record without `seconds` was not timed.
    """
    torch.set_num_threads(environment.usable_cores())
    records: list[Record] = []
    done: dict[tuple[str, Size], Record] = {}
    for axis, sizes in effort.sweeps().items():
        say(f"predicting along {axis}")
        for name, subject in subjects.items():
            for size in sizes:
                if (name, size) not in done:
                    done[name, size] = _predicted(subject, size)
                place = {"attention": name, "axis": axis, "at": getattr(size, axis), **vars(size)}
                records.append(place | done[name, size])
    chosen = [each for each in records if timed(each) and _changes(records, each)]
    for size in dict.fromkeys(_size(each) for each in chosen):
        here = [each for each in chosen if _size(each) == size]
        names = [*dict.fromkeys(each["attention"] for each in here)]
        told = " ".join(f"{name}={value}" for name, value in vars(size).items())
        say(f"timing at {told}: {', '.join(names)}")
        _time(here, {name: _at(subjects[name], size) for name in names}, size, effort.rounds)
    return records


def timed(record: Record) -> bool:
    """Whether the layer computes something, and is small enough."""
    return "message" not in record and 0 < record["gmacs"] <= MOST_GMACS and record["peak"] <= MOST_BYTES


def exponents(records: Sequence[Record]) -> list[Record]:
    """The slope of each quantity in log-log by least squares, for each attention and axis, with its range.

    Along `side` it is against tokens. Left out where fewer than two sizes have a value above 0, or none differs.
    """
    found: list[Record] = []
    for axis, name in dict.fromkeys((each["axis"], each["attention"]) for each in records):
        mine = [each for each in records if (each["axis"], each["attention"]) == (axis, name)]
        for quantity in QUANTITIES:
            pairs = [(_abscissa(each), value) for each in mine if (value := value_of(each, quantity))]
            if len({x for x, _ in pairs}) < 2:
                continue
            x, y = zip(*pairs, strict=True)
            line = {"exponent": exponent(x, y), "sizes": len(x), "from": min(x), "to": max(x)}
            found.append({"attention": name, "axis": axis, "quantity": quantity, **line})
    return found


def value_of(record: Record, quantity: str) -> float | None:
    """Bytes, GMACs, or the median of the seconds of a phase; None where there is none."""
    if quantity in PHASES:
        seconds = record.get("seconds", {}).get(quantity)
        return None if seconds is None else float(seconds["median"])
    value = record.get(quantity)
    return None if value is None else float(value)


def protocol(effort: Effort, subject: Subject) -> Record:
    """Under what the figures were taken."""
    model = subject.model
    return {
        "width": model.width,
        "heads": model.heads,
        "dropout": model.dropout,
        "base": vars(effort.base),
        "rounds": effort.rounds,
        "threads": environment.usable_cores(),
        "processor": environment.processor_name(),
        "most_gmacs": MOST_GMACS,
        "most_gib": MOST_BYTES / 2**30,
    }


def _abscissa(record: Record) -> int:
    return record["levels"] * record["side"] ** 2 if record["axis"] == "side" else int(record["at"])


def _at(subject: Subject, size: Size) -> Subject:
    return replace(subject, model=replace(subject.model, levels=size.levels, points=size.points))


def _predicted(subject: Subject, size: Size) -> Record:
    given = _at(subject, size)
    try:
        with operator_of("native"):
            with as_on("cuda"):
                peak = costs.peak(given, size.maps, batch=size.batch)
            counts = costs.counted(given, size.maps, batch=size.batch)
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}
    return {"peak": peak.peak, "saved": peak.saved, "gmacs": counts.gmacs}


def _changes(records: Sequence[Record], record: Record) -> bool:
    """Whether memory or operations of its attention differ along its axis."""
    same = [each for each in records if (each["axis"], each["attention"]) == (record["axis"], record["attention"])]
    return len({(each.get("peak"), each.get("gmacs")) for each in same}) > 1


def _size(record: Record) -> Size:
    return Size(**{name: record[name] for name in ("side", "levels", "points", "batch")})


def _time(records: Sequence[Record], subjects: Mapping[str, Subject], size: Size, rounds: int) -> None:
    """Each subject once; a size that lies on several axes has its times in a record of each."""
    samples = interleaved({name: _task(subject, size) for name, subject in subjects.items()}, rounds)
    for record in records:
        taken = {phase: spread(samples[record["attention"], phase]) for phase in PHASES}
        record["seconds"] = {phase: vars(found) for phase, found in taken.items()}


def _task(subject: Subject, size: Size) -> Task:
    """A forward pass, and a forward and backward pass for tokens and parameters; without dropout, which no kernel
    for a CPU fuses.
    """
    layer, call = subject.make(dropout=0.0).train(), subject.call(size.maps, batch=size.batch)
    position = call.given["position"]
    weights = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def run(given: list[Tensor]) -> Tensor:
        return layer(given[0], position, size.maps)

    return call_task(run, [call.first, *weights], torch.ones_like(call.first))
