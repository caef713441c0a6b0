"""Boundary refinement: a pixel on a predicted edge takes the logits of its inner neighbour (paper, section 3.2).

Axes: B images, K classes, H x W pixels, h x w the heads' grid (1/8).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import OFFSETS


def edge_mask(boundary_BCHW: Tensor, threshold: Literal["probability", "logit"]) -> Tensor:
    """Return the pixels that the boundary head predicts as edges: bool (B, H, W).

    Args:
        boundary_BCHW: One channel is the logit of a binary head, two are the logits of (no boundary, boundary).
        threshold: "probability": the boundary probability exceeds 0.5. "logit": the raw boundary logit exceeds 0.5, as
            released.
    """
    assert boundary_BCHW.shape[1] in (1, 2), "a boundary head has one or two channels"
    if threshold == "logit":
        return boundary_BCHW[:, -1] > 0.5
    if boundary_BCHW.shape[1] == 1:
        return boundary_BCHW[:, 0] > 0
    return boundary_BCHW[:, 1] > boundary_BCHW[:, 0]


@torch.no_grad()
def source_pixels(edge_BHW: Tensor, direction_B8HW: Tensor) -> Tensor:
    """Return the pixel that each pixel takes its logits from: int64 (B, H, W), row * W + column.

    At an edge that is the neighbour in the direction of the largest logit, clamped to the image; elsewhere the pixel
    itself.

    Args:
        edge_BHW: True at edges.
        direction_B8HW: Logits of the eight directions of `unept.boundary.OFFSETS`.
    """
    height, width = edge_BHW.shape[1:]
    device = edge_BHW.device
    dy, dx = torch.tensor([*OFFSETS, (0, 0)], device=device).unbind(1)
    choice_BHW = direction_B8HW.max(1).indices.masked_fill(~edge_BHW, len(OFFSETS))  # argmax is slow over channels
    row_BHW = (torch.arange(height, device=device).unsqueeze(1) + dy[choice_BHW]).clamp_(0, height - 1)
    column_BHW = (torch.arange(width, device=device) + dx[choice_BHW]).clamp_(0, width - 1)
    return row_BHW * width + column_BHW


def refine(
    logits_BKHW: Tensor, boundary_BChw: Tensor, direction_B8hw: Tensor, threshold: Literal["probability", "logit"]
) -> Tensor:
    """Replace the logits at predicted edges by those of the inner neighbour (paper, section 3.2).

    Both heads' logits are first upsampled to H x W (bilinear, corners aligned, as they are trained). Offsets are whole
    pixels, so this equals sampling the shifted grid with border padding exactly. The gradient reaches the segmentation
    logits only.

    Args:
        logits_BKHW: Segmentation logits.
        boundary_BChw: Logits of the boundary head, C = 1 or 2.
        direction_B8hw: Logits of the direction head.
        threshold: As in `edge_mask`.

    Returns:
        Refined logits, (B, K, H, W).
    """
    size = logits_BKHW.shape[2:]
    boundary, direction = (
        F.interpolate(maps.detach(), size=size, mode="bilinear", align_corners=True)
        for maps in (boundary_BChw, direction_B8hw)
    )
    source_BHW = source_pixels(edge_mask(boundary, threshold), direction)
    index = source_BHW.flatten(1).unsqueeze(1).expand(-1, logits_BKHW.shape[1], -1)
    return logits_BKHW.flatten(2).gather(2, index).view_as(logits_BKHW)
