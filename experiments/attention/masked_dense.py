"""Two sparse patterns as masks over all pairs: the same results as the true sparse forms, and all the memory of dense.

It is here to see what a printed memory may have held, not to be used. A pattern never crosses the border of a level, so
it can be computed level by level as well (``joint=false``), and gives the same.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unept.attention.multihead import MultiHead
from unept.ops import Shapes


class MaskedSelf(MultiHead):
    """Dense attention whose scores outside a pattern are set to minus infinity."""

    def __init__(
        self,
        *,
        width: int = 256,
        heads: int = 8,
        dropout: float = 0.1,
        pattern: Literal["window", "rows_columns"] = "window",
        window: int = 512,
        joint: bool = True,
    ) -> None:
        """``window``: a token sees half of it to each side in its level's raster order. ``rows_columns``: the first
        half of the heads sees a token's own row, the other half its column. ValueError for another pattern, and for
        an odd number of heads that would have to be halved.
        """
        super().__init__(width=width, heads=heads, dropout=dropout)
        if pattern not in ("window", "rows_columns"):
            raise ValueError(f"masked: pattern={pattern}: expected window or rows_columns")
        if pattern == "rows_columns" and heads % 2:
            raise ValueError(f"masked: heads={heads}: expected an even number with pattern=rows_columns")
        self.pattern, self.window, self.joint = pattern, window, joint

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Return tokens (B, S, C); the position is added to queries and keys, not to the values."""
        placed = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        q, k, v = (x.transpose(1, 2) for x in self.project(placed, placed, tokens_BSC))
        lengths = [height * width for height, width in shapes]
        groups = [shapes] if self.joint else [(shape,) for shape in shapes]
        sizes = [sum(lengths)] if self.joint else lengths
        parts = zip(*(x.split(sizes, dim=2) for x in (q, k, v)), groups, strict=True)
        mixed_BHSD = torch.cat([self._masked(*part) for part in parts], dim=2)
        return self.output(mixed_BHSD.transpose(1, 2))

    def _masked(self, q_BHSD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, shapes: Shapes) -> Tensor:
        scores_BHSS = (q_BHSD * q_BHSD.shape[-1] ** -0.5) @ k_BHSD.transpose(-2, -1)
        hidden_GSS = ~self.seen(shapes, q_BHSD)
        if len(hidden_GSS) > 1:  # the heads in equal parts
            hidden_GSS = hidden_GSS.repeat_interleave(self.heads // len(hidden_GSS), dim=0)
        shares_BHSS = scores_BHSS.masked_fill(hidden_GSS, -torch.inf).softmax(-1)
        return F.dropout(shares_BHSS, self.dropout, self.training) @ v_BHSD

    def seen(self, shapes: Shapes, like: Tensor) -> Tensor:
        """Return a mask (1 or 2, S, S): True where a token may attend to another, for each set of heads."""
        level, row, column, position = (
            torch.tensor(coordinate, device=like.device) for coordinate in _coordinates(shapes)
        )
        same_SS = level[:, None] == level
        if self.pattern == "window":
            return (same_SS & ((position[:, None] - position).abs() <= self.window // 2))[None]
        return torch.stack([same_SS & (coordinate[:, None] == coordinate) for coordinate in (row, column)])


def _coordinates(shapes: Shapes) -> tuple[list[int], ...]:
    """Level, row, column and place in the level's raster order, of each token."""
    points = [
        (level, row, column, row * width + column)
        for level, (height, width) in enumerate(shapes)
        for row in range(height)
        for column in range(width)
    ]
    return tuple([*axis] for axis in zip(*points, strict=True))
