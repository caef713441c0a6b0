"""Multi-scale deformable attention in plain PyTorch: the truth that every kernel is tested against.

Shape legend: B batch, S tokens of all levels together, Q queries, H heads, D channels of a head, L levels,
P points of a level. Points are (x, y); pixel i of a row has its centre at i in pixels, at (i + .5) / W in fractions.
Half types are computed in single precision; on a CPU the result does not depend on chance.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Shapes = tuple[tuple[int, int], ...]
Total = Callable[[Tensor, Shapes, Tensor, Tensor], Tensor]

FAR = 1e4  # pixels; where a point goes that is not finite: outside every map


def msda(
    value_BSHD: Tensor,
    reference_Q2: Tensor,
    offsets_BQHLP2: Tensor,
    logits_BQHLP: Tensor,
    shapes: Shapes,
    *,
    total: Total | None = None,
) -> Tensor:
    """Compute multi-scale deformable attention from the outputs of the linear layers (paper, Eq. 4).

    The weights are the softmax of the logits over the levels and points of a head. A point of level l lies at its
    reference point plus its offset. A point whose offset is not finite contributes 0 and has no gradient; a logit of
    NaN or +inf makes its query's result NaN, one of -inf is a weight of 0.

    Args:
        value_BSHD: Values of the tokens of all levels.
        reference_Q2: Reference points (x, y) as fractions of the map.
        offsets_BQHLP2: Offsets (x, y) in pixels of each level.
        logits_BQHLP: Attention logits.
        shapes: (height, width) of each level.
        total: Way to sum up, `sum_by_grid` or `sum_by_matrix`; default: the faster one.

    Returns:
        (B, Q, H * D), in the type of the values.
    """
    reference_Q2 = reference_Q2.to(_wide(reference_Q2))
    # Points in pixels of their level; pixel i has its centre at i.
    start_QL12 = reference_Q2[:, None, None] * _sizes(shapes, reference_Q2) - 0.5
    # Softmax over the levels and points of a head.
    weights = logits_BQHLP.flatten(3).softmax(-1, dtype=_wide(logits_BQHLP)).view_as(logits_BQHLP)
    return _sum(value_BSHD, shapes, start_QL12[:, None] + offsets_BQHLP2, weights, total)


def sample(value_BSHD: Tensor, shapes: Shapes, locations_BQHLP2: Tensor, weights_BQHLP: Tensor) -> Tensor:
    """Return the weighted sum of bilinear samples, 0 outside the maps.

    Args:
        value_BSHD: Values of the tokens of all levels.
        shapes: (height, width) of each level.
        locations_BQHLP2: Locations (x, y) as fractions of each level's width and height.
        weights_BQHLP: Weights, used as they are.

    Returns:
        (B, Q, H * D).
    """
    return _sum(value_BSHD, shapes, locations_BQHLP2 * _sizes(shapes, locations_BQHLP2) - 0.5, weights_BQHLP)


def _sum(
    value_BSHD: Tensor, shapes: Shapes, pixels_BQHLP2: Tensor, weights_BQHLP: Tensor, total: Total | None = None
) -> Tensor:
    B, S, H, D = value_BSHD.shape
    assert sum(height * width for height, width in shapes) == S, f"{S} tokens do not fill the levels {shapes}"
    assert pixels_BQHLP2.shape == (*weights_BQHLP.shape, 2), (pixels_BQHLP2.shape, weights_BQHLP.shape)
    assert (weights_BQHLP.shape[0], weights_BQHLP.shape[2]) == (B, H), weights_BQHLP.shape
    assert weights_BQHLP.shape[3] == len(shapes), f"{weights_BQHLP.shape[3]} levels of weights for {shapes}"
    wide = _wide(value_BSHD)
    pixels = pixels_BQHLP2.to(wide).nan_to_num(nan=FAR, posinf=FAR, neginf=-FAR)
    samples = weights_BQHLP.shape[3] * weights_BQHLP.shape[4] * D
    small = value_BSHD.device.type == "cpu" and samples >= S
    by = total or (sum_by_matrix if small else sum_by_grid)
    return by(value_BSHD.to(wide), shapes, pixels, weights_BQHLP.to(wide)).to(value_BSHD.dtype)


def sum_by_grid(value_BSHD: Tensor, shapes: Shapes, pixels_BQHLP2: Tensor, weights_BQHLP: Tensor) -> Tensor:
    """Sample the channels of every point and add them up: for large maps.

    Args:
        value_BSHD: Values of the tokens of all levels.
        shapes: (height, width) of each level.
        pixels_BQHLP2: Points (x, y) in pixels of their level, all finite.
        weights_BQHLP: Weights, used as they are.

    Returns:
        (B, Q, H * D).
    """
    (B, _, H, D), (Q, P) = value_BSHD.shape, (weights_BQHLP.shape[1], weights_BQHLP.shape[4])
    grid_BQHLP2 = (2 * pixels_BQHLP2 + 1) / _sizes(shapes, pixels_BQHLP2) - 1
    out_NDQ = value_BSHD.new_zeros(B * H, D, Q)
    levels = value_BSHD.split([height * width for height, width in shapes], dim=1)
    for level, (height, width) in enumerate(shapes):
        maps_NDHW = levels[level].permute(0, 2, 3, 1).reshape(B * H, D, height, width)
        grid_NQP2 = grid_BQHLP2[:, :, :, level].transpose(1, 2).reshape(B * H, Q, P, 2)
        weights_N1QP = weights_BQHLP[:, :, :, level].transpose(1, 2).reshape(B * H, 1, Q, P)
        sampled_NDQP = F.grid_sample(maps_NDHW, grid_NQP2, padding_mode="zeros", align_corners=False)
        out_NDQ = out_NDQ + (sampled_NDQP * weights_N1QP).sum(-1)
    return out_NDQ.view(B, H * D, Q).transpose(1, 2)


def sum_by_matrix(value_BSHD: Tensor, shapes: Shapes, pixels_BQHLP2: Tensor, weights_BQHLP: Tensor) -> Tensor:
    """Add the points' weights up in a (Q, S) matrix and multiply by the values.

    That is 2 to 4 times faster for small maps on a CPU. It is chosen there if the matrix is no larger than the samples
    that `sum_by_grid` would hold.

    Args:
        value_BSHD: Values of the tokens of all levels.
        shapes: (height, width) of each level.
        pixels_BQHLP2: Points (x, y) in pixels of their level, all finite.
        weights_BQHLP: Weights, used as they are.

    Returns:
        (B, Q, H * D).
    """
    B, Q, H = weights_BQHLP.shape[:3]
    matrices = []
    for level, (height, width) in enumerate(shapes):
        x_BQHP, y_BQHP = pixels_BQHLP2[:, :, :, level].unbind(-1)
        columns, rows = _neighbours(x_BQHP, width, 1), _neighbours(y_BQHP, height, width)
        matrix_BQHS = value_BSHD.new_zeros(B, Q, H, height * width)
        for row, share_y in rows:
            weights_BQHP = share_y * weights_BQHLP[:, :, :, level]
            for column, share_x in columns:
                matrix_BQHS = matrix_BQHS.scatter_add_(3, row + column, share_x * weights_BQHP)
        matrices.append(matrix_BQHS)
    matrix_BHQS = torch.cat(matrices, dim=3).transpose(1, 2)
    with torch.autocast(value_BSHD.device.type, enabled=False):
        return (matrix_BHQS @ value_BSHD.transpose(1, 2)).transpose(1, 2).flatten(2)


def _neighbours(position: Tensor, side: int, step: int) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Return the two pixels around ``position`` along an axis of ``side`` pixels.

    Each is (index times ``step``, bilinear share), the share 0 outside the map.
    """
    with torch.no_grad():
        low = position.floor()
        below, above = low.clamp(0, side - 1), (low + 1).clamp(0, side - 1)
        below_inside, above_inside = (below == low).to(position.dtype), (above == low + 1).to(position.dtype)
    share = position - low
    return (below.long() * step, (1 - share) * below_inside), (above.long() * step, share * above_inside)


def materialised(
    reference_Q2: Tensor, offsets_BQHLP2: Tensor, logits_BQHLP: Tensor, shapes: Shapes
) -> tuple[Tensor, Tensor]:
    """Return locations and weights as other operators take them.

    Args:
        reference_Q2: Reference points (x, y) as fractions of the map.
        offsets_BQHLP2: Offsets (x, y) in pixels of each level.
        logits_BQHLP: Attention logits.
        shapes: (height, width) of each level.

    Returns:
        Locations (B, Q, H, L, P, 2) as fractions of the maps, and weights (B, Q, H, L, P).
    """
    locations_BQHLP2 = reference_Q2[:, None, None, None] + offsets_BQHLP2 / _sizes(shapes, reference_Q2)
    return locations_BQHLP2, logits_BQHLP.flatten(3).softmax(-1).view_as(logits_BQHLP)


def _wide(like: Tensor) -> torch.dtype:
    """Return the type that ``like`` is computed in: single precision at least."""
    return torch.promote_types(like.dtype, torch.float32)


def _sizes(shapes: Shapes, like: Tensor) -> Tensor:
    """Return (width, height) of each level, (L, 1, 2)."""
    return like.new_tensor([(width, height) for height, width in shapes])[:, None]
