"""Time of inference and of a training step, for networks taken in turns: a busy moment hits them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.settings import Settings
from bench.errors import one_line
from bench.profiling.variant import quartiles
from bench.training.loop import make_optimizer, train_step

MakeNetwork = Callable[[], nn.Module]
NETWORK_PHASES = ("inference", "training")


def time_networks(
    networks: Mapping[str, tuple[MakeNetwork, Settings | None]],
    size: tuple[int, int],
    *,
    batch: int,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Seconds of one inference and one training step of `batch` images, by network: median and quartiles over rounds.

    Each round visits every network once: it is built with random weights, runs once untimed and once timed in each
    phase, and is dropped. A training step is forward, the study's loss, backward and AdamW; a network without settings
    has no loss here and is timed in inference alone. What fails has a `message` in place of its times.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seconds: dict[str, dict[str, list[float]]] = {name: {phase: [] for phase in NETWORK_PHASES} for name in networks}
    failed: dict[str, str] = {}
    for number in range(rounds):
        for name, (make, settings) in networks.items():
            if name in failed:
                continue
            say(f"timing {name}, round {number + 1} of {rounds}")
            try:
                for phase, step in _steps(make().to(device), settings, size, batch):
                    seconds[name][phase].append(_timed(step, device))
            except (RuntimeError, MemoryError, ValueError) as error:
                failed[name] = one_line(error, most=200)
            gc.collect()
    return {name: {"message": failed[name]} if name in failed else _spreads(seconds[name]) for name in networks}


def timing_protocol(size: tuple[int, int], batch: int, rounds: int) -> dict[str, Any]:
    """Under what the times were taken."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"size": [*size], "batch": batch, "rounds": rounds, "threads": torch.get_num_threads(), "device": device}


def _steps(model: nn.Module, settings: Settings | None, size: tuple[int, int], batch: int) -> Any:
    """Each phase with a function that does one step of it."""
    device = next(model.parameters()).device
    image = torch.randn(batch, 3, *size, device=device)
    yield "inference", torch.inference_mode()(lambda: model.eval()(image))
    if settings is not None:
        optimizer = make_optimizer(model.train(), settings.train)
        targets = random_targets(settings.model.classes, size, batch, device) | {"image": image}
        yield "training", lambda: train_step(model, optimizer, targets, settings)


def random_targets(classes: int, size: tuple[int, int], batch: int, device: torch.device) -> dict[str, Tensor]:
    """Random truth of the kinds that any of the losses asks for."""
    limits = {"label": classes, "boundary": 2, "direction": 8}
    return {name: torch.randint(limit, (batch, *size), device=device) for name, limit in limits.items()}


def _timed(step: Callable[[], object], device: torch.device) -> float:
    """Seconds of the second of two calls."""
    took = 0.0
    for _ in range(2):
        began = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        took = time.perf_counter() - began
    return took


def _spreads(seconds: Mapping[str, list[float]]) -> dict[str, Any]:
    return {phase: asdict(quartiles(values)) for phase, values in seconds.items() if values}
