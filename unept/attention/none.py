"""No attention: the control of every comparison. The slot adds 0; the layer's residual and norm stay."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.ops import Shapes


class NoSelfAttention(nn.Module):
    """Self-attention slot that contributes 0."""

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return zeros, (B, S, C)."""
        del position_BSC, shapes
        return torch.zeros_like(tokens_BSC)


class NoCrossAttention(nn.Module):
    """Cross-attention slot that contributes 0: the decoder sees its queries alone."""

    def forward(self, queries_BQC: Tensor, memory_BSC: Tensor, query_shape: tuple[int, int], shapes: Shapes) -> Tensor:
        """Return zeros, (B, Q, C)."""
        del memory_BSC, query_shape, shapes
        return torch.zeros_like(queries_BQC)
