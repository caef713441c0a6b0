"""The training loss (paper, Eq. 7): segmentation, refined segmentation, boundary and direction.

Axes: B images, K classes, H x W pixels of the label, h x w = H / 8 x W / 8 rounded up. In every target 255 means "not
here". No target makes a term NaN: a term without a pixel that counts is 0. A non-finite logit always does.

A batch may be computed in parts, by several processes or in micro-batches one after the other. `BatchTotals` carries
the pixel counts of the whole batch, which the denominators and class shares of the terms need; the losses of all parts
then add up to the loss of the batch.
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
from unept.losses import native_loss
from unept.losses.banded_cross_entropy import STRIDE, summed_cross_entropies, upsampled


class Output(Protocol):
    """Result of a model in training (`unept.model.Output`): logits at 1/8 of the image's size."""

    @property
    def logits(self) -> Tensor:
        """Segmentation logits, (B, K, h, w)."""

    @property
    def boundary(self) -> Tensor | None:
        """Logits of the boundary head, (B, 1, h, w) binary or (B, 2, h, w); None without the spatial branch."""

    @property
    def direction(self) -> Tensor | None:
        """Logits of the direction head, (B, 8, h, w); None without the spatial branch."""


class Losses(NamedTuple):
    """The weighted sum and its four unweighted terms, scalars; the last three are 0 without the heads."""

    total: Tensor
    ce: Tensor
    refined: Tensor
    boundary: Tensor
    direction: Tensor


@dataclass(frozen=True, kw_only=True)
class BatchTotals:
    """Pixel counts of the batch that one call of the loss sees a part of; int64, on the targets' device.

    The counts that depend on the labels alone are taken before the model runs. Which pixels the direction loss keeps
    may depend on the model's output (`direction_area`): `all_reduce_sum` counts them over the parts that are computed
    at the same time, and the direction losses of successive micro-batches are averaged.

    Attributes:
        pixels: All pixels, ().
        valid: Pixels with a label, ().
        edges: Pixels of each boundary class, (2,).
        all_reduce_sum: Maps a count of this part to its sum over all parts that are computed at the same time.
        micro_batches: Parts that one process computes one after the other.
    """

    pixels: Tensor
    valid: Tensor
    edges: Tensor
    all_reduce_sum: Callable[[Tensor], Tensor]
    micro_batches: int

    @classmethod
    def from_targets(
        cls,
        label_BHW: Tensor,
        boundary_BHW: Tensor,
        *,
        all_reduce_sum: Callable[[Tensor], Tensor],
        micro_batches: int = 1,
    ) -> BatchTotals:
        """Count the pixels of the batch.

        Args:
            label_BHW: Labels of this process, all its micro-batches together, int64.
            boundary_BHW: Boundary targets of the same pixels, int64.
            all_reduce_sum: Sums a tensor of counts over the processes.
            micro_batches: Parts that this process computes one after the other.
        """
        pixels = torch.tensor([label_BHW.numel()], device=label_BHW.device)
        valid = (label_BHW != NONE).sum().view(1)
        counts = all_reduce_sum(torch.cat([pixels, valid, class_counts(boundary_BHW, 2)]))
        return cls(
            pixels=counts[0],
            valid=counts[1],
            edges=counts[2:],
            all_reduce_sum=all_reduce_sum,
            micro_batches=micro_batches,
        )


