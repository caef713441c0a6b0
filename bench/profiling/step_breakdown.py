"""One training step of UN-EPT by its parts: where the time goes, and what the attention's backend changes in it.

Every part runs forward and backward on the inputs that it has in a real step, detached, so that parts can be timed one
by one and beside other backends. The whole step is timed as well; its difference from the sum is what the parts do not
explain. Rounds interleave parts and backends (`bench.timing.run_in_turns`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import unept
from bench import environment
from bench.config.grid import with_field_values
from bench.config.option_fields import check_options, nested_options
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.profiling.network_timing import random_targets
from bench.profiling.step_options import StepTiming
from bench.results.step_parts import (
    ATTENTION,
    BACKBONE,
    CONTEXT,
    DATA_CACHED,
    DATA_GENERATED,
    LOSS,
    OPTIMIZER,
    SPATIAL,
    WHOLE_STEP,
    PartTime,
)
from bench.timing import quartiles, run_in_turns, seconds_of
from bench.training.execution import prepare_model, study_execution
from bench.training.loop import compute_losses, train_step, training_batches
from bench.training.optimizer import make_optimizer
from unept import ops
from unept.data.scene_spec import is_generated
from unept.model import UNEPT

DEFAULT_CASES = ("quick", "small", "paper backbone=deit_base", "paper backbone=resnet50")
LARGE_IMAGE = 480  # pixels; of pictures that large one makes a batch, unless the user says otherwise

StepFunction = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class BreakdownCase:
    """A preset with some of its fields changed: the words that the user wrote, and the settings that they mean."""

    name: str
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class BreakdownProtocol:
    """Cases and conditions of a breakdown.

    Attributes:
        cases: Presets to take apart.
        backends: Backends of deformable attention to compare; the first is the measure.
        timing: Images, repetitions and threads; images 0 are the preset's own batch, or 1 from LARGE_IMAGE pixels on.
        malloc: Setting of the C library's malloc, for the report.

    Raises:
        ValueError: A number is out of its range, or a backend is named twice.
    """

    cases: tuple[BreakdownCase, ...]
    backends: tuple[str, ...]
    timing: StepTiming = nested_options(StepTiming)
    malloc: str = "system default"

    def __post_init__(self) -> None:
        check_options(self.timing)
        if len(set(self.backends)) < len(self.backends):
            raise ValueError(f"--backends {','.join(self.backends)}: one is given twice")

    def batch(self, case: BreakdownCase) -> int:
        """Return the number of images in a step of `case`."""
        return self.timing.images or (1 if case.settings.model.size >= LARGE_IMAGE else case.settings.train.batch)


def default_backends() -> tuple[str, ...]:
    """Return the names of the fastest backend that runs here and of the reference."""
    return tuple(dict.fromkeys((ops.resolve(device=_device().type).name, "reference")))


def time_cases(protocol: BreakdownProtocol, say: Callable[[str], None]) -> dict[str, list[PartTime]]:
    """Time every case and return its parts, by a heading that says what was timed."""
    torch.set_num_threads(protocol.timing.threads or environment.usable_cores())
    times = {}
    for case in protocol.cases:
        images = protocol.batch(case)
        heading = f"{case.name}: {images} x {case.settings.model.size} px, {case.settings.model.backbone}"
        say(f"timing {heading}")
        times[heading] = time_step(case.settings, protocol.backends, images=images, rounds=protocol.timing.rounds)
    return times


def breakdown_setting_lines(protocol: BreakdownProtocol) -> list[str]:
    """Return the machine and the protocol, a line each."""
    threads = protocol.timing.threads or environment.usable_cores()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not told"
    return [
        f"{environment.processor_name()}, {environment.usable_cores()} cores; {threads} threads; "
        f"torch {torch.__version__}; commit {environment.git_commit() or 'not told'}; {date.today().isoformat()}",
        f"malloc: {protocol.malloc}, for every backend; load average when done: {load}",
        f"{protocol.timing.rounds} rounds after one that warms up; float32, random pictures, the recipe's own step",
    ]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def parse_case(words: str) -> BreakdownCase:
    """Return the case that `paper backbone=resnet50` names.

    Raises:
        ValueError: The preset or a field is unknown, a field has several values, or the architecture is not unept.
    """
    name, *axes = words.split() or [""]
    if not name:
        raise ValueError(f"case {words!r}: expected a preset, and fields after it")
    base = preset(name)
    settings = with_field_values(base, axes)
    if settings.model.architecture != "unept":
        raise ValueError(f"{words}: a step is taken apart for architecture=unept only")
    return BreakdownCase(name=words, settings=settings)


def time_step(settings: Settings, backends: Sequence[str], *, images: int, rounds: int) -> list[PartTime]:
    """Time each of PARTS under each backend; for generated scenes also a batch of them, DATA_GENERATED and DATA_CACHED.

    Args:
        settings: The model and the recipe.
        backends: Backends of deformable attention.
        images: Random images of a step, of the settings' size.
        rounds: Timed repetitions, after one that warms up.

    Raises:
        ValueError: A backend cannot run here.
    """
    device = _device()
    names = [ops.resolve(backend, device=device.type).name for backend in backends]
    torch.manual_seed(0)
    model = unept.build(settings.model).to(device).train()
    assert isinstance(model, UNEPT), settings.model.architecture
    size = (settings.model.size, settings.model.size)
    batch = random_targets(settings.model.classes, size, images, device)
    batch["image"] = torch.randn(images, 3, *size, device=device)
    with _backend(names[0]):
        functions = _works(model, settings, batch)
        functions |= _data(settings)

    def task(part: str, backend: str) -> dict[str, float]:
        with _backend(backend):
            return {"step": seconds_of(functions[part], device.type)}

    tasks = {(part, name): partial(task, part, name) for part in functions for name in names}
    samples = run_in_turns(tasks, rounds)
    return [_part_time(part, name, seconds) for ((part, name), _), seconds in samples.items()]


def _works(model: UNEPT, settings: Settings, batch: dict[str, Tensor]) -> dict[str, StepFunction]:
    """Return a function for each part that runs it once."""
    execution = study_execution(batch["image"].device)
    prepare_model(model, execution)
    if execution.channels_last:
        batch = batch | {"image": batch["image"].contiguous(memory_format=torch.channels_last)}
    optimizer = make_optimizer(model, settings.train)
    arguments = _recorded(model, batch["image"])
    train_step(model, optimizer, batch, settings, execution)  # gives every parameter its gradient and its moments
    output = model(batch["image"])
    output = type(output)(**{name: part if part is None else _leaf(part) for name, part in output._asdict().items()})

    def loss() -> None:
        compute_losses(output, batch, settings).total.backward()

    spatial = [m for m in (model.spatial_branch, model.mask_head, model.dir_head) if m is not None]
    slots = [module for module in arguments if module not in (model.backbone, model.context_branch, *spatial)]
    return {
        WHOLE_STEP: lambda: train_step(model, optimizer, batch, settings, execution),
        BACKBONE: _both_ways([model.backbone], arguments),
        SPATIAL: _both_ways(spatial, arguments),
        CONTEXT: _both_ways([model.context_branch], arguments),
        ATTENTION: _both_ways(slots, arguments),
        LOSS: loss,
        OPTIMIZER: optimizer.step,
    }


def _data(settings: Settings) -> dict[str, StepFunction]:
    """Return functions that make a new batch of generated scenes, and the same one again."""
    if not is_generated(settings.data):
        return {}
    batches = training_batches(settings, seed=0)
    steps = iter(range(1, 1 << 30))
    return {DATA_GENERATED: lambda: batches.batch_at(next(steps)), DATA_CACHED: lambda: batches.batch_at(0)}


def _recorded(model: UNEPT, image: Tensor) -> dict[nn.Module, tuple[Any, ...]]:
    """Return the arguments of each part, and of each attention in its slot, in a forward pass, detached."""
    layers = [*model.context_branch.encoder.layers, *model.context_branch.decoder.layers]
    slots = [getattr(layer, name) for layer in layers for name in ("self_attn", "cross_attn") if hasattr(layer, name)]
    parts = [model.backbone, model.context_branch, model.spatial_branch, model.mask_head, model.dir_head]
    calls: dict[nn.Module, tuple[Any, ...]] = {}

    def keep(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        calls[module] = tuple(_detached(value) for value in arguments)

    watched = [module for module in (*parts, *slots) if module is not None]
    hooks = [module.register_forward_pre_hook(keep) for module in watched]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    assert set(calls) == set(watched), "every part is called once"
    return calls


def _both_ways(modules: Sequence[nn.Module], arguments: dict[nn.Module, tuple[Any, ...]]) -> StepFunction:
    """Return a function that runs a forward and a backward pass of each module, by its recorded arguments."""

    def work() -> None:
        for module in modules:
            result = module(*arguments[module])
            results = list(result) if isinstance(result, (list, tuple)) else [result]
            torch.autograd.backward(results, [torch.ones_like(tensor) for tensor in results])

    return work


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _leaf(value) if value.dim() > 1 and value.shape[1] != 3 else value.detach()  # pictures want no gradient
    if isinstance(value, list):
        return [_detached(item) for item in value]
    return value


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _backend(name: str) -> AbstractContextManager[None]:
    """Return a context in which "auto" stands for the backend `name`."""
    return environment.set_variables({"UNEPT_BACKEND": name})


def _part_time(part: str, backend: str, seconds: Sequence[float]) -> PartTime:
    summary = quartiles(seconds)
    return PartTime(part=part, backend=backend, seconds=summary.median, low=summary.q1, high=summary.q3)
