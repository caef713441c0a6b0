"""The parts of a kernel benchmark: the operator, the machine beside it, a whole module, instruction sets, scaling.

Each takes a `Setting` and gives rows. A part that cannot be had gives none and a note that says why.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import nn

from bench.microbench import malloc_count, rows, timing
from bench.microbench.operator import lower_bounds, machine_probes
from bench.microbench.operator.implementations import OURS, Side
from bench.microbench.operator.inputs import Case, make, usual
from bench.microbench.rows import Place, Row
from unept import attention
from unept.config import ModelConfig
from unept.ops import cpu_build, cpu_ops, reference

MODULE_SIDES = (OURS, "mmcv", "reference")
DISAGREE = 1e-3  # relative; sides that differ more do not compute the same
OLDER = "x86-64-v3"  # the instruction set of processors with AVX2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is measured, and how."""

    malloc: str
    threads: int
    repeats: int
    cases: Mapping[str, Case]
    sides: list[Side]
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def place(self, part: str, shape: str) -> Place:
        """Where a part's rows of a shape belong."""
        return Place(part=part, malloc=self.malloc, shape=shape, threads=self.threads)

    def note(self, text: str) -> None:
        """Say something once."""
        if text not in self.notes:
            self.notes.append(text)


def operator(setting: Setting) -> Iterator[Row]:
    """Every side at every shape, and the gather and scatter probes in the same rounds."""
    for name, case in setting.cases.items():
        setting.say(name)
        place = setting.place("operator", name)
        runs = {side.name: side.run for side in setting.sides if side.run}
        if setting.malloc == "tuned":
            for side, run in runs.items():
                yield place.row(side, "forward+backward", "disagreement", [_agreed(side, run, case)])
        tasks = {side: timing.operator_task(run, case) for side, run in runs.items()}
        with _probes(case, setting) as more:
            samples = timing.interleaved({**tasks, **more}, setting.repeats)
        yield from rows.timed(place, samples, case.samples)
        yield from rows.ratios(place, samples, OURS)
        yield from _over_probes(place, samples)
        yield from lower_bounds.of_operator(place, samples, [side for side in runs if side != OURS], "pyramid")


def _agreed(side: str, run: Callable[..., torch.Tensor], case: Case) -> float:
    differ = timing.disagreement(run, reference.msda, case)
    if not differ <= DISAGREE:
        raise RuntimeError(f"{side} and the reference differ by {differ:.1e} at {case}: nothing to compare")
    return differ


@contextmanager
def _probes(case: Case, setting: Setting) -> Iterator[dict[str, timing.Task]]:
    """Gather and scatter from tables as large as a head's pyramid, and as one of its levels; {} without a compiler."""
    largest = max(height * width for height, width in case.shapes)
    try:
        with (
            machine_probes.probe(case.tokens, setting.threads) as whole,
            machine_probes.probe(largest, setting.threads) as level,
        ):
            yield {
                "pyramid": lambda: whole.per_point(case.samples),
                "level": lambda: level.per_point(case.samples),
            }
    except cpu_build.Unavailable as error:
        setting.note(f"the machine's own speed is not measured: {error}")
        yield {}


def _over_probes(place: Place, samples: rows.Samples) -> Iterator[Row]:
    """Our forward pass over a gather, and our backward pass over a gather and a scatter, of as many points."""
    if (OURS, "forward") not in samples:
        return
    forward, both = (samples[OURS, phase] for phase in timing.PHASES)
    backward = [total - one for total, one in zip(both, forward, strict=True)]
    for tables in ("pyramid", "level"):
        if (tables, "gather") in samples:
            gather, scatter = samples[tables, "gather"], samples[tables, "scatter"]
            floor = [one + other for one, other in zip(gather, scatter, strict=True)]
            yield place.row(tables, "forward", "over_probe", rows.paired(forward, gather))
            yield place.row(tables, "backward", "over_probe", rows.paired(backward, floor))


def machine(setting: Setting) -> Iterator[Row]:
    """Multiply-adds and bytes read a second, by as many threads as the kernel has."""
    place = setting.place("machine", "all")
    setting.say("the machine")
    try:
        with machine_probes.probe(1, setting.threads) as probe:
            for kind, amount, side in (
                ("multiply-add", machine_probes.MULTIPLY_ADDS, "multiply_adds_per_second"),
                ("read", machine_probes.PASSES, "bytes_read_per_second"),
            ):
                found = [probe.seconds(kind, amount) for _ in range(setting.repeats + 1)][1:]
                yield place.row("machine", kind, side, [done / seconds for seconds, done in found])
    except cpu_build.Unavailable as error:
        setting.note(f"the machine's own speed is not measured: {error}")


