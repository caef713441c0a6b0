"""Time of inference and of a training step, for whole networks taken in turns."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bench.config.settings import Settings
from bench.errors import one_line
from bench.timing import quartiles, run_in_turns, seconds_of
from bench.training.execution import prepare_model, study_execution
from bench.training.loop import train_step
from bench.training.optimizer import make_optimizer

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
    """Time one inference and one training step of each network, in turns.

    Each round builds every network with random weights, runs each phase once untimed and once timed, and drops it. A
    training step is forward, the study's loss, backward and AdamW.

    Args:
        networks: A function that builds the network, and its settings, by name. A network without settings has no loss
            here and is timed in inference alone.
        size: Height and width of the images, in pixels.
        batch: Number of images of a step.
        rounds: Number of timed repetitions.
        say: Called with a line of progress.

    Returns:
        By network: `median`, `q1`, `q3` in seconds and `n` for each phase of NETWORK_PHASES, or a `message` in place of
        them where the network fails.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    failed: dict[str, str] = {}
    visits: Counter[str] = Counter()

    def task(name: str, make: MakeNetwork, settings: Settings | None) -> dict[str, float]:
        if name in failed:
            return {}
        visits[name] += 1
        say(f"timing {name}, round {visits[name]} of {rounds}")
        try:
            steps = _steps(make().to(device), settings, size, batch)
            return {phase: _warm_seconds(step, device) for phase, step in steps}
        except (RuntimeError, MemoryError, ValueError) as error:
            failed[name] = one_line(error, most=200)
            return {}
        finally:
            gc.collect()

    tasks = {name: partial(task, name, *network) for name, network in networks.items()}
    samples = run_in_turns(tasks, rounds, warm_up=False)
    times: dict[str, dict[str, Any]] = {name: {} for name in networks}
    for (name, phase), seconds in samples.items():
        times[name][phase] = asdict(quartiles(seconds))
    return {name: {"message": failed[name]} if name in failed else times[name] for name in networks}


def timing_protocol(size: tuple[int, int], batch: int, rounds: int) -> dict[str, Any]:
    """Return the conditions under which `time_networks` measures, as plain values."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return {"size": [*size], "batch": batch, "rounds": rounds, "threads": torch.get_num_threads(), "device": device}


def _steps(model: nn.Module, settings: Settings | None, size: tuple[int, int], batch: int) -> Any:
    """Yield each phase with a function that does one step of it."""
    device = next(model.parameters()).device
    image = torch.randn(batch, 3, *size, device=device)
    yield "inference", torch.inference_mode()(lambda: model.eval()(image))
    if settings is not None:
        execution = study_execution(device)
        called = prepare_model(model.train(), execution)
        optimizer = make_optimizer(model, settings.train)
        targets = random_targets(settings.model.classes, size, batch, device) | {"image": image}
        yield "training", lambda: train_step(called, optimizer, targets, settings, execution)


def random_targets(classes: int, size: tuple[int, int], batch: int, device: torch.device) -> dict[str, Tensor]:
    """Return random targets of every kind that a loss asks for, int64 (B, H, W) by name."""
    limits = {"label": classes, "boundary": 2, "direction": 8}
    return {name: torch.randint(limit, (batch, *size), device=device) for name, limit in limits.items()}


def _warm_seconds(step: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of the second of two calls."""
    step()
    return seconds_of(step, device.type)
