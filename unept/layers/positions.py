"""Positions of tokens: sine encodings, pixel centres, and learned embeddings resized to another grid."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.ops import Shapes


def sine_encoding(height: int, width: int, channels: int, *, like: Tensor) -> Tensor:
    """Return the sine encoding of a map, (height * width, channels), read only.

    The first half of the channels encodes y, the second x; channel c of a half holds the sine (even c) or cosine (odd
    c) of 2 pi (i + 1) / (side + 1e-6) / 10000 ** (2 * (c // 2) / half).

    Args:
        height: Rows of the map.
        width: Columns of the map.
        channels: Channels of the encoding, a multiple of 4.
        like: Gives the dtype and the device.
    """
    assert channels % 4 == 0, channels
    return _made(_sine, (height, width, channels), like, like.dtype)


def pixel_centres(shapes: Shapes, *, like: Tensor) -> Tensor:
    """Return the pixel centres (x, y) of all levels as fractions of their map, (S, 2), in float32 at least.

    Read only.
    """
    return _made(
        _centres, tuple(tuple(shape) for shape in shapes), like, torch.promote_types(like.dtype, torch.float32)
    )


def _made(make: Callable[..., Tensor], sizes: tuple[Hashable, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the tensor that ``make`` computes for the sizes, on the device of ``like``, cached.

    A training asks for the same tensors at every step. A tracer gets a new tensor, since it does not know older ones.
    """
    if type(like) is not Tensor or torch.compiler.is_compiling():
        return make(*sizes).to(like.device, dtype)
    return _kept(make, sizes, like.device, dtype)


@lru_cache(maxsize=64)
def _kept(make: Callable[..., Tensor], sizes: tuple[Hashable, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):  # so that a training can use a tensor that an evaluation made
        return make(*sizes).to(device, dtype)


def _sine(height: int, width: int, channels: int) -> Tensor:
    half = channels // 2
    pair = torch.arange(half // 2, dtype=torch.float64)
    frequency = 10000.0 ** (-2 * pair / half)

    def axis(side: int) -> Tensor:
        angle = torch.arange(1, side + 1, dtype=torch.float64) / (side + 1e-6) * 2 * math.pi
        phase = angle[:, None] * frequency
        return torch.stack((phase.sin(), phase.cos()), dim=-1).flatten(1)

    y_HWC = axis(height)[:, None].expand(-1, width, -1)
    x_HWC = axis(width)[None].expand(height, -1, -1)
    return torch.cat((y_HWC, x_HWC), dim=-1).flatten(0, 1)


def _centres(*shapes: tuple[int, int]) -> Tensor:
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        x = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        levels.append(torch.stack((x.repeat(height), y.repeat_interleave(width)), dim=-1))
    return torch.cat(levels)


def resize_embedding(
    embedding_SC: Tensor, grid: tuple[int, int], target: tuple[int, int], mode: str = "bilinear"
) -> Tensor:
    """Resize a learned embedding of one grid to another, row-major.

    Args:
        embedding_SC: Embedding of rows * columns positions.
        grid: Its (rows, columns).
        target: (rows, columns) of the result.
        mode: Mode of F.interpolate, corners not aligned.

    Returns:
        (rows * columns, C); the embedding itself if the grids are equal.
    """
    if grid == target:
        return embedding_SC
    map_1CHW = embedding_SC.view(*grid, -1).permute(2, 0, 1)[None]
    resized = F.interpolate(map_1CHW, size=target, mode=mode, align_corners=False)
    return resized[0].flatten(1).transpose(0, 1)
