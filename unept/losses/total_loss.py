"""The training loss (paper, Eq. 7): segmentation, refined segmentation, boundary and direction.

Axes: B images, K classes, H x W pixels of the label, h x w = H / 8 x W / 8 rounded up. In every target 255 means "not
here". No target makes a term NaN: a term without a pixel that counts is 0. A non-finite logit always does.

Where a batch is computed in parts, by several processes or one part after the other, `Whole` carries what the terms'
denominators and class shares need of the rest, and the losses of all parts add up to that of the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import NONE
from unept.config import LossConfig
from unept.layers.boundary_refinement import edge_mask, source_pixels
from unept.losses.banded_cross_entropy import STRIDE, enlarged, summed_cross_entropies


class Output(Protocol):
    """What a model returns in training (`unept.model.Output`): logits at 1/8 of the image's size."""

    @property
    def logits(self) -> Tensor:
        """Segmentation, (B, K, h, w)."""

    @property
    def boundary(self) -> Tensor | None:
        """Boundary head, (B, 1, h, w) binary or (B, 2, h, w); None without the spatial branch."""

    @property
    def direction(self) -> Tensor | None:
        """Direction head, (B, 8, h, w); None without the spatial branch."""


class Losses(NamedTuple):
    """The weighted sum and its four unweighted terms, scalars; the last three are 0 without the heads."""

    total: Tensor
    ce: Tensor
    refined: Tensor
    boundary: Tensor
    direction: Tensor


@dataclass(frozen=True, kw_only=True)
class Whole:
    """The batch that one call of the loss sees a part of. Counts are int64, on the targets' device.

    What the labels tell is counted before the model runs. Which pixels the direction loss keeps may depend on the
    model's output (`direction_area`): they are counted by `summed` over the parts that are computed at the same time,
    and the direction losses of the `turns` that follow each other are averaged.
    """

    pixels: Tensor  # all of them, ()
    valid: Tensor  # those with a label, ()
    edges: Tensor  # those of each boundary class, (2,)
    summed: Callable[[Tensor], Tensor]  # a count of this part -> that of all parts computed at the same time
    turns: int

    @classmethod
    def of(
        cls, label_BHW: Tensor, boundary_BHW: Tensor, *, summed: Callable[[Tensor], Tensor], turns: int = 1
    ) -> Whole:
        """Of this process's part of the targets, all its turns together, and those that `summed` knows of."""
        own = [torch.tensor([label_BHW.numel()], device=label_BHW.device), (label_BHW != NONE).sum().view(1)]
        counts = summed(torch.cat([*own, class_counts(boundary_BHW, 2)]))
        return cls(pixels=counts[0], valid=counts[1], edges=counts[2:], summed=summed, turns=turns)


def total_loss(
    output: Output,
    label_BHW: Tensor,
    boundary_BHW: Tensor,
    direction_BHW: Tensor,
    config: LossConfig,
    *,
    edge_threshold: Literal["probability", "logit"],
    whole: Whole | None = None,
) -> Losses:
    """Eq. 7 for one batch. Targets are int64; `edge_threshold` says which predicted pixels the refined term moves.

    With `whole` the targets are a part of a batch, and what is returned is its share of the batch's losses: the sum
    over all parts is the loss of the batch.

    The refined term's gradient reaches the segmentation logits only. It needs no second map of K channels: a pixel's
    refined cross-entropy is read from the log-probabilities of the pixel that the refinement takes it from.
    """
    count = ce_count(label_BHW, config, whole)
    if output.boundary is None or output.direction is None:
        ce = summed_cross_entropies(output.logits, label_BHW, bounded=config.bounded)[0] / count + _poison(
            output.logits
        )
        zero = torch.zeros_like(ce)
        return Losses(config.weight_ce * ce, ce, zero, zero, zero)

    size = (label_BHW.shape[1], label_BHW.shape[2])
    edge_logits = _upsample(output.boundary, size)
    direction_logits = _upsample(output.direction, size)
    source_BHW = source_pixels(edge_mask(edge_logits, edge_threshold), direction_logits)
    summed_2 = summed_cross_entropies(output.logits, label_BHW, source_BHW, bounded=config.bounded)
    ce, refined = summed_2 / count + _poison(output.logits)
    edges = None if whole is None else whole.edges
    boundary = _boundary_loss(edge_logits, boundary_BHW, edges) + _poison(output.boundary)
    inside_BHW = _direction_area(edge_logits, boundary_BHW, config)
    direction = _direction_loss(direction_logits, direction_BHW.where(inside_BHW, NONE), whole)
    direction = direction + _poison(output.direction)
    total = (
        config.weight_ce * ce
        + config.weight_refined * refined
        + config.weight_boundary * boundary
        + config.weight_direction * direction
    )
    return Losses(total, ce, refined, boundary, direction)


