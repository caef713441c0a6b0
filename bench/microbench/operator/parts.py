"""Parts of a kernel benchmark: the operator, the machine beside it, a whole module, instruction sets, scaling, memory.

Each takes a `BenchmarkSetting` and yields rows. A part that is not available yields none and adds a note that says why.
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
from bench.microbench.operator.cases import OperatorCase, model_case
from bench.microbench.operator.implementations import OURS, OperatorImplementation
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.rows import BenchmarkRow, RowContext
from unept import attention
from unept.config import ModelConfig
from unept.ops import cpu_build, cpu_ops, reference

MODULE_IMPLEMENTATIONS = (OURS, "mmcv", "reference")
MAX_DISAGREEMENT = 1e-3  # relative; sides that differ more do not compute the same
AVX2_ARCH = "x86-64-v3"  # the instruction set of processors with AVX2


@dataclass(frozen=True, kw_only=True)
class BenchmarkSetting:
    """Conditions and cases of the parts of a benchmark.

    Attributes:
        malloc: Setting of malloc: default, tuned or counted.
        threads: Threads of every implementation.
        repeats: Rounds, at least.
        cases: Calls by name.
        implementations: Ours first.
        say: Called with a line of progress.
        notes: What could not be measured, and why.
    """

    malloc: str
    threads: int
    repeats: int
    cases: Mapping[str, OperatorCase]
    implementations: list[OperatorImplementation]
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def context(self, part: str, shape: str) -> RowContext:
        """Return the columns that a part's rows of a shape share."""
        return RowContext(part=part, malloc=self.malloc, shape=shape, threads=self.threads)

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def operator_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Time every implementation at every shape, with the gather and scatter probes in the same rounds.

    Raises:
        RuntimeError: An implementation differs from the reference by more than MAX_DISAGREEMENT.
    """
    for name, case in setting.cases.items():
        setting.say(name)
        context = setting.context("operator", name)
        runs = {side.name: side.run for side in setting.implementations if side.run}
        if setting.malloc == "tuned":
            for side, run in runs.items():
                yield context.row(side, "forward+backward", "disagreement", [_agreed(side, run, case)])
        tasks = {side: timing.operator_task(run, case) for side, run in runs.items()}
        with _probes(case, setting) as probe_tasks:
            samples = timing.time_interleaved({**tasks, **probe_tasks}, setting.repeats)
        yield from rows.timing_rows(context, samples, case.samples)
        yield from rows.ratio_rows(context, samples, OURS)
        yield from _over_probes(context, samples)
        yield from lower_bounds.operator_bound_rows(
            context, samples, [side for side in runs if side != OURS], "pyramid"
        )


def _agreed(side: str, run: Callable[..., torch.Tensor], case: OperatorCase) -> float:
    differ = timing.operator_disagreement(run, reference.msda, case)
    if not differ <= MAX_DISAGREEMENT:
        raise RuntimeError(f"{side} and the reference differ by {differ:.1e} at {case}: nothing to compare")
    return differ


@contextmanager
def _probes(case: OperatorCase, setting: BenchmarkSetting) -> Iterator[dict[str, timing.TimedTask]]:
    """Enter a context with tasks that gather and scatter from tables as large as a head's pyramid, and as one of its
    levels.

    Without a compiler there are no tasks.
    """
    largest = max(height * width for height, width in case.shapes)
    try:
        with (
            machine_probes.open_probe(case.tokens, setting.threads) as whole,
            machine_probes.open_probe(largest, setting.threads) as level,
        ):
            yield {
                "pyramid": lambda: whole.gather_scatter_seconds(case.samples),
                "level": lambda: level.gather_scatter_seconds(case.samples),
            }
    except cpu_build.Unavailable as error:
        setting.note(f"the machine's own speed is not measured: {error}")
        yield {}


def _over_probes(context: RowContext, samples: rows.Samples) -> Iterator[BenchmarkRow]:
    """Yield our forward pass over a gather, and our backward pass over a gather and a scatter, of as many points."""
    if (OURS, "forward") not in samples:
        return
    forward, both = (samples[OURS, phase] for phase in timing.PHASES)
    backward = [total - one for total, one in zip(both, forward, strict=True)]
    for tables in ("pyramid", "level"):
        if (tables, "gather") in samples:
            gather, scatter = samples[tables, "gather"], samples[tables, "scatter"]
            floor = [one + other for one, other in zip(gather, scatter, strict=True)]
            yield context.row(tables, "forward", "over_probe", rows.paired_ratios(forward, gather))
            yield context.row(tables, "backward", "over_probe", rows.paired_ratios(backward, floor))


def machine_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Measure multiply-adds and bytes read per second, on as many threads as the kernel has."""
    context = setting.context("machine", "all")
    setting.say("the machine")
    try:
        with machine_probes.open_probe(1, setting.threads) as probe:
            for kind, amount, side in (
                ("multiply-add", machine_probes.MULTIPLY_ADDS, "multiply_adds_per_second"),
                ("read", machine_probes.PASSES, "bytes_read_per_second"),
            ):
                measured = [probe.seconds(kind, amount) for _ in range(setting.repeats + 1)][1:]
                yield context.row("machine", kind, side, [done / seconds for seconds, done in measured])
    except cpu_build.Unavailable as error:
        setting.note(f"the machine's own speed is not measured: {error}")


