"""Attentions of a user, planted to check the benchmark: dense attention, and dense attention with half its samples."""

from __future__ import annotations

import torch
from torch import Tensor

from unept.attention.multihead import DenseSelf
from unept.attention.scaled_dot_product import attend
from unept.ops import Shapes


class SameDense(DenseSelf):
    """Dense self-attention under another name."""


class InnerDense(DenseSelf):
    """Dense self-attention whose samples in the outer quarters of each map, left and right, are masked: half of them.

    The boards of `scenes:v2` stand in these quarters, so that nothing of the context is left. A token samples itself.
    """

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attention of every query over the tokens of the inner halves, (B, S, H, D)."""
        columns = [(torch.arange(width).repeat(height) + 0.5) / width for height, width in shapes]
        inner_S = (torch.cat(columns) - 0.5).abs() < 0.25
        seen_1QK = (inner_S[None] | torch.eye(len(inner_S), dtype=torch.bool))[None].to(q_BSHD.device)
        return attend(q_BSHD, k_BSHD, v_BSHD, seen_1QK, self.dropout_p)