def total_loss(
    output: Output,
    label_BHW: Tensor,
    boundary_BHW: Tensor,
    direction_BHW: Tensor,
    config: LossConfig,
    *,
    edge_threshold: Literal["probability", "logit"],
    totals: BatchTotals | None = None,
) -> Losses:
    """Compute Eq. 7 for one batch, or for a part of one.

    The gradient of the refined term reaches the segmentation logits only. The term needs no second map of K channels: a
    pixel's refined cross-entropy is read from the log-probabilities of the pixel that the refinement takes it from.

    Args:
        output: Logits of the model in training, at 1/8 of the label's size.
        label_BHW: Class of each pixel, int64, 255 = ignore.
        boundary_BHW: 1 at a boundary, 0 elsewhere, 255 = ignore; int64.
        direction_BHW: Direction 0 to 7 towards the inside of the object, 255 = ignore; int64.
        config: Weights of the terms and what they average over.
        edge_threshold: Which predicted pixels the refined term moves; see `edge_mask`.
        totals: Counts of the whole batch where the targets are a part of it. What is returned is then this part's share
            of the batch's losses: the sum over all parts is the loss of the batch.
    """
    targets = (label_BHW, boundary_BHW, direction_BHW)
    if totals is None and native_loss.suits(output, label_BHW, config):
        ce, refined, boundary, direction = native_loss.terms(output, targets, config, edge_threshold)
    else:
        ce, refined, boundary, direction = terms(output, targets, config, edge_threshold=edge_threshold, totals=totals)
    total = (
        config.weight_ce * ce
        + config.weight_refined * refined
        + config.weight_boundary * boundary
        + config.weight_direction * direction
    )
    return Losses(total, ce, refined, boundary, direction)


