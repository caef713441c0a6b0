"""One training step of UN-EPT in its parts: where the time goes, and what the attention's backend changes in it.

Every part is run forward and backward on the inputs that it has in a real step, detached, so that parts can be timed
one by one and side by side with other backends; the whole step is timed as well, and what the parts do not explain is
its difference. Rounds interleave parts and backends, so that a slow moment of the machine meets all of them alike.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from typing import Any

import torch
from torch import Tensor, nn

import unept
from bench import environment
from bench.config.grid import with_field_values
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.profiling.network_timing import random_truth
from bench.profiling.variant import spread
from bench.training.loop import compute_losses, make_optimizer, train_step, training_batches
from unept import ops
from unept.model import UNEPT

WHOLE = "whole step"
BACKBONE, SPATIAL, CONTEXT, ATTENTION = "backbone", "spatial branch and heads", "context branch", "its attention"
LOSS, OPTIMIZER = "loss", "optimizer"
DRAWN, KEPT = "a batch of data, made", "a batch of data, kept"
PARTS = (WHOLE, BACKBONE, SPATIAL, CONTEXT, ATTENTION, LOSS, OPTIMIZER)
CASES = ("quick", "small", "paper backbone=deit_base", "paper backbone=resnet50")
LARGE = 480  # pixels; of pictures that large one makes a batch, unless the user says otherwise

Work = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class PartTime:
    """Seconds of one part under one backend: the median of the rounds, and their quartiles."""

    part: str
    backend: str
    seconds: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Case:
    """A preset, some of its fields changed: what the user wrote, and what it means."""

    name: str
    settings: Settings


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is timed and how; `images` 0 is the preset's own batch or one of LARGE, `threads` 0 every processor."""

    cases: tuple[Case, ...]
    backends: tuple[str, ...]
    images: int = 0
    rounds: int = 5
    threads: int = 0
    malloc: str = "system default"

    def __post_init__(self) -> None:
        """ValueError for what cannot be."""
        for name, least in (("images", 0), ("rounds", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)}: expected at least {least}")
        if len(set(self.backends)) < len(self.backends):
            raise ValueError(f"--backends {','.join(self.backends)}: one is given twice")

    def batch(self, case: Case) -> int:
        """Pictures in a step of `case`."""
        return self.images or (1 if case.settings.model.size >= LARGE else case.settings.train.batch)


def default_backends() -> tuple[str, ...]:
    """The fastest that runs here, and the reference."""
    return tuple(dict.fromkeys((ops.resolve(device=_device().type).name, "reference")))


def time_cases(protocol: Protocol, say: Callable[[str], None]) -> dict[str, list[PartTime]]:
    """The times of every case, by a heading that says what was timed."""
    torch.set_num_threads(protocol.threads or environment.usable_cores())
    times = {}
    for case in protocol.cases:
        images = protocol.batch(case)
        heading = f"{case.name}: {images} x {case.settings.model.size} px, {case.settings.model.backbone}"
        say(f"timing {heading}")
        times[heading] = time_step(case.settings, protocol.backends, images=images, rounds=protocol.rounds)
    return times


def setting(protocol: Protocol) -> list[str]:
    """The machine and the protocol, a line each."""
    threads = protocol.threads or environment.usable_cores()
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "not told"
    return [
        f"{environment.processor_name()}, {environment.usable_cores()} cores; {threads} threads; "
        f"torch {torch.__version__}; commit {environment.git_commit() or 'not told'}; {date.today().isoformat()}",
        f"malloc: {protocol.malloc}, for every backend; load average when done: {load}",
        f"{protocol.rounds} rounds after one that warms up; float32, random pictures, the recipe's own step",
    ]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def case_of(words: str) -> Case:
    """`paper backbone=resnet50` as settings. ValueError for an unknown preset or field, or more than one value."""
    name, *axes = words.split() or [""]
    if not name:
        raise ValueError(f"case {words!r}: expected a preset, and fields after it")
    base = preset(name)
    settings = with_field_values(base, axes)
    if settings.model.architecture != "unept":
        raise ValueError(f"{words}: a step is taken apart for architecture=unept only")
    return Case(name=words, settings=settings)


