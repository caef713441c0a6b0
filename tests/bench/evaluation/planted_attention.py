"""Attentions of a user, planted to check the benchmark: one that is dense attention, and one that is half of it."""

from __future__ import annotations

import torch
from torch import Tensor

from unept.attention.multihead import DenseSelf
from unept.attention.scaled_dot_product import attend
from unept.ops import Shapes


class SameDense(DenseSelf):
    """Dense self-attention under another name."""


class HalfDense(DenseSelf):
    """Dense self-attention that samples the left half of each map alone.

    On `scenes:v2` with two emblems it sees one of the two boards: who uses it to the full is right about the objects
    that point to the left and guesses about the others, so that half of the context is left.
    """

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attention of every query over the tokens of the left halves, (B, S, H, D)."""
        columns = [torch.arange(width).repeat(height) * 2 < width for height, width in shapes]
        seen_1QK = torch.cat(columns)[None, None].expand(1, q_BSHD.shape[1], -1)
        return attend(q_BSHD, k_BSHD, v_BSHD, seen_1QK.to(q_BSHD.device), self.dropout_p)
