"""Predicted memory and operations of a variant, at the study's own image size and at a target size; nothing is run."""

from __future__ import annotations

from typing import Any

import torch

import unept
from bench.config.settings import Settings
from bench.errors import one_line
from bench.profiling.flops import counter
from bench.profiling.memory.predict import predict_peak, settings_at_size
from bench.profiling.memory.setting import StepSetting
from bench.units import GIB


def target_cost(settings: Settings, size: int, backend: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the predicted peak of a training step at the study's size and at `size`, and the operations at `size`.

    The batch is the study's, and losses are in bands as the study computes them. Tensors are held as on a GPU, at both
    sizes, so that only the size differs.

    Args:
        settings: The variant.
        size: Side of the square images, in pixels.
        backend: Attention backend; what it keeps for the backward pass is counted.

    Returns:
        Metrics (`step_memory_gib`, `target_size`, `target_memory_gib`, `target_gmacs`; None for what cannot be traced
        or counted), and the reasons for these by name.
    """
    metrics: dict[str, Any] = {"target_size": size}
    notes: dict[str, str] = {}
    for name, side in (("step_memory_gib", settings.model.size), ("target_memory_gib", size)):
        setting = StepSetting(batch=settings.train.batch, size=side, bounded=settings.loss.bounded)
        try:
            metrics[name] = predict_peak(settings, setting, backend=backend).bytes / GIB
        except Exception as error:  # a user's module may do what cannot be traced without data
            metrics[name], notes[f"no {name}"] = None, one_line(error, most=200)
    try:
        at_size = settings_at_size(settings, StepSetting(batch=1, size=size, bounded=settings.loss.bounded))
        metrics["target_gmacs"] = count_operations(at_size).gmacs
    except Exception as error:
        metrics["target_gmacs"], notes["no target_gmacs"] = None, one_line(error, most=200)
    return metrics, notes


def count_operations(settings: Settings) -> counter.Operations:
    """Count the operations of one image at the training size, on the meta device.

    Raises:
        UncountedError: An operator has no formula.
    """
    with torch.device("meta"):
        model = unept.build(settings.model)
    return counter.count_model(model, (settings.model.size, settings.model.size))
