"""Measures of one variant, taken once, alone on the machine, in a process of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import unept
from bench.config.settings import Settings, settings_from_dict
from bench.profiling.flops import counter
from bench.profiling.receptive_field import ReceptiveField, slot_receptive_field
from bench.profiling.target_cost import count_operations, target_cost
from bench.timing import Quartiles, quartiles, seconds_of
from bench.training.execution import prepare_model, study_execution
from bench.training.loop import Progress, train_step, training_batches
from bench.training.optimizer import make_optimizer

SELF_SLOTS = ("encoder_self", "decoder_self")
WARM_UP_STEPS = 2
TIMED_STEPS = 9


def measure_variant(spec: dict[str, Any], folder: Path, progress: Progress) -> dict[str, Any]:  # noqa: ARG001 - a task's form
    """Measure parameters, operations, predicted memory of a training step, and throughput of a variant.

    Args:
        spec: The variant; `settings` holds its settings as plain values, `target` the side in pixels at which memory
            and operations are predicted too, `backend` its attention backend.
        folder: Not used; every task of a study has one.
        progress: Called with steps done, steps in all, and what comes next.

    Returns:
        `status`, `message`, `metrics` (GMACs, GiB, images per second as median and quartiles over TIMED_STEPS steps
        after WARM_UP_STEPS) and `protocol`, as plain values.
    """
    settings = settings_from_dict(spec["settings"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = settings.model.size
    counted, uncounted = _count(settings)
    model = unept.build(settings.model).to(device)
    batch = _first_batch(settings, device)
    inside_share = mean_inside_share(model, batch["image"])
    progress(1, 4, "timing training steps")
    training = _images_per_second(_training_step(model, batch, settings), settings.train.batch)
    progress(2, 4, "timing inference")
    inference = _images_per_second(_inference_step(model.eval(), batch["image"]), settings.train.batch)
    progress(3, 4, "predicting memory")
    predicted, target_notes = target_cost(settings, spec["target"], spec["backend"])
    receptive_fields, receptive_field_notes = slot_receptive_fields(settings)
    return {
        "status": "ok",
        "message": uncounted,
        "metrics": {
            "parameters": sum(p.numel() for p in model.parameters()),
            "gmacs": counted and counted.gmacs,
            "gflops": counted and counted.gflops,
            "sampling_gmacs": counted and counted.sampling_gmacs,
            "module_gmacs": counted and counted.module_gmacs,
            "elementwise_gops": counted and counted.elementwise_gops,
            "inside_share": inside_share,
            "reach": receptive_fields,
            **predicted,
            "train_images_per_second": asdict(training),
            "inference_images_per_second": asdict(inference),
        },
        "protocol": {
            "size": [side, side],
            "batch": settings.train.batch,
            "threads": torch.get_num_threads(),
            "device": device.type,
            "warm_up": WARM_UP_STEPS,
            "operations": "one image, evaluation mode, convolutions + all matrix products + sampling; "
            "module_gmacs: what the paper's tool sees; elementwise_gops: elements computed one by one, counted apart",
            "memory": "predicted by tracing the training step, as on a GPU, at this batch: a lower bound of what a GPU "
            "shows",
            "reach": "gradients of some tokens' results at initial weights, training size",
            **receptive_field_notes,
            **target_notes,
        },
    }


def _count(settings: Settings) -> tuple[counter.Operations | None, str]:
    """Return the operations, or None and the reason, so that a mechanism that cannot be counted is measured all the
    same.
    """
    try:
        return count_operations(settings), ""
    except counter.UncountedError as error:
        return None, str(error)


@torch.no_grad()
def mean_inside_share(model: nn.Module, image_B3HW: Tensor) -> float | None:
    """Return the share of the sampled points that lie inside their map, averaged over the modules that sample.

    A module that samples has a method `inside_share`, which is called with the inputs of its own forward. None where no
    module has one.

    Args:
        model: The network; it is left in evaluation mode.
        image_B3HW: Normalised images, float32.
    """
    shares: list[float] = []

    def record_share(module: Any, args: tuple[Any, ...], _: Any) -> None:
        shares.append(module.inside_share(*args))

    hooks = [m.register_forward_hook(record_share) for m in model.modules() if hasattr(m, "inside_share")]
    try:
        model.eval()(image_B3HW)
    finally:
        for hook in hooks:
            hook.remove()
    return float(np.mean(shares)) if shares else None


def slot_receptive_fields(settings: Settings) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the receptive field of each self-attention slot (`receptive_field_record`), and why a slot has none.

    A published network has no slots: both are empty. A user's module may do what a gradient cannot follow: then its
    other measures are kept and the reason is in the notes.
    """
    fields: dict[str, Any] = {}
    notes: dict[str, str] = {}
    if settings.model.architecture != "unept":
        return fields, notes
    for slot in SELF_SLOTS:
        try:
            field = slot_receptive_field(settings, slot)
        except Exception as error:
            field, notes[f"no reach of {slot}"] = None, f"{type(error).__name__}: {error}"[:200]
        fields[slot] = None if field is None else receptive_field_record(field)
    return fields, notes


def receptive_field_record(field: ReceptiveField) -> dict[str, float]:
    """Return `share`, and `level 1 from 2` (coarsest last) for each pair of levels after two layers."""
    pairs = {
        f"level {a} from {b}": share
        for a, row in enumerate(field.two_layers, start=1)
        for b, share in enumerate(row, start=1)
    }
    return {"share": field.share} | pairs


def _first_batch(settings: Settings, device: torch.device) -> dict[str, Tensor]:
    batch = training_batches(settings, seed=0).batch_at(0)
    return {name: tensor.to(device) for name, tensor in batch.items()}


def _training_step(model: nn.Module, batch: dict[str, Tensor], settings: Settings) -> Callable[[], object]:
    execution = study_execution(batch["image"].device)
    called = prepare_model(model.train(), execution)
    optimizer = make_optimizer(model, settings.train)
    return lambda: train_step(called, optimizer, batch, settings, execution)


def _inference_step(model: nn.Module, image: Tensor) -> Callable[[], object]:
    @torch.inference_mode()
    def step() -> object:
        return model(image)

    return step


def _images_per_second(step: Callable[[], object], images: int) -> Quartiles:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seconds = [seconds_of(step, device) for _ in range(WARM_UP_STEPS + TIMED_STEPS)][WARM_UP_STEPS:]
    return quartiles([images / elapsed for elapsed in seconds])
