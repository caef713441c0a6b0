"""Dot-product attention with the parameters of `torch.nn.MultiheadAttention`, over pixels, the batch or nothing.

The matrix of weights is materialised, so that its memory and its operations show in every measurement.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unept.ops import Shapes


class MultiHead(nn.Module):
    """Query, key, value and output projections with dot-product attention between them.

    Dropout on the attention weights.

    Args:
        width: Channels of the tokens, C = H * D.
        heads: Number of heads, H.
        dropout: Probability of dropping an attention weight in training.
    """

    def __init__(self, *, width: int = 256, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.xavier_uniform_(self.out_proj.weight)
        nn.init.zeros_(self.out_proj.bias)

    @property
    def dropout_p(self) -> float:
        """Probability of dropping an attention weight now: 0 in evaluation."""
        return self.dropout if self.training else 0.0

    def attend(self, query_BQC: Tensor, key_BSC: Tensor, value_BSC: Tensor) -> Tensor:
        """Attend from every query to all S keys of its batch element.

        Args:
            query_BQC: Inputs of the query projection.
            key_BSC: Inputs of the key projection.
            value_BSC: Inputs of the value projection.

        Returns:
            (B, Q, C), after the output projection.
        """
        return self.output(self.dense(*self.project(query_BQC, key_BSC, value_BSC)))

    def dense(self, q_BQHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor) -> Tensor:
        """Return softmax(q k^T / sqrt(D)) v for every query over all S keys, (B, Q, H, D)."""
        q, k, v = (x.transpose(1, 2) for x in (q_BQHD, k_BSHD, v_BSHD))
        scores_BHQS = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
        shares_BHQS = F.dropout(scores_BHQS.softmax(-1), self.dropout_p)
        return (shares_BHQS @ v).transpose(1, 2)

    def project(self, query_BQC: Tensor, key_BSC: Tensor, value_BSC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries (B, Q, H, D), keys and values (B, S, H, D) by the input projections."""
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = zip((query_BQC, key_BSC, value_BSC), weights, biases, strict=True)
        q, k, v = (F.linear(*arguments).unflatten(-1, (self.heads, -1)) for arguments in inputs)
        return q, k, v

    def output(self, attended_BQHD: Tensor) -> Tensor:
        """Return the output projection of the concatenated heads, (B, Q, C)."""
        return F.linear(attended_BQHD.flatten(2), self.out_proj.weight, self.out_proj.bias)


class MultiHeadSelf(MultiHead):
    """Self-attention whose subclass implements `mix`, the step between the projections."""

    @abstractmethod
    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attended values of each token, (B, S, H, D)."""

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Attend from every token to the tokens of its image.

        Args:
            tokens_BSC: Tokens of all levels.
            position_BSC: Position encoding, added to queries and keys but not to values; None for none.
            shapes: (height, width) of each level.

        Returns:
            (B, S, C).
        """
        assert sum(height * width for height, width in shapes) == tokens_BSC.shape[1]
        positioned_BSC = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        return self.output(self.mix(*self.project(positioned_BSC, positioned_BSC, tokens_BSC), shapes))


class DenseSelf(MultiHeadSelf):
    """Dense self-attention: every token attends to every token of its image, and the matrix of weights is stored."""

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attention of every query over all tokens, (B, S, H, D)."""
        del shapes
        return self.dense(q_BSHD, k_BSHD, v_BSHD)


class DenseCross(MultiHead):
    """Dense cross-attention: every query attends to every token of the memory."""

    def forward(self, queries_BQC: Tensor, memory_BSC: Tensor, query_shape: tuple[int, int], shapes: Shapes) -> Tensor:
        """Attend from every query to all memory tokens.

        Args:
            queries_BQC: Queries, row by row of the grid.
            memory_BSC: Tokens of all levels.
            query_shape: (rows, columns) of the query grid.
            shapes: (height, width) of each level.

        Returns:
            (B, Q, C).
        """
        assert query_shape[0] * query_shape[1] == queries_BQC.shape[1]
        assert sum(height * width for height, width in shapes) == memory_BSC.shape[1]
        return self.attend(queries_BQC, memory_BSC, memory_BSC)


class BatchSelf(MultiHead):
    """Self-attention of the released decoder: a pixel attends to the same pixel of the other images of the batch."""

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return (B, S, C); the result of an image depends on the other images of the batch."""
        assert sum(height * width for height, width in shapes) == tokens_BSC.shape[1]
        positioned_BSC = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        tokens_SBC, positioned_SBC = tokens_BSC.transpose(0, 1), positioned_BSC.transpose(0, 1)
        return self.attend(positioned_SBC, positioned_SBC, tokens_SBC).transpose(0, 1)


class PointwiseSelf(MultiHead):
    """Linear map of each pixel: equal to `BatchSelf` on a batch of one image.

    Its query and key projections are unused.
    """

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return (B, S, C); the position encoding is not used."""
        assert position_BSC is None or position_BSC.shape[1] == tokens_BSC.shape[1]
        assert sum(height * width for height, width in shapes) == tokens_BSC.shape[1]
        value = F.linear(tokens_BSC, self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2])
        return F.linear(value, self.out_proj.weight, self.out_proj.bias)
