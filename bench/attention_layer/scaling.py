"""Memory, operations and time of one attention layer against the size of its maps, points, levels and batch.

Memory is predicted and operations are counted on tensors without data, so at any size. Time is measured, in turns, up
to the sizes that `is_timed` allows. An attention is not timed along an axis on which its memory and operations stay the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bench import environment
from bench.attention_layer import costs
from bench.attention_layer.attention_under_test import AttentionUnderTest, Shapes
from bench.errors import one_line
from bench.microbench.timing import PHASES, TimedTask, call_task, time_interleaved
from bench.profiling.memory.layer_peak import power_law_exponent
from bench.profiling.memory.predict import assume_backend, assume_device
from bench.timing import quartiles
from bench.units import GIB

Record = dict[str, Any]
MAX_TIMED_GMACS = 9.0  # of a layer that is timed, counted
MAX_TIMED_BYTES = 2 * GIB  # of a layer that is timed, predicted
QUANTITIES = ("peak", "saved", "gmacs", *PHASES)


@dataclass(frozen=True, kw_only=True)
class LayerSize:
    """Size of a layer's call.

    Attributes:
        side: Side of the square maps, in tokens.
        levels: Number of maps.
        points: Sampling points per level, where the attention samples.
        batch: Number of images.
    """

    side: int = 60
    levels: int = 1
    points: int = 16
    batch: int = 1

    @property
    def maps(self) -> Shapes:
        """Height and width of each level, in tokens."""
        return ((self.side, self.side),) * self.levels

    @property
    def tokens(self) -> int:
        """Tokens of one image, over all levels."""
        return self.levels * self.side**2


@dataclass(frozen=True, kw_only=True)
class ScalingSweep:
    """Values along each axis, the base that the other axes keep, and the rounds of timing."""

    base: LayerSize = LayerSize()
    side: tuple[int, ...] = (30, 60, 90, 120)
    points: tuple[int, ...] = (4, 16, 64)
    levels: tuple[int, ...] = (1, 2, 3, 4)
    batch: tuple[int, ...] = (1, 2, 4, 8)
    rounds: int = 3

    def sweeps(self) -> dict[str, tuple[LayerSize, ...]]:
        """Return the sizes by axis; each differs from the base in that axis alone."""
        return {
            axis: tuple(replace(self.base, **{axis: value}) for value in getattr(self, axis))
            for axis in ("side", "points", "levels", "batch")
        }


QUICK_SWEEP = ScalingSweep(
    base=LayerSize(side=8, points=4), side=(6, 8, 12), points=(2, 4), levels=(1, 2), batch=(1, 2), rounds=1
)  # to see that it works


def measure_layer_scaling(
    subjects: Mapping[str, AttentionUnderTest], effort: ScalingSweep, say: Callable[[str], None] = lambda _: None
) -> list[Record]:
    """Predict, count and time each attention along each axis.

    Args:
        subjects: Attentions by name.
        effort: The sizes.
        say: Called with a line of progress.

    Returns:
        A record per axis, attention and size: `peak` and `saved` in bytes, `gmacs`, and `seconds` by phase where it was
        timed. One that fails has its reason as `message`.
    """
    torch.set_num_threads(environment.usable_cores())
    records: list[Record] = []
    done: dict[tuple[str, LayerSize], Record] = {}
    for axis, sizes in effort.sweeps().items():
        say(f"predicting along {axis}")
        for name, subject in subjects.items():
            for size in sizes:
                if (name, size) not in done:
                    done[name, size] = _predicted(subject, size)
                columns = {"attention": name, "axis": axis, "at": getattr(size, axis), **vars(size)}
                records.append(columns | done[name, size])
    chosen = [record for record in records if is_timed(record) and _changes(records, record)]
    for size in dict.fromkeys(_size(record) for record in chosen):
        here = [record for record in chosen if _size(record) == size]
        names = [*dict.fromkeys(record["attention"] for record in here)]
        size_text = " ".join(f"{name}={value}" for name, value in vars(size).items())
        say(f"timing at {size_text}: {', '.join(names)}")
        _time(here, {name: _at(subjects[name], size) for name in names}, size, effort.rounds)
    return records


def is_timed(record: Record) -> bool:
    """Return True where the layer computes something and is small enough to be timed."""
    return "message" not in record and 0 < record["gmacs"] <= MAX_TIMED_GMACS and record["peak"] <= MAX_TIMED_BYTES


def fit_exponents(records: Sequence[Record]) -> list[Record]:
    """Fit the slope of each quantity in log-log by least squares, for each attention and axis, with its range.

    Along `side` it is against tokens. Left out where fewer than two sizes have a value above 0, or none differs.
    """
    fits: list[Record] = []
    for axis, name in dict.fromkeys((record["axis"], record["attention"]) for record in records):
        own = [record for record in records if (record["axis"], record["attention"]) == (axis, name)]
        for quantity in QUANTITIES:
            pairs = [(_abscissa(record), value) for record in own if (value := record_value(record, quantity))]
            if len({x for x, _ in pairs}) < 2:
                continue
            x, y = zip(*pairs, strict=True)
            line = {"exponent": power_law_exponent(x, y), "sizes": len(x), "from": min(x), "to": max(x)}
            fits.append({"attention": name, "axis": axis, "quantity": quantity, **line})
    return fits


def record_value(record: Record, quantity: str) -> float | None:
    """Return bytes, GMACs, or the median of the seconds of a phase; None where there is none."""
    if quantity in PHASES:
        seconds = record.get("seconds", {}).get(quantity)
        return None if seconds is None else float(seconds["median"])
    value = record.get(quantity)
    return None if value is None else float(value)


def scaling_protocol(effort: ScalingSweep, subject: AttentionUnderTest) -> Record:
    """Return the conditions under which the figures were taken, as plain values."""
    model = subject.model
    return {
        "width": model.width,
        "heads": model.heads,
        "dropout": model.dropout,
        "base": vars(effort.base),
        "rounds": effort.rounds,
        "threads": environment.usable_cores(),
        "processor": environment.processor_name(),
        "most_gmacs": MAX_TIMED_GMACS,
        "most_gib": MAX_TIMED_BYTES / GIB,
    }


def _abscissa(record: Record) -> int:
    return record["levels"] * record["side"] ** 2 if record["axis"] == "side" else int(record["at"])


def _at(subject: AttentionUnderTest, size: LayerSize) -> AttentionUnderTest:
    return replace(subject, model=replace(subject.model, levels=size.levels, points=size.points))


def _predicted(subject: AttentionUnderTest, size: LayerSize) -> Record:
    resized = _at(subject, size)
    try:
        with assume_backend("native"):
            with assume_device("cuda"):
                peak = costs.predict_layer_peak(resized, size.maps, batch=size.batch)
            counts = costs.count_layer_operations(resized, size.maps, batch=size.batch)
    except (RuntimeError, ValueError) as error:
        return {"message": one_line(error, most=200)}
    return {"peak": peak.peak, "saved": peak.saved, "gmacs": counts.gmacs}


def _changes(records: Sequence[Record], record: Record) -> bool:
    """Return True where memory or operations of the record's attention differ along its axis."""
    same = [other for other in records if (other["axis"], other["attention"]) == (record["axis"], record["attention"])]
    return len({(other.get("peak"), other.get("gmacs")) for other in same}) > 1


def _size(record: Record) -> LayerSize:
    return LayerSize(**{name: record[name] for name in ("side", "levels", "points", "batch")})


def _time(records: Sequence[Record], subjects: Mapping[str, AttentionUnderTest], size: LayerSize, rounds: int) -> None:
    """Time each attention once; a size that lies on several axes has its times in a record of each."""
    samples = time_interleaved({name: _task(subject, size) for name, subject in subjects.items()}, rounds)
    for record in records:
        summaries = {phase: quartiles(samples[record["attention"], phase]) for phase in PHASES}
        record["seconds"] = {phase: vars(summary) for phase, summary in summaries.items()}


def _task(subject: AttentionUnderTest, size: LayerSize) -> TimedTask:
    """Return a task with a forward pass, and a forward and backward pass for tokens and parameters.

    Without dropout, which no kernel for a CPU fuses.
    """
    layer, call = subject.make(dropout=0.0).train(), subject.call(size.maps, batch=size.batch)
    position = call.present_tensors["position"]
    weights = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def run(inputs: list[Tensor]) -> Tensor:
        return layer(inputs[0], position, size.maps)

    return call_task(run, [call.query_tensor, *weights], torch.ones_like(call.query_tensor))
