"""Sparse Transformer attention (Child et al. 2019, section 4), without its causal order.

Two sets of keys, each of the order of the square root of the length, chosen so that two steps reach everything.

``strided`` (their pattern for images): a token sees its own row, and the tokens that lie a multiple of the stride from
it. With the stride at the width of the map these are its row and its column, so both are small dense products on the
reordered map, without a mask. The original's first set is a band of one row's length that may begin in the row
before; here it is the row itself.

``fixed`` (their pattern for text): a token sees its own block, and the last tokens of every block, its summary. The
order matters: block first and summary second reaches everything, since a summary has read its block by then. The
last block may be shorter than the others; its summary is its own last tokens, so that none of it stays unseen.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from unept.attention.multihead import MultiHeadSelf
from unept.attention.scaled_dot_product import attend, pad, pieces, real_tokens
from unept.attention_rules import check_sparse_transformer
from unept.ops import Shapes


class SparseTransformerSelf(MultiHeadSelf):
    """Self-attention to a near and a far set of tokens: one half of the heads each, or alternating layers."""

    def __init__(
        self,
        *,
        width: int = 256,
        heads: int = 8,
        dropout: float = 0.1,
        layer: int = 0,
        mode: Literal["strided", "fixed"] = "strided",
        split: Literal["heads", "layers"] = "heads",
        stride: int = 0,
        block: int = 128,
        summary: int = 32,
        joint: bool = False,
    ) -> None:
        """Build the projections and choose the pattern.

        Args:
            width: Channels of the tokens.
            heads: Number of heads.
            dropout: Probability of dropping an attention weight in training.
            layer: Place in the stack, from 0; decides the set where ``split`` is "layers".
            mode: "strided" (rows and columns) or "fixed" (blocks and summaries).
            split: "heads" gives each set one half of the heads, "layers" alternates.
            stride: Stride in tokens for "strided"; 0 = the width of the level.
            block: Tokens of a block for "fixed".
            summary: Last tokens of each block that form its summary, for "fixed".
            joint: Take all levels as one sequence; else each level attends to itself.

        Raises:
            ValueError: For sizes below 1, a summary longer than its block, and one head that would have to be split.
        """
        super().__init__(width=width, heads=heads, dropout=dropout)
        check_sparse_transformer(
            mode=mode, split=split, stride=stride, block=block, summary=summary, joint=joint, heads=heads
        )
        self.mode, self.stride, self.block, self.summary, self.joint = mode, stride, block, summary, joint
        by_layer = heads if layer % 2 == 0 else 0
        self.near_heads = heads - heads // 2 if split == "heads" else by_layer

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attended values of each token, (B, S, H, D)."""
        results, start = [], 0
        for length, row in pieces(shapes, joint=self.joint):
            tokens = slice(start, start + length)
            results.append(self._both(q_BSHD[:, tokens], k_BSHD[:, tokens], v_BSHD[:, tokens], row))
            start += length
        return torch.cat(results, dim=1)

    def _both(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, row: int) -> Tensor:
        """Attend within one sequence: the near set for the first heads, the far set for the others."""
        near, results = self.near_heads, []
        stride, dropout = self.stride or row, self.dropout_p
        if near:
            q, k, v = (x[:, :, :near] for x in (q_BSHD, k_BSHD, v_BSHD))
            results.append(rows(q, k, v, stride if self.mode == "strided" else self.block, dropout))
        if near < self.heads:
            q, k, v = (x[:, :, near:] for x in (q_BSHD, k_BSHD, v_BSHD))
            if self.mode == "strided":
                results.append(columns(q, k, v, stride, dropout))
            else:
                results.append(summaries(q, k, v, self.block, self.summary, dropout))
        return torch.cat(results, dim=2)


def rows(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, side: int, dropout: float) -> Tensor:
    """Attend from each token to the tokens of its own block.

    Args:
        q_BSHD: Queries.
        k_BSHD: Keys.
        v_BSHD: Values.
        side: Tokens of a block.
        dropout: Probability of dropping a weight.

    Returns:
        (B, S, H, D).
    """
    B, S, H, D = q_BSHD.shape
    side = min(side, S)
    q, k, v = (pad(x, side).reshape(-1, side, H, D) for x in (q_BSHD, k_BSHD, v_BSHD))
    seen = real_tokens(S, side, q)[:, None].repeat(B, 1, 1) if S % side else None
    return attend(q, k, v, seen, dropout).reshape(B, -1, H, D)[:, :S]


def columns(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, side: int, dropout: float) -> Tensor:
    """Attend from each token to those at a multiple of ``side`` from it.

    Args:
        q_BSHD: Queries.
        k_BSHD: Keys.
        v_BSHD: Values.
        side: Stride in tokens.
        dropout: Probability of dropping a weight.

    Returns:
        (B, S, H, D).
    """
    B, S, H, D = q_BSHD.shape
    side = min(side, S)
    q, k, v = (pad(x, side).unflatten(1, (-1, side)).transpose(1, 2).flatten(0, 1) for x in (q_BSHD, k_BSHD, v_BSHD))
    seen = real_tokens(S, side, q).T[:, None].repeat(B, 1, 1) if S % side else None
    attended = attend(q, k, v, seen, dropout).reshape(B, side, -1, H, D)
    return attended.transpose(1, 2).flatten(1, 2)[:, :S]


def summaries(q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, block: int, summary: int, dropout: float) -> Tensor:
    """Attend from each token to the last ``summary`` tokens of every block.

    Args:
        q_BSHD: Queries.
        k_BSHD: Keys.
        v_BSHD: Values.
        block: Tokens of a block; the last block may be shorter.
        summary: Tokens of its end that form its summary.
        dropout: Probability of dropping a weight.

    Returns:
        (B, S, H, D).
    """
    length = q_BSHD.shape[1]
    whole = length - length % block  # start of the last block if it is shorter than the others
    position = torch.arange(length, device=q_BSHD.device)
    kept = position[:whole].view(-1, block)[:, -summary:].flatten()
    index = torch.cat((kept, position[max(whole, length - summary) :] if whole < length else position[:0]))
    return attend(q_BSHD, k_BSHD.index_select(1, index), v_BSHD.index_select(1, index), None, dropout)