def module_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Time the encoder's self-attention with its linear layers, by the operator in it, at the shapes of encoders."""
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
        layer = attention.make_attention("encoder_self", config.encoder_self, settings)
        generator = torch.Generator().manual_seed(case.seed)
        for parameter in layer.parameters():  # as initialised, all offsets would be the same
            nn.init.normal_(parameter, std=case.spread / width**0.5, generator=generator)
        tokens, gradient = torch.randn(2, case.batch, case.tokens, width, generator=generator)
        runs = {
            side.name: side.run for side in setting.implementations if side.run and side.name in MODULE_IMPLEMENTATIONS
        }
        runs[lower_bounds.LINEAR_LAYERS] = lower_bounds.zero_operator
        tasks = {side: _module_task(layer, tokens, gradient, case, run) for side, run in runs.items()}
        samples = timing.time_interleaved(tasks, setting.repeats)
        context = setting.context("module", name)
        yield from rows.timing_rows(context, samples, case.samples)
        yield from rows.ratio_rows(context, samples, OURS)
        yield from lower_bounds.module_bound_rows(
            context, samples, [side for side in MODULE_IMPLEMENTATIONS if side != OURS]
        )


def _module_task(
    layer: nn.Module, tokens: torch.Tensor, gradient: torch.Tensor, case: OperatorCase, run: Any
) -> timing.TimedTask:
    """Return a task that times the module with another operator in place of `msda`."""
    inputs = [tokens, *layer.parameters()]
    return timing.call_task(
        lambda tensors: layer(tensors[0], None, case.shapes),
        inputs,
        gradient,
        around=lambda: mock.patch.object(sys.modules[type(layer).__module__], "msda", run),
    )


def instruction_set_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Time the kernel built for AVX2 against the one built for this machine, without autograd.

    Only where this machine has wider vectors.
    """
    try:
        native = cpu_build.load().library
        if native.unept_vector_bytes() != 64:
            return setting.note("AVX2 and AVX-512 are not compared: this machine's kernel has no AVX-512")
        libraries = {
            "avx512": cpu_ops.declared(native),
            "avx2": cpu_ops.declared(cpu_build.load(march=AVX2_ARCH).library),
        }
    except cpu_build.Unavailable as error:
        return setting.note(f"AVX2 and AVX-512 are not compared: {error}")
    for name, case in setting.cases.items():
        setting.say(f"{name}, instruction sets")
        tasks = {which: _library_task(library, case) for which, library in libraries.items()}
        samples = timing.time_interleaved(tasks, setting.repeats)
        context = setting.context("instructions", name)
        yield from rows.timing_rows(context, samples, case.samples)
        yield from rows.ratio_rows(context, samples, "avx512")
    return None


def _library_task(library: ctypes.CDLL, case: OperatorCase) -> timing.TimedTask:
    value, reference_points, offsets, logits, gradient = make_inputs(case, torch.float32)
    sides = [side for shape in case.shapes for side in shape]

    def task() -> dict[str, float]:
        start = time.perf_counter()
        out, softmax = cpu_ops.forward(value, reference_points, offsets, logits, sides, library=library)
        between = time.perf_counter()
        cpu_ops.backward(gradient, value, reference_points, offsets, logits, out, softmax, sides, library=library)
        return {"forward": between - start, "backward": time.perf_counter() - between}

    return task


def scaling_cases(quick: bool) -> dict[str, OperatorCase]:
    """Return the calls whose cost is measured along an axis: queries, levels, points."""
    side, queries = (6, 108) if quick else (30, 900)
    axes: dict[str, tuple[int, ...]] = {
        "queries": (27, 108) if quick else (225, 900, 2700, 8100),
        "levels": (1, 2) if quick else (1, 2, 3, 4),
        "points": (1, 4) if quick else (1, 2, 4, 8, 16, 32, 64),
    }
    cases = {f"queries={count}": model_case(side, 1, count) for count in axes["queries"]}
    cases |= {f"levels={count}": model_case(side, 1, queries, levels=count) for count in axes["levels"]}
    return cases | {f"points={count}": model_case(side, 1, queries, points=count) for count in axes["points"]}


def scaling_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Time ours and the reference along the axes of `scaling_cases`, which are the setting's cases."""
    for name, case in setting.cases.items():
        setting.say(name)
        runs = {
            side.name: side.run for side in setting.implementations if side.run and side.name in (OURS, "reference")
        }
        tasks = {side: timing.operator_task(run, case) for side, run in runs.items()}
        samples = timing.time_interleaved(tasks, setting.repeats)
        yield from rows.timing_rows(setting.context("scaling", name), samples, case.samples)


def memory_rows(setting: BenchmarkSetting) -> Iterator[BenchmarkRow]:
    """Count the bytes of a call of each implementation, and their ratio to ours."""
    for name, case in setting.cases.items():
        setting.say(f"{name}, memory")
        context, ours, lower_bound = setting.context("memory", name), dict[str, float](), lower_bounds.min_bytes(case)
        for side in setting.implementations:
            if side.run is None:
                continue
            for row in malloc_count.operator_memory_rows(context, side.name, side.run, case):
                yield row
                ours.setdefault(row.phase, row.value)
                if side.name != OURS and setting.implementations[0].run:
                    yield context.row(side.name, row.phase, "ratio", [row.value / ours[row.phase]])
                    yield context.row(side.name, row.phase, rows.RATIO_AT_MOST, [row.value / lower_bound[row.phase]])
