"""The product of many small attentions at once, and the cutting of a sequence into the blocks that take part in it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.ops import Shapes


def attend(q_NQHD: Tensor, k_NKHD: Tensor, v_NKHD: Tensor, seen_NQK: Tensor | None, dropout: float) -> Tensor:
    """N attentions beside each other, by torch's own product; (N, Q, H, D).

    ``seen_NQK`` tells which keys a query sees, of size (N or 1, Q or 1, K), True where it does and at least once in a
    row; None where it sees all. ``dropout`` acts on the weights (0 in evaluation); with it torch's product for a CPU
    keeps them all, without it none.
    """
    q, k, v = (blocks.transpose(1, 2) for blocks in (q_NQHD, k_NKHD, v_NKHD))
    mask = None if seen_NQK is None else seen_NQK[:, None]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2)


def pieces(shapes: Shapes, *, joint: bool) -> list[tuple[int, int]]:
    """(length, width of a row) of each sequence that is attended for itself: the levels, or all of them as one.

    The joint sequence has the row of its first level.
    """
    if joint:
        return [(sum(height * width for height, width in shapes), shapes[0][1])]
    return [(height * width, width) for height, width in shapes]


def pad(x_BSHD: Tensor, multiple: int) -> Tensor:
    """Zeros at the end of the sequence, up to a multiple."""
    return F.pad(x_BSHD, (0, 0, 0, 0, 0, -x_BSHD.shape[1] % multiple))


def real_tokens(length: int, multiple: int, like: Tensor) -> Tensor:
    """(rows, multiple): False for what `pad` adds to a sequence of ``length``."""
    rows = -(-length // multiple)
    return (torch.arange(rows * multiple, device=like.device) < length).view(rows, multiple)