def terms(
    output: Output,
    targets_BHW: tuple[Tensor, Tensor, Tensor],
    config: LossConfig,
    *,
    edge_threshold: Literal["probability", "logit"],
    totals: BatchTotals | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the four terms in plain PyTorch: segmentation, refined, boundary, direction; the last three 0 without
    the heads.

    Args:
        output: As for `total_loss`, like all that follow.
        targets_BHW: Label, boundary and direction.
        config: Supervision.
        edge_threshold: Which predicted pixels the refined term moves.
        totals: Counts of the whole batch where the targets are a part of it.
    """
    label_BHW, boundary_BHW, direction_BHW = targets_BHW

    # 1. Without the heads: the cross-entropy alone.
    count = ce_count(label_BHW, config, totals)
    if output.boundary is None or output.direction is None:
        summed_1 = summed_cross_entropies(output.logits, label_BHW, bounded=config.bounded)
        ce = summed_1[0] / count + _nan_unless_finite(output.logits)
        zero = torch.zeros_like(ce)
        return ce, zero, zero, zero

    # 2. The heads' logits at the label's size, and the pixel that the refinement reads for each pixel.
    size = (label_BHW.shape[1], label_BHW.shape[2])
    edge_logits = _upsample_head(output.boundary, size)  # (B, 1 or 2, H, W)
    direction_logits = _upsample_head(output.direction, size)  # (B, 8, H, W)
    source_BHW = source_pixels(edge_mask(edge_logits, edge_threshold), direction_logits)

    # 3. Both cross-entropies from one map of log-probabilities.
    summed_2 = summed_cross_entropies(output.logits, label_BHW, source_BHW, bounded=config.bounded)
    ce, refined = summed_2 / count + _nan_unless_finite(output.logits)

    # 4. Boundary and direction, the latter where the configuration supervises it.
    edges = None if totals is None else totals.edges
    boundary = _boundary_loss(edge_logits, boundary_BHW, edges) + _nan_unless_finite(output.boundary)
    inside_BHW = _direction_area(edge_logits, boundary_BHW, config)
    direction = _direction_loss(direction_logits, direction_BHW.where(inside_BHW, NONE), totals)
    direction = direction + _nan_unless_finite(output.direction)
    return ce, refined, boundary, direction


def ce_count(label_BHW: Tensor, config: LossConfig, totals: BatchTotals | None) -> Tensor | int:
    """Return the denominator of a cross-entropy summed over pixels.

    Args:
        label_BHW: Labels of this part, int64, 255 = ignore.
        config: ``ce_average`` "all" counts all pixels, "valid" those with a label.
        totals: Counts of the whole batch if the labels are a part of it.

    Returns:
        The number of pixels, at least 1 where only those with a label count.
    """
    if config.ce_average == "all":
        return label_BHW.numel() if totals is None else totals.pixels
    return ((label_BHW != NONE).sum() if totals is None else totals.valid).clamp(min=1)


def class_counts(target: Tensor, classes: int) -> Tensor:
    """Count the pixels of each class, int64 (classes,); ignored pixels do not count."""
    flat = target.flatten().clamp(max=classes)  # the last bin is for what does not count
    return flat.new_zeros(classes + 1).scatter_add_(0, flat, torch.ones_like(flat))[:classes]


def balanced_ce(logits_BCHW: Tensor, target_BHW: Tensor, counts_C: Tensor | None = None) -> Tensor:
    """Cross-entropy in which a class weighs 1 - its share of the batch's pixels, over the summed weights of all pixels.

    Args:
        logits_BCHW: Logits of C classes.
        target_BHW: Classes, int64, 255 = ignore.
        counts_C: Class counts of the batch where the target is a part of it.

    Returns:
        A scalar; 0 where no pixel counts or all pixels have the same class, whose weight would be 0.
    """
    counts = class_counts(target_BHW, logits_BCHW.shape[1]) if counts_C is None else counts_C
    counts = counts.to(logits_BCHW.dtype)
    weight = 1 - counts / counts.sum().clamp(min=1)
    loss = F.cross_entropy(logits_BCHW, target_BHW, weight, ignore_index=NONE, reduction="sum")
    norm = (weight * counts).sum()
    return torch.where(norm > 0, loss / norm.where(norm > 0, 1), 0)


def _boundary_loss(logits_BCHW: Tensor, target_BHW: Tensor, counts_2: Tensor | None) -> Tensor:
    """Balanced two-class cross-entropy, or for one channel the mean binary cross-entropy of the pixels that count."""
    if logits_BCHW.shape[1] == 2:
        return balanced_ce(logits_BCHW, target_BHW, counts_2)
    kept = target_BHW != NONE
    positive = (target_BHW == 1).to(logits_BCHW.dtype)
    losses = F.binary_cross_entropy_with_logits(logits_BCHW[:, 0], positive, reduction="none")
    return losses.where(kept, 0).sum() / (kept if counts_2 is None else counts_2).sum().clamp(min=1)


def _direction_loss(logits_BCHW: Tensor, kept_BHW: Tensor, totals: BatchTotals | None) -> Tensor:
    """Balanced cross-entropy of the pixels that the target keeps."""
    if totals is None:
        return balanced_ce(logits_BCHW, kept_BHW)
    return (
        balanced_ce(logits_BCHW, kept_BHW, totals.all_reduce_sum(class_counts(kept_BHW, logits_BCHW.shape[1])))
        / totals.micro_batches
    )


def _direction_area(edge_logits_BCHW: Tensor, boundary_BHW: Tensor, config: LossConfig) -> Tensor:
    """Mask of the pixels whose direction is supervised: predicted boundary, true boundary, or both."""
    predicted = edge_mask(edge_logits_BCHW, "probability")
    truth = boundary_BHW == 1
    return {"predicted": predicted, "truth": truth, "both": predicted & truth}[config.direction_area]


def _upsample_head(maps_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample a head's logits to the label's size, corners aligned, in float32 at least."""
    assert maps_BChw.shape[2:] == tuple(-(-side // STRIDE) for side in size), "logits must be at 1/8 of the label"
    with torch.autocast(maps_BChw.device.type, enabled=False):
        maps = maps_BChw.to(torch.promote_types(maps_BChw.dtype, torch.float32))
        return upsampled(maps, size, align_corners=True)


def _nan_unless_finite(logits: Tensor) -> Tensor:
    """Return 0, or NaN where a logit is not finite: one that no pixel reads must not go unseen."""
    return torch.where(logits.detach().isfinite().all(), 0.0, torch.nan)
