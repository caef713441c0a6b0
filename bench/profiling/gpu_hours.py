"""GPU-hours of a run at a size that nobody has run it at: counted operations over an assumed rate.

A training step is three forward passes of every image of the batch (forward, and about twice as much backward). The
evaluation is a forward pass of every window of every image, and so are the probes while a run trains. Operations are
those of `bench.profiling.flops.counter` in the complete convention, two per multiply-add. The sustained rate of a GPU
and the size of the images are assumptions; they are printed wherever the hours are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench import user_code
from bench.config.checks import user_modules
from bench.config.grid import Variant
from bench.config.settings import Settings, settings_from_dict, settings_to_dict
from bench.results.rows import content_key
from unept.inference import count_windows, scaled

FORWARD_PASSES_PER_STEP = 3  # forward passes that a training step is worth
DEFAULT_IMAGE_SIZE = (512, 683)  # pixels, height and width: 4:3 at the short side that the recipe resizes to
ADE20K_VALIDATION_IMAGES = 2000  # pictures of ADE20K's validation split


@dataclass(frozen=True, kw_only=True)
class RunWork:
    """Work of one run.

    Attributes:
        gmacs: Forward pass of one training image, in 1e9 multiply-adds.
        training: All training steps, in 1e12 floating-point operations.
        evaluation: Evaluation and probes, in 1e12 floating-point operations.
    """

    gmacs: float
    training: float
    evaluation: float


def count_run_work(settings: Settings, *, pictures: int, size: tuple[int, int] = DEFAULT_IMAGE_SIZE) -> RunWork:
    """Count the operations of one run.

    Auxiliary heads, which run in training alone, the loss and the optimizer are left out.

    Args:
        settings: The run.
        pictures: Number of images that are evaluated.
        size: Their height and width, in pixels.

    Raises:
        ValueError: An operator has no formula.
    """
    arguments, own = settings_to_dict(settings), ", ".join(user_modules(settings.model))
    if own:
        gmacs = user_code.call_isolated("bench.profiling.gpu_hours:count_gmacs", arguments, about=own)
    else:
        gmacs = count_gmacs(arguments)
    train = settings.train
    passes = pictures * windows_per_image(settings, size)
    passes += train.probes * min(train.probe_images, pictures) * windows_per_image(settings, size, quick=True)
    tera = 2 * gmacs / 1000
    return RunWork(
        gmacs=gmacs, training=tera * FORWARD_PASSES_PER_STEP * train.steps * train.batch, evaluation=tera * passes
    )


def count_gmacs(settings: Mapping[str, Any]) -> float:
    """Return the forward pass of one training image of settings as plain values, in 1e9 multiply-adds."""
    from bench.profiling.target_cost import count_operations

    with warnings.catch_warnings(action="ignore"):
        return count_operations(settings_from_dict(dict(settings))).gmacs


def windows_per_image(settings: Settings, size: tuple[int, int], *, quick: bool = False) -> float:
    """Return the number of forward passes at the training size that one image takes.

    An image that is evaluated in one piece counts as many as its area holds.

    Args:
        settings: The run, with its evaluation protocol.
        size: Height and width of the image, in pixels.
        quick: Count a probe (one scale, not mirrored) in place of the full protocol.
    """
    protocol, train, side = settings.evaluation, settings.train, settings.model.size
    base = (train.base_long, train.base_short)
    scales, flip = ((1.0,), False) if quick else (protocol.scales, protocol.flip_test)
    if protocol.mode == "slide":
        count = count_windows(
            *size, window=protocol.window, stride=protocol.stride, scales=scales, flip=flip, base=base
        )
        return count * (protocol.window / side) ** 2
    pixels = sum(math.prod(scaled(*size, ratio, base)) for ratio in scales)
    return pixels / side**2 * (2 if flip else 1)


def gpu_hours_records(
    name: str, variants: Iterable[Variant], *, pictures: int, known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield the work of each variant as plain values.

    Args:
        name: Name of the table.
        variants: Its rows.
        pictures: Number of images that are evaluated.
        known: Memory of what was counted, by settings, shared between tables. A run that two tables share is trained
            once: its second record names the first under `same_as`.
    """
    for variant in variants:
        key = content_key(settings_to_dict(variant.settings))
        first_use = f"{name}, {variant.name}"
        same_as = known[key]["place"] if key in known else ""
        if not same_as:
            known[key] = {"place": first_use, "work": count_run_work(variant.settings, pictures=pictures)}
        run_work: RunWork = known[key]["work"]
        yield {
            "table": name,
            "row": variant.name,
            "gmacs": run_work.gmacs,
            "training_tflop": run_work.training,
            "evaluation_tflop": run_work.evaluation,
            "same_as": same_as,
        }