def module(setting: Setting) -> Iterator[Row]:
    """The encoder's self-attention with its linear layers, by the operator in it: shapes that are an encoder's."""
    if cpu_build.problem():
        return
    config = ModelConfig()
    for name, case in setting.cases.items():
        if case.queries != case.tokens:
            continue
        setting.say(f"{name}, the whole module")
        width = case.heads * case.channels
        settings = {
            "width": width,
            "heads": case.heads,
            "levels": len(case.shapes),
            "points": case.points,
            "offset_init": config.offset_init,
            "dropout": 0.0,
            "layer": 0,
        }
        made = attention.make_attention("encoder_self", config.encoder_self, settings)
        generator = torch.Generator().manual_seed(case.seed)
        for parameter in made.parameters():  # as initialised, all offsets would be the same
            nn.init.normal_(parameter, std=case.spread / width**0.5, generator=generator)
        tokens, gradient = torch.randn(2, case.batch, case.tokens, width, generator=generator)
        runs = {side.name: side.run for side in setting.sides if side.run and side.name in MODULE_SIDES}
        runs[lower_bounds.LAYERS] = lower_bounds.free
        tasks = {side: _module_task(made, tokens, gradient, case, run) for side, run in runs.items()}
        samples = timing.interleaved(tasks, setting.repeats)
        place = setting.place("module", name)
        yield from rows.timed(place, samples, case.samples)
        yield from rows.ratios(place, samples, OURS)
        yield from lower_bounds.of_module(place, samples, [side for side in MODULE_SIDES if side != OURS])


def _module_task(made: nn.Module, tokens: torch.Tensor, gradient: torch.Tensor, case: Case, run: Any) -> timing.Task:
    """The module with another operator in it: where its own module finds `msda`."""
    given = [tokens, *made.parameters()]
    return timing.call_task(
        lambda tensors: made(tensors[0], None, case.shapes),
        given,
        gradient,
        around=lambda: mock.patch.object(sys.modules[type(made).__module__], "msda", run),
    )


def instructions(setting: Setting) -> Iterator[Row]:
    """The kernel built for AVX2 against the one built for this machine, where that has wider vectors; no autograd."""
    try:
        usual = cpu_build.load().library
        if usual.unept_vector_bytes() != 64:
            return setting.note("AVX2 and AVX-512 are not compared: this machine's kernel has no AVX-512")
        libraries = {"avx512": cpu_ops.declared(usual), "avx2": cpu_ops.declared(cpu_build.load(march=OLDER).library)}
    except cpu_build.Unavailable as error:
        return setting.note(f"AVX2 and AVX-512 are not compared: {error}")
    for name, case in setting.cases.items():
        setting.say(f"{name}, instruction sets")
        tasks = {which: _library_task(library, case) for which, library in libraries.items()}
        samples = timing.interleaved(tasks, setting.repeats)
        place = setting.place("instructions", name)
        yield from rows.timed(place, samples, case.samples)
        yield from rows.ratios(place, samples, "avx512")
    return None


def _library_task(library: ctypes.CDLL, case: Case) -> timing.Task:
    value, place, offsets, logits, gradient = make(case, torch.float32)
    sides = [side for shape in case.shapes for side in shape]

    def task() -> dict[str, float]:
        began = time.perf_counter()
        out, softmax = cpu_ops.forward(value, place, offsets, logits, sides, library=library)
        between = time.perf_counter()
        cpu_ops.backward(gradient, value, place, offsets, logits, out, softmax, sides, library=library)
        return {"forward": between - began, "backward": time.perf_counter() - between}

    return task


def sweep(quick: bool) -> dict[str, Case]:
    """The calls whose cost is looked at along an axis: queries, levels, points."""
    side, queries = (6, 108) if quick else (30, 900)
    axes: dict[str, tuple[int, ...]] = {
        "queries": (27, 108) if quick else (225, 900, 2700, 8100),
        "levels": (1, 2) if quick else (1, 2, 3, 4),
        "points": (1, 4) if quick else (1, 2, 4, 8, 16, 32, 64),
    }
    cases = {f"queries={count}": usual(side, 1, count) for count in axes["queries"]}
    cases |= {f"levels={count}": usual(side, 1, queries, levels=count) for count in axes["levels"]}
    return cases | {f"points={count}": usual(side, 1, queries, points=count) for count in axes["points"]}


def scaling(setting: Setting) -> Iterator[Row]:
    """Ours and the reference along the axes of a sweep: `setting.cases` are its calls."""
    for name, case in setting.cases.items():
        setting.say(name)
        runs = {side.name: side.run for side in setting.sides if side.run and side.name in (OURS, "reference")}
        tasks = {side: timing.operator_task(run, case) for side, run in runs.items()}
        samples = timing.interleaved(tasks, setting.repeats)
        yield from rows.timed(setting.place("scaling", name), samples, case.samples)


def allocations(setting: Setting) -> Iterator[Row]:
    """Bytes that a call of each side takes, and how many times ours that is."""
    for name, case in setting.cases.items():
        setting.say(f"{name}, memory")
        place, ours, least = setting.place("memory", name), dict[str, float](), lower_bounds.least_bytes(case)
        for side in setting.sides:
            if side.run is None:
                continue
            for row in malloc_count.measure(place, side.name, side.run, case):
                yield row
                ours.setdefault(row.phase, row.value)
                if side.name != OURS and setting.sides[0].run:
                    yield place.row(side.name, row.phase, "ratio", [row.value / ours[row.phase]])
                    yield place.row(side.name, row.phase, rows.AT_MOST, [row.value / least[row.phase]])