def ce_count(label_BHW: Tensor, config: LossConfig, whole: Whole | None) -> Tensor | int:
    """What a cross-entropy summed over pixels is divided by: the batch's pixels, or those with a label, at least 1."""
    if config.ce_average == "all":
        return label_BHW.numel() if whole is None else whole.pixels
    return ((label_BHW != NONE).sum() if whole is None else whole.valid).clamp(min=1)


def class_counts(target: Tensor, classes: int) -> Tensor:
    """The pixels of each class, int64 (classes,); those of no class do not count."""
    flat = target.flatten().clamp(max=classes)  # the last bin is for what does not count
    return flat.new_zeros(classes + 1).scatter_add_(0, flat, torch.ones_like(flat))[:classes]


def balanced_ce(logits_BCHW: Tensor, target_BHW: Tensor, whole_C: Tensor | None = None) -> Tensor:
    """Cross-entropy that weights each class by 1 - its share of the batch's pixels, over the summed weights of all.

    `whole_C` are the class counts of the batch where the target is a part of it. 0 where no pixel counts or all have
    the same class, whose weight would be 0.
    """
    counts = class_counts(target_BHW, logits_BCHW.shape[1]) if whole_C is None else whole_C
    counts = counts.to(logits_BCHW.dtype)
    weight = 1 - counts / counts.sum().clamp(min=1)
    loss = F.cross_entropy(logits_BCHW, target_BHW, weight, ignore_index=NONE, reduction="sum")
    norm = (weight * counts).sum()
    return torch.where(norm > 0, loss / norm.where(norm > 0, 1), 0)


def _boundary_loss(logits_BCHW: Tensor, target_BHW: Tensor, whole_2: Tensor | None) -> Tensor:
    """Balanced two-class cross-entropy, or for one channel the mean binary cross-entropy of the pixels that count."""
    if logits_BCHW.shape[1] == 2:
        return balanced_ce(logits_BCHW, target_BHW, whole_2)
    kept = target_BHW != NONE
    positive = (target_BHW == 1).to(logits_BCHW.dtype)
    losses = F.binary_cross_entropy_with_logits(logits_BCHW[:, 0], positive, reduction="none")
    return losses.where(kept, 0).sum() / (kept if whole_2 is None else whole_2).sum().clamp(min=1)


def _direction_loss(logits_BCHW: Tensor, kept_BHW: Tensor, whole: Whole | None) -> Tensor:
    """Balanced cross-entropy of the pixels that the target keeps."""
    if whole is None:
        return balanced_ce(logits_BCHW, kept_BHW)
    return balanced_ce(logits_BCHW, kept_BHW, whole.summed(class_counts(kept_BHW, logits_BCHW.shape[1]))) / whole.turns


def _direction_area(edge_logits_BCHW: Tensor, boundary_BHW: Tensor, config: LossConfig) -> Tensor:
    """Pixels whose direction is supervised: those the head sees as boundary, those that are, or those that are both."""
    predicted = edge_mask(edge_logits_BCHW, "probability")
    truth = boundary_BHW == 1
    return {"predicted": predicted, "truth": truth, "both": predicted & truth}[config.direction_area]


def _upsample(maps_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """A head's logits at the label's size, corners aligned, in float32 at least."""
    assert maps_BChw.shape[2:] == tuple(-(-side // STRIDE) for side in size), "logits must be at 1/8 of the label"
    with torch.autocast(maps_BChw.device.type, enabled=False):
        maps = maps_BChw.to(torch.promote_types(maps_BChw.dtype, torch.float32))
        return enlarged(maps, size, align_corners=True)


def _poison(logits: Tensor) -> Tensor:
    """0, or NaN where a logit is not finite: one that no pixel reads must not go unseen."""
    return torch.where(logits.detach().isfinite().all(), 0.0, torch.nan)