def time_step(settings: Settings, backends: Sequence[str], *, images: int, rounds: int) -> list[PartTime]:
    """The times of each of PARTS under each backend, for `images` random pictures of the settings' size; for generated
    scenes also the time of a batch of them, DRAWN and KEPT.

    One round before those that count warms up. ValueError for a backend that cannot run here.
    """
    device = _device()
    names = [ops.resolve(backend, device=device.type).name for backend in backends]
    torch.manual_seed(0)
    model = unept.build(settings.model).to(device).train()
    assert isinstance(model, UNEPT), settings.model.architecture
    size = (settings.model.size, settings.model.size)
    batch = random_truth(settings.model.classes, size, images, device)
    batch["image"] = torch.randn(images, 3, *size, device=device)
    with _backend(names[0]):
        works = _works(model, settings, batch)
        works |= _data(settings)
    seconds: dict[tuple[str, str], list[float]] = {(part, name): [] for part in works for name in names}
    for turn in range(rounds + 1):
        for (part, name), times in seconds.items():
            with _backend(name):
                spent = _timed(works[part], device)
            if turn:
                times.append(spent)
    return [_summed_up(part, name, times) for (part, name), times in seconds.items()]


def _works(model: UNEPT, settings: Settings, batch: dict[str, Tensor]) -> dict[str, Work]:
    """For each part, what does it once."""
    optimizer = make_optimizer(model, settings.train)
    calls = _recorded(model, batch["image"])
    train_step(model, optimizer, batch, settings)  # gives every parameter its gradient and its moments
    output = model(batch["image"])
    output = type(output)(**{name: part if part is None else _leaf(part) for name, part in output._asdict().items()})

    def loss() -> None:
        compute_losses(output, batch, settings).total.backward()

    spatial = [m for m in (model.spatial_branch, model.mask_head, model.dir_head) if m is not None]
    slots = [module for module in calls if module not in (model.backbone, model.context_branch, *spatial)]
    return {
        WHOLE: lambda: train_step(model, optimizer, batch, settings),
        BACKBONE: _both_ways([model.backbone], calls),
        SPATIAL: _both_ways(spatial, calls),
        CONTEXT: _both_ways([model.context_branch], calls),
        ATTENTION: _both_ways(slots, calls),
        LOSS: loss,
        OPTIMIZER: optimizer.step,
    }


def _data(settings: Settings) -> dict[str, Work]:
    """A batch of generated scenes: a new one each time, and the same one again."""
    if settings.data != "scenes":
        return {}
    batches = training_batches(settings, seed=0)
    steps = iter(range(1, 1 << 30))
    return {DRAWN: lambda: batches.batch_at(next(steps)), KEPT: lambda: batches.batch_at(0)}


def _recorded(model: UNEPT, image: Tensor) -> dict[nn.Module, tuple[Any, ...]]:
    """What each part, and each attention in its slot, is called with in a forward pass, detached."""
    layers = [*model.context_branch.encoder.layers, *model.context_branch.decoder.layers]
    slots = [getattr(layer, name) for layer in layers for name in ("self_attn", "cross_attn") if hasattr(layer, name)]
    parts = [model.backbone, model.context_branch, model.spatial_branch, model.mask_head, model.dir_head]
    calls: dict[nn.Module, tuple[Any, ...]] = {}

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        calls[module] = tuple(_detached(value) for value in given)

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


def _both_ways(modules: Sequence[nn.Module], calls: dict[nn.Module, tuple[Any, ...]]) -> Work:
    """A forward and a backward pass of each module, by its recorded arguments."""

    def work() -> None:
        for module in modules:
            result = module(*calls[module])
            results = list(result) if isinstance(result, (list, tuple)) else [result]
            torch.autograd.backward(results, [torch.ones_like(each) for each in results])

    return work


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _leaf(value) if value.dim() > 1 and value.shape[1] != 3 else value.detach()  # pictures want no gradient
    if isinstance(value, list):
        return [_detached(each) for each in value]
    return value


def _leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def _backend(name: str) -> AbstractContextManager[None]:
    """Within it "auto" stands for the backend `name`."""
    return environment.set_variables({"UNEPT_BACKEND": name})


def _timed(work: Work, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _summed_up(part: str, backend: str, times: Sequence[float]) -> PartTime:
    found = spread(times)
    return PartTime(part=part, backend=backend, seconds=found.median, low=found.q1, high=found.q3)
