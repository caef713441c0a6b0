"""How many GPU-hours a run takes at a size that nobody has run it at: counted operations over an assumed rate.

A training step is three forward passes of every image of the batch (forward, and about twice as much backward); the
evaluation is a forward pass of every window of every picture, and so are the looks at pictures while a run trains. The
operations are those of `bench.profiling.flops.counter` in the complete convention, two a multiply-add. What a card
sustains, and how large the pictures are, are assumptions; they are named wherever the hours are.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.config.grid import Variant
from bench.config.settings import Settings, settings_to_dict
from bench.results.rows import content_key
from unept.inference import count_windows, scaled

PASSES = 3  # forward passes that a training step is worth
PICTURE = (512, 683)  # pixels, height and width: 4:3 at the short side that the recipe resizes to
VALIDATION = 2000  # pictures of ADE20K's validation split


@dataclass(frozen=True, kw_only=True)
class Work:
    """One run in units of 1e12 floating-point operations; `gmacs` is the forward pass of one training image."""

    gmacs: float
    training: float
    evaluation: float


def work(settings: Settings, *, pictures: int, size: tuple[int, int] = PICTURE) -> Work:
    """The operations of one run, evaluated on so many pictures of this size (height, width in pixels).

    Auxiliary heads, which run in training alone, the loss and the optimizer are left out. Raises ValueError where an
    operator has no formula.
    """
    from bench.profiling.variant import count_operations

    with warnings.catch_warnings(action="ignore"):
        gmacs = count_operations(settings).gmacs
    train = settings.train
    shown = pictures * windows(settings, size)
    shown += train.probes * min(train.probe_images, pictures) * windows(settings, size, quick=True)
    tera = 2 * gmacs / 1000
    return Work(gmacs=gmacs, training=tera * PASSES * train.steps * train.batch, evaluation=tera * shown)


def windows(settings: Settings, size: tuple[int, int], *, quick: bool = False) -> float:
    """Forward passes of the training size that a picture of `size` takes under the protocol; `quick`: for a look.

    A picture evaluated in one piece is as many as its area holds.
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


def records(
    name: str, variants: Iterable[Variant], *, pictures: int, known: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The work of each variant as plain values, under the name of its table.

    `known` remembers what was counted, by settings: a run that two tables share is trained once, and is `same_as` its
    first place here.
    """
    for variant in variants:
        key = content_key(settings_to_dict(variant.settings))
        place = f"{name}, {variant.name}"
        same_as = known[key]["place"] if key in known else ""
        if not same_as:
            known[key] = {"place": place, "work": work(variant.settings, pictures=pictures)}
        found: Work = known[key]["work"]
        yield {
            "table": name,
            "row": variant.name,
            "gmacs": found.gmacs,
            "training_tflop": found.training,
            "evaluation_tflop": found.evaluation,
            "same_as": same_as,
        }
