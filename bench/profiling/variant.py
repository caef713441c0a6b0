"""The measures of one variant, taken once, alone on the machine, in a process of their own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import unept
from bench.config.settings import Settings, settings_from_dict
from bench.environment import peak_resident_gib
from bench.profiling.flops import counter
from bench.profiling.receptive_field import Reach, slot_reach
from bench.training.loop import Progress, make_optimizer, train_step, training_batches

SELF_SLOTS = ("encoder_self", "decoder_self")
WARM_UP = 2
REPEATS = 9


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median and quartiles over `n` timed repetitions."""

    median: float
    q1: float
    q3: float
    n: int


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles of one value or more."""
    q1, median, q3 = (float(value) for value in np.quantile(values, [0.25, 0.5, 0.75]))
    return Spread(median=median, q1=q1, q3=q3, n=len(values))


def measure(spec: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:  # noqa: ARG001 - a task's form
    """Parameters, operations, peak resident memory of training, and throughput of the variant in `spec`.

    Memory is read after the training steps and before anything else is timed: a process's peak never falls.
    """
    settings = settings_from_dict(spec["settings"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = settings.model.size
    counted, uncounted = _count(settings)
    model = unept.build(settings.model).to(device)
    batch = _first_batch(settings, device)
    inside = inside_share(model, batch["image"])
    before = peak_resident_gib()
    progress(1, 3, "timing training steps")
    training = _images_per_second(_training_step(model, batch, settings), settings.train.batch)
    peak = peak_resident_gib()
    progress(2, 3, "timing inference")
    inference = _images_per_second(_inference_step(model.eval(), batch["image"]), settings.train.batch)
    reach, reach_notes = reaches(settings)
    return {
        "status": "ok",
        "message": uncounted,
        "metrics": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "gmacs": counted and counted.gmacs,
            "gflops": counted and counted.gflops,
            "sampling_gmacs": counted and counted.sampling_gmacs,
            "module_gmacs": counted and counted.module_gmacs,
            "inside_share": inside,
            "reach": reach,
            "rss_before_gib": before,
            "peak_rss_gib": peak,
            "train_images_per_second": asdict(training),
            "inference_images_per_second": asdict(inference),
        },
        "protocol": {
            "size": [side, side],
            "batch": settings.train.batch,
            "threads": torch.get_num_threads(),
            "device": device.type,
            "warm_up": WARM_UP,
            "operations": "one image, evaluation mode, convolutions + all matrix products + sampling; "
            "module_gmacs: what the paper's tool sees",
            "memory": "peak resident set of the process over training steps, libraries included",
            "reach": "gradients of some tokens' results at initial weights, training size",
            **reach_notes,
        },
    }


def _count(settings: Settings) -> tuple[counter.Operations | None, str]:
    """The operations, or None and the reason, so that a mechanism that cannot be counted is measured all the same."""
    try:
        return count_operations(settings), ""
    except counter.UncountedError as error:
        return None, str(error)


def count_operations(settings: Settings) -> counter.Operations:
    """Operations of one image at the training size, on the meta device."""
    with torch.device("meta"):
        model = unept.build(settings.model)
    return counter.count(model, (settings.model.size, settings.model.size))


@torch.no_grad()
def inside_share(model: nn.Module, image_B3HW: Tensor) -> float | None:
    """Share of the sampled points that lie inside their map, averaged over the modules that sample; None without one.

    A module that samples says so itself through `inside_share`, called with the inputs of its own forward.
    """
    shares: list[float] = []

    def ask(module: Any, args: tuple[Any, ...], _: Any) -> None:
        shares.append(module.inside_share(*args))

    hooks = [m.register_forward_hook(ask) for m in model.modules() if hasattr(m, "inside_share")]
    try:
        model.eval()(image_B3HW)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.mean(shares)) if shares else None


def reaches(settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Receptive field of the self-attention slots (`profiling.receptive_field`), by slot, and why a slot has none.

    Of a rival, which has no slots, nothing. A module of a user may do what a gradient cannot follow: its other measures
    are kept, and the reason is said.
    """
    found: dict[str, Any] = {}
    notes: dict[str, str] = {}
    if settings.model.architecture != "unept":
        return found, notes
    for slot in SELF_SLOTS:
        try:
            reach = slot_reach(settings, slot)
        except Exception as error:
            reach, notes[f"no reach of {slot}"] = None, f"{type(error).__name__}: {error}"[:200]
        found[slot] = None if reach is None else flat_reach(reach)
    return found, notes


def flat_reach(reach: Reach) -> dict[str, float]:
    """`share` of the other tokens seen by one layer, and `level 1 from 2` (coarsest last) after two."""
    pairs = {
        f"level {a} from {b}": share
        for a, row in enumerate(reach.two_layers, start=1)
        for b, share in enumerate(row, start=1)
    }
    return {"share": reach.share} | pairs


def _first_batch(settings: Settings, device: torch.device) -> dict[str, Tensor]:
    batch = training_batches(settings, seed=0).batch_at(0)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _training_step(model: nn.Module, batch: dict[str, Tensor], settings: Settings) -> Callable[[], object]:
    optimizer = make_optimizer(model, settings.train)
    model.train()
    return lambda: train_step(model, optimizer, batch, settings)


def _inference_step(model: nn.Module, image: Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def step() -> object:
        return model(image)

    return step


def _images_per_second(step: Callable[[], object], images: int) -> Spread:
    rates = []
    for repeat in range(WARM_UP + REPEATS):
        began = time.perf_counter()
        step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if repeat >= WARM_UP:
            rates.append(images / (time.perf_counter() - began))
    return spread(rates)
