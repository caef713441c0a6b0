"""Longformer attention (Beltagy et al. 2020, section 3): a sliding window, dilated if asked, and a few global tokens.

``order="raster"`` is the paper's: a window over the row-major sequence of a level, which on a map is a band of a few
rows. ``order="window2d"`` takes a square of the map instead. Windows stay inside a level; ``joint`` lets them run
over the levels' borders, in raster order.

Global tokens are tokens of the map, evenly spaced in each level: they see every token of all levels, by query, key and
value projections of their own, and every token sees them. A segmentation has no token that stands for the whole, so
there are none unless asked for.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unept.attention.multihead import MultiHeadSelf
from unept.attention.scaled_dot_product import attend, pieces
from unept.attention.windows import Window, windowed
from unept.attention_rules import LONGFORMER_WINDOWS, check_longformer
from unept.ops import Shapes


class LongformerSelf(MultiHeadSelf):
    """Sliding-window self-attention with global tokens: every token sees the tokens around it, and the global ones."""

    def __init__(
        self,
        *,
        width: int = 256,
        heads: int = 8,
        dropout: float = 0.1,
        layer: int = 0,
        window: int = 0,
        order: Literal["raster", "window2d"] = "raster",
        dilation: tuple[int, ...] = (),
        global_tokens: int = 0,
        joint: bool = False,
    ) -> None:
        """Build the projections and choose the windows.

        Args:
            width: Channels of the tokens.
            heads: Number of heads.
            dropout: Probability of dropping an attention weight in training.
            layer: Place in the stack, from 0.
            window: Tokens of the window besides the token itself, half on each side; 0 = LONGFORMER_WINDOWS.
            order: "raster" for a window over the row-major sequence, "window2d" for a square of the map.
            dilation: One number, or one for each head; () = the paper's: 1, and from the second layer on 2 in two
                heads.
            global_tokens: Global tokens in each level, at most as many as it has tokens.
            joint: Let raster windows run over the borders of the levels.

        Raises:
            ValueError: For a window or dilation below 1, a number of dilations that is not the number of heads, and a
                joint window2d.
        """
        super().__init__(width=width, heads=heads, dropout=dropout)
        check_longformer(
            window=window, order=order, dilation=dilation, global_tokens=global_tokens, joint=joint, heads=heads
        )
        self.each_side, self.order, self.joint = (window or LONGFORMER_WINDOWS[order]) // 2, order, joint
        usual = (1,) * heads if layer == 0 else (1,) * max(0, heads - 2) + (2,) * min(2, heads)
        self.dilation = (dilation * heads)[:heads] or usual
        self.global_tokens = global_tokens
        if global_tokens:
            self.global_in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
            self.global_in_proj_bias = nn.Parameter(torch.zeros(3 * width))
            nn.init.xavier_uniform_(self.global_in_proj_weight)

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return (B, S, C); the position encoding is added to queries and keys, not to the values."""
        positioned = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        attended = self.mix(*self.project(positioned, positioned, tokens_BSC), shapes)
        if self.global_tokens:  # their own results come from their own projections
            index = torch.tensor(self.chosen(shapes), device=attended.device)
            attended = attended.index_copy(1, index, self._global(positioned, tokens_BSC, index).to(attended.dtype))
        return self.output(attended)

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attended values of each token, (B, S, H, D), with global tokens treated as ordinary queries."""
        chosen = self.chosen(shapes)
        index = torch.tensor(chosen, device=q_BSHD.device)
        everywhere = [x.index_select(1, index) for x in (k_BSHD, v_BSHD)] if chosen else None
        results, start = [], 0
        for length, row in pieces(shapes, joint=self.joint):
            part = [x[:, start : start + length] for x in (q_BSHD, k_BSHD, v_BSHD)]
            inside = [position - start for position in chosen if start <= position < start + length]
            results.append(self._heads(part, row, everywhere, inside))
            start += length
        return torch.cat(results, dim=1)

    def chosen(self, shapes: Shapes) -> list[int]:
        """Return the indices of the global tokens in the sequence of all levels."""
        indices, start = [], 0
        for height, width in shapes:
            length = height * width
            number = min(self.global_tokens, length)
            indices += [start + math.floor((i + 0.5) * length / number) for i in range(number)]
            start += length
        return indices

    def _heads(self, qkv: list[Tensor], row: int, everywhere: list[Tensor] | None, hidden: list[int]) -> Tensor:
        """Attend within one sequence, the heads of one dilation at a time; (B, n, H, D)."""
        length = qkv[0].shape[1]
        shape = (length // row, row) if self.order == "window2d" else (1, length)
        window = (self.each_side if self.order == "window2d" else 0, self.each_side)
        results: list[Tensor] = []
        order: list[int] = []
        for step in sorted(set(self.dilation)):
            heads = [head for head, own in enumerate(self.dilation) if own == step]
            head_index = torch.tensor(heads, device=qkv[0].device)
            qkv_heads = qkv if len(heads) == self.heads else [x.index_select(2, head_index) for x in qkv]
            extra = [x.index_select(2, head_index) for x in everywhere] if everywhere else None
            tiles = Window(half=window, dilation=step, dropout=self.dropout_p)
            results.append(windowed(qkv_heads[0], qkv_heads[1], qkv_heads[2], shape, tiles, extra, hidden))
            order += heads
        if len(results) == 1:
            return results[0]
        back = torch.tensor(sorted(range(self.heads), key=order.__getitem__), device=qkv[0].device)
        return torch.cat(results, dim=2).index_select(2, back)

    def _global(self, positioned_BSC: Tensor, tokens_BSC: Tensor, index: Tensor) -> Tensor:
        """Attend from the global tokens to all tokens by their own projections; (B, G, H, D)."""
        weights, biases = self.global_in_proj_weight.chunk(3), self.global_in_proj_bias.chunk(3)
        inputs = (positioned_BSC.index_select(1, index), positioned_BSC, tokens_BSC)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (self.heads, -1))
            for x, weight, bias in zip(inputs, weights, biases, strict=True)
        )
        return attend(q, k, v, None, self.dropout_p)
