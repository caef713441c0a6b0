"""The training loss (paper, Eq. 7): segmentation, refined segmentation, boundary and direction.

Axes: B images, K classes, H x W pixels of the label, h x w = H / 8 x W / 8 rounded up. In every target 255 means "not
here". No target makes a term NaN: a term without a pixel that counts is 0. A non-finite logit always does.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import NONE
from unept.config import LossConfig
from unept.full_resolution import STRIDE, enlarged, summed_cross_entropies
from unept.refinement import edge_mask, source_pixels


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


def total_loss(
    output: Output,
    label_BHW: Tensor,
    boundary_BHW: Tensor,
    direction_BHW: Tensor,
    config: LossConfig,
    *,
    edge_threshold: Literal["probability", "logit"],
) -> Losses:
    """Eq. 7 for one batch. Targets are int64; `edge_threshold` says which predicted pixels the refined term moves.

    The refined term's gradient reaches the segmentation logits only. It needs no second map of K channels: a pixel's
    refined cross-entropy is read from the log-probabilities of the pixel that the refinement takes it from.
    """
    count = label_BHW.numel() if config.ce_average == "all" else (label_BHW != NONE).sum().clamp(min=1)
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
    boundary = _boundary_loss(edge_logits, boundary_BHW) + _poison(output.boundary)
    inside_BHW = _direction_area(edge_logits, boundary_BHW, config)
    direction = balanced_ce(direction_logits, direction_BHW.where(inside_BHW, NONE)) + _poison(output.direction)
    total = (
        config.weight_ce * ce
        + config.weight_refined * refined
        + config.weight_boundary * boundary
        + config.weight_direction * direction
    )
    return Losses(total, ce, refined, boundary, direction)


def balanced_ce(logits_BCHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Cross-entropy that weights each class by 1 - its share of the batch's pixels, over the summed weights of all.

    0 where no pixel counts or all have the same class, whose weight would be 0.
    """
    classes = logits_BCHW.shape[1]
    flat = target_BHW.flatten().clamp(max=classes)  # the last bin is for what does not count
    counts = logits_BCHW.new_zeros(classes + 1, dtype=torch.int64).scatter_add_(0, flat, torch.ones_like(flat))
    counts = counts[:classes].to(logits_BCHW.dtype)
    weight = 1 - counts / counts.sum().clamp(min=1)
    loss = F.cross_entropy(logits_BCHW, target_BHW, weight, ignore_index=NONE, reduction="sum")
    norm = (weight * counts).sum()
    return torch.where(norm > 0, loss / norm.where(norm > 0, 1), 0)


def _boundary_loss(logits_BCHW: Tensor, target_BHW: Tensor) -> Tensor:
    """Balanced two-class cross-entropy, or for one channel the mean binary cross-entropy of the pixels that count."""
    if logits_BCHW.shape[1] == 2:
        return balanced_ce(logits_BCHW, target_BHW)
    kept = target_BHW != NONE
    positive = (target_BHW == 1).to(logits_BCHW.dtype)
    losses = F.binary_cross_entropy_with_logits(logits_BCHW[:, 0], positive, reduction="none")
    return losses.where(kept, 0).sum() / kept.sum().clamp(min=1)


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
