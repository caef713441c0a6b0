"""Attention to a window around each token of a map, as dense products between tiles and their surroundings.

A map is cut into tiles of queries; the keys of a tile are the tile with a margin of half a window around it. What lies
in such a rectangle and not in a query's own window is masked, so the work is that of the rectangles: about one and a
half times the windows' in one dimension, about twice in two. No matrix between all tokens exists at any time.
A dilation of d deals the map out into d x d maps that are attended for themselves; a sequence is a map of one row.

Shape legend, beside the usual: G maps dealt out, T tiles of each, t queries of a tile, k keys of its rectangle.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.attention.scaled_dot_product import product

LEAST_TILE = {1: 32, 2: 8}  # queries along an axis, by the number of axes that have a window


@dataclass(frozen=True, kw_only=True)
class Window:
    """Half the window's (height, width) in steps of the dilation, the dilation, and the dropout probability."""

    half: tuple[int, int]
    dilation: int
    dropout: float


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """One axis of a dealt-out map: number of tiles, queries in a tile, and the margin of keys on each side."""

    tiles: int
    side: int
    margin: int

    @property
    def keys(self) -> int:
        """Keys of a rectangle along this axis."""
        return self.side + 2 * self.margin


def tiling(length: int, half: int, axes: int) -> Tiling:
    """Choose tiles for an axis of ``length`` tokens; one tile without a margin if its keys would be all of them.

    Args:
        length: Tokens along the axis.
        half: Half the window along the axis, in tokens.
        axes: Number of axes that have a window, 1 or 2.
    """
    side = min(length, max(half, LEAST_TILE[axes]))
    if side + 2 * half >= length:
        return Tiling(tiles=1, side=length, margin=0)
    return Tiling(tiles=-(-length // side), side=side, margin=half)


def windowed(
    q_BSHD: Tensor,
    k_BSHD: Tensor,
    v_BSHD: Tensor,
    shape: tuple[int, int],
    window: Window,
    extra: list[Tensor] | None = None,
    hidden: list[int] | None = None,
) -> Tensor:
    """Attend from every token of a map to the window around it.

    Args:
        q_BSHD: Queries, row by row.
        k_BSHD: Keys.
        v_BSHD: Values.
        shape: (height, width) of the map.
        window: Size and dilation of the window, and dropout.
        extra: Keys and values (B, G, H, D) that every token sees in addition.
        hidden: Indices of tokens that no window shows (the extra ones, so that they count once).

    Returns:
        (B, S, H, D).
    """
    B, _, H, _ = q_BSHD.shape
    step = (window.dilation if window.half[0] else 1, window.dilation if window.half[1] else 1)
    axes = sum(half > 0 for half in window.half)
    cuts = [
        tiling(-(-length // stride), half, axes) for length, stride, half in zip(shape, step, window.half, strict=True)
    ]
    # Cut queries into tiles, and keys and values into rectangles that include the tile's surroundings.
    q = _tiles(_deal(q_BSHD, shape, step, cuts), cuts, margin=False)  # (G * T, B * H, t, D)
    k, v = (_tiles(_deal(x, shape, step, cuts), cuts, margin=True) for x in (k_BSHD, v_BSHD))
    seen = _seen(shape, step, cuts, window.half, hidden or [], q.device)  # (G * T or 1, 1, t, k)

    # Append the tokens that every query sees.
    if extra is not None:
        k, v = (
            torch.cat((extra_part.permute(0, 2, 1, 3).flatten(0, 1).expand(len(x), -1, -1, -1), x), dim=2)
            for extra_part, x in zip(extra, (k, v), strict=True)
        )
        if seen is not None:
            seen = F.pad(seen, (extra[0].shape[1], 0), value=True)

    # Attend within the rectangles and put the tiles back together.
    attended = product(q, k, v, seen, window.dropout)  # (G * T, B * H, t, D)
    return _gather(attended.unflatten(1, (B, H)), shape, step, cuts)


def _deal(x_BSHD: Tensor, shape: tuple[int, int], step: tuple[int, int], cuts: list[Tiling]) -> Tensor:
    """Deal a map out into the maps of a dilation, padded to whole tiles: (G, B * H, rows, columns, D)."""
    B, _, H, D = x_BSHD.shape
    rows, columns = (cut.tiles * cut.side for cut in cuts)
    bottom, right = rows * step[0] - shape[0], columns * step[1] - shape[1]
    x = F.pad(x_BSHD.view(B, *shape, H, D), (0, 0, 0, 0, 0, right, 0, bottom))
    x = x.view(B, rows, step[0], columns, step[1], H, D)
    return x.permute(2, 4, 0, 5, 1, 3, 6).reshape(step[0] * step[1], B * H, rows, columns, D)


def _tiles(x_GNRCD: Tensor, cuts: list[Tiling], *, margin: bool) -> Tensor:
    """Cut maps into tiles of queries, or into rectangles of keys: (G * T, N, t or k, D)."""
    down, across = cuts
    if margin:
        x_GNRCD = F.pad(x_GNRCD, (0, 0, across.margin, across.margin, down.margin, down.margin))
    sizes = [cut.keys if margin else cut.side for cut in cuts]
    x = x_GNRCD.unfold(2, sizes[0], down.side).unfold(3, sizes[1], across.side)  # (G, N, T, T', D, rows, columns)
    return x.permute(0, 2, 3, 1, 5, 6, 4).flatten(0, 2).flatten(2, 3)


def _seen(
    shape: tuple[int, int],
    step: tuple[int, int],
    cuts: list[Tiling],
    half: tuple[int, int],
    hidden: list[int],
    device: torch.device,
) -> Tensor | None:
    """Return which keys of its rectangle a query sees, (G * T, 1, t, k) or (1, 1, t, k); None if it sees all of them.

    A query that is padding sees everything, so that no row is empty; its result is dropped.
    """
    near = [_near(cut, span, device) for cut, span in zip(cuts, half, strict=True)]
    band = (near[0][:, None, :, None] & near[1][None, :, None, :]).flatten(2).flatten(0, 1)
    whole = all(length == cut.tiles * cut.side * span for length, cut, span in zip(shape, cuts, step, strict=True))
    if whole and not hidden and not any(cut.margin for cut in cuts):
        narrow = any(span < cut.side - 1 for cut, span in zip(cuts, half, strict=True))
        return band[None, None] if narrow else None
    real = torch.ones(shape[0] * shape[1], device=device, dtype=torch.bool)
    shown = real.clone()
    shown[hidden] = False
    queries, keys = (
        _tiles(_deal(x.view(1, -1, 1, 1), shape, step, cuts), cuts, margin=margin)[..., 0]
        for x, margin in ((real, False), (shown, True))
    )
    return (band & keys[:, :, None]) | ~queries[..., None]


def _near(cut: Tiling, half: int, device: torch.device) -> Tensor:
    """Return a mask (side, keys) of one axis: True if the key is within half a window of the query."""
    query = torch.arange(cut.side, device=device)[:, None]
    key = torch.arange(cut.keys, device=device) - cut.margin
    return (query - key).abs() <= half


def _gather(attended: Tensor, shape: tuple[int, int], step: tuple[int, int], cuts: list[Tiling]) -> Tensor:
    """Put the results of the tiles (G * T, B, H, t, D) into the order of the tokens; (B, S, H, D)."""
    down, across = cuts
    _, B, H, _, D = attended.shape
    x = attended.view(step[0], step[1], down.tiles, across.tiles, B, H, down.side, across.side, D)
    x = x.permute(4, 2, 6, 0, 3, 7, 1, 5, 8)  # (B, tiles, rows, deals, tiles, columns, deals, H, D)
    rows, columns = down.tiles * down.side * step[0], across.tiles * across.side * step[1]
    return x.reshape(B, rows, columns, H, D)[:, : shape[0], : shape[1]].flatten(1, 2)
