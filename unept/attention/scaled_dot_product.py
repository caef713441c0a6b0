"""Scaled dot-product attention of many small sequences at once, and helpers that cut a sequence into blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.attention import recomputed_block
from unept.ops import Shapes
from unept.utils import rng

PARTS = 64  # blocks of a product, about, at most: larger ones are taken then


def attend(q_NQHD: Tensor, k_NKHD: Tensor, v_NKHD: Tensor, seen_NQK: Tensor | None, dropout: float) -> Tensor:
    """Compute N attentions beside each other, heads in the third axis.

    Args:
        q_NQHD: Queries.
        k_NKHD: Keys.
        v_NKHD: Values.
        seen_NQK: True where a query sees a key, (N or 1, Q or 1, K), at least once in a row; None if it sees all.
        dropout: Probability of dropping a weight; 0 in evaluation.

    Returns:
        (N, Q, H, D).
    """
    q, k, v = (x.transpose(1, 2) for x in (q_NQHD, k_NKHD, v_NKHD))
    return product(q, k, v, None if seen_NQK is None else seen_NQK[:, None], dropout).transpose(1, 2)


def product(q_NHQD: Tensor, k_NHKD: Tensor, v_NHKD: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
    """Compute N attentions of H heads by torch's product, heads in the second axis.

    With dropout on a CPU torch's product stores all weights. If they are larger than a block they are recomputed for
    the gradient, one block at a time; the result is then differentiable once.

    Args:
        q_NHQD: Queries.
        k_NHKD: Keys.
        v_NHKD: Values.
        seen: Mask as in `attend`, with an axis of 1 for the heads.
        dropout: Probability of dropping a weight; 0 in evaluation.

    Returns:
        (N, H, Q, D).
    """
    if dropout and q_NHQD.device.type == "cpu" and q_NHQD[..., 0].numel() * k_NHKD.shape[2] > recomputed_block.MOST:
        return _Recomputed.apply(q_NHQD * q_NHQD.shape[-1] ** -0.5, k_NHKD, v_NHKD, seen, dropout)
    return F.scaled_dot_product_attention(q_NHQD, k_NHKD, v_NHKD, attn_mask=seen, dropout_p=dropout)


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None, dropout: float) -> Tensor:
        ctx.random, ctx.dropout = rng.get_rng_state(q), dropout
        attended = v.new_empty(q.shape[:3] + v.shape[3:])
        total = q.new_empty(q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32))
        for images, rows in _parts(q, k):
            qkv = _flat(q[images, :, rows], k[images], v[images])
            result, size = recomputed_block.forward(*qkv, bias=_bias(seen, images, rows, q), dropout=dropout)
            attended[images, :, rows], total[images, :, rows] = (
                x.unflatten(0, (-1, q.shape[1])) for x in (result, size)
            )
        ctx.save_for_backward(q, k, v, seen, attended, total)
        return attended

    @staticmethod
    @recomputed_block.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Any:
        q, k, v, seen, attended, total = ctx.saved_tensors
        shared = (gradient * attended).sum(-1, dtype=total.dtype)
        grads = [torch.zeros_like(x) for x in (q, k, v)]
        with rng.replay_rng(ctx.random, q):
            for images, rows in _parts(q, k):
                qkv = _flat(q[images, :, rows], k[images], v[images])
                arguments = _flat(gradient[images, :, rows], shared[images, :, rows], total[images, :, rows])
                parts = recomputed_block.backward(
                    *arguments, qkv=qkv, bias=_bias(seen, images, rows, q), dropout=ctx.dropout
                )
                targets = (grads[0][images, :, rows], grads[1][images], grads[2][images])
                for target, part in zip(targets, parts, strict=True):
                    target.add_(part.unflatten(0, (-1, q.shape[1])))
        return *grads, None, None


def _parts(q_NHQD: Tensor, k_NHKD: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield slices of N and Q that make up one block: several of the N, or some queries of one of them."""
    N, H, Q, _ = q_NHQD.shape
    scores = H * k_NHKD.shape[2]
    limit = max(recomputed_block.MOST, N * Q * scores // PARTS)
    rows = min(Q, max(1, limit // scores))
    step = max(1, limit // (scores * Q))
    for start in range(0, N, step):
        for first in range(0, Q, rows):
            yield slice(start, start + step), slice(first, first + rows)


def _flat(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x.flatten(0, 1), y.flatten(0, 1), z.flatten(0, 1)


def _bias(seen: Tensor | None, images: slice, rows: slice, like_NHQD: Tensor) -> Tensor | None:
    """Return 0 where a key is seen and minus infinity elsewhere, for one block; (N * H, Q or 1, K)."""
    if seen is None:
        return None
    part = seen if len(seen) == 1 else seen[images]
    part = part if part.shape[2] == 1 else part[:, :, rows]
    bias = torch.zeros(part.shape, dtype=like_NHQD.dtype, device=like_NHQD.device).masked_fill_(~part, -torch.inf)
    return bias.expand(len(like_NHQD[images]), like_NHQD.shape[1], -1, -1).flatten(0, 1)


def pieces(shapes: Shapes, *, joint: bool) -> list[tuple[int, int]]:
    """Return (length, width of a row) of each sequence that attends to itself: the levels, or all of them as one.

    The joint sequence has the row width of its first level.
    """
    if joint:
        return [(sum(height * width for height, width in shapes), shapes[0][1])]
    return [(height * width, width) for height, width in shapes]


def pad(x_BSHD: Tensor, multiple: int) -> Tensor:
    """Append zeros to the sequence, up to a multiple of ``multiple``."""
    return F.pad(x_BSHD, (0, 0, 0, 0, 0, -x_BSHD.shape[1] % multiple))


def real_tokens(length: int, multiple: int, like: Tensor) -> Tensor:
    """Return a mask (rows, multiple) of a padded sequence of ``length``: False for what `pad` adds."""
    rows = -(-length // multiple)
    return (torch.arange(rows * multiple, device=like.device) < length).view(rows, multiple)
