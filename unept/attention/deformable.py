"""Multi-scale deformable attention (paper, section 3.2 and Eq. 4): each query samples a few points of each level."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unept.layers import positions
from unept.ops import Shapes, msda

SCALED_REACH = 4.0  # pixels; where the farthest point starts with offset_init = "scaled", whatever the number of points


class Deformable(nn.Module):
    """Deformable attention: queries attend to a few sampled points of each level (paper, Eq. 4).

    Args:
        width: Channels of the tokens.
        heads: Number of heads.
        levels: Number of maps that the memory consists of.
        points: Sampling points per level and head, N in the paper.
        offset_init: Initial offsets, "released" or "scaled"; see `reset`.
    """

    def __init__(
        self, *, width: int = 256, heads: int = 8, levels: int = 3, points: int = 16, offset_init: str = "released"
    ) -> None:
        super().__init__()
        self.heads, self.levels, self.points, self.head_width = heads, levels, points, width // heads
        # Drawn first, so that they start the same whatever the numbers of levels and points.
        value_proj, output_proj = _projection(width), _projection(width)
        self.sampling_offsets = nn.Linear(width, heads * levels * points * 2)
        self.attention_weights = nn.Linear(width, heads * levels * points)
        self.value_proj = value_proj
        self.output_proj = output_proj
        self.reset(offset_init)

    def reset(self, offset_init: str) -> None:
        """Initialise sampling offsets and attention weights.

        Equal weights, and the points of head m in a line along the direction 2 pi m / heads.

        Args:
            offset_init: "released" puts point n at n + 1 pixels (measured along the longer axis), "scaled" at (n + 1) *
                SCALED_REACH / points, so that the number of points does not change the reach.
        """
        angle = torch.arange(self.heads, dtype=torch.float64) * (2 * math.pi / self.heads)
        direction_H2 = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction_H2 = direction_H2 / direction_H2.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float64)
        if offset_init == "scaled":
            steps = steps * (SCALED_REACH / self.points)
        bias_HLP2 = (direction_H2[:, None, None] * steps[:, None]).expand(-1, self.levels, -1, -1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(bias_HLP2.flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)

    def attend(self, queries_BQC: Tensor, memory_BSC: Tensor, reference_Q2: Tensor, shapes: Shapes) -> Tensor:
        """Sample the memory around each query's reference point and sum the samples (paper, Eq. 4).

        Args:
            queries_BQC: Queries that offsets and weights are predicted from.
            memory_BSC: Tokens of all levels.
            reference_Q2: Reference points (x, y) as fractions of the map.
            shapes: (height, width) of each level.

        Returns:
            (B, Q, C).
        """
        value_BSHD = self.value_proj(memory_BSC).unflatten(-1, (self.heads, self.head_width))
        # Sample P points of each level around the reference, weighted by a softmax over levels and points.
        sampled = msda(value_BSHD, reference_Q2, self.offsets(queries_BQC), self.logits(queries_BQC), shapes)
        return self.output_proj(sampled)

    def offsets(self, queries_BQC: Tensor) -> Tensor:
        """Return the sampling offsets (x, y) in pixels of each level, (B, Q, H, L, P, 2)."""
        return self.sampling_offsets(queries_BQC).unflatten(-1, (self.heads, self.levels, self.points, 2))

    def logits(self, queries_BQC: Tensor) -> Tensor:
        """Return the attention logits, (B, Q, H, L, P)."""
        return self.attention_weights(queries_BQC).unflatten(-1, (self.heads, self.levels, self.points))

    def _share_inside(self, queries_BQC: Tensor, reference_Q2: Tensor, shapes: Shapes) -> float:
        sizes_L2 = reference_Q2.new_tensor([(width, height) for height, width in shapes])
        offsets = self.offsets(queries_BQC)
        locations = reference_Q2[:, None, None, None] + offsets / sizes_L2[:, None]
        return ((locations >= 0) & (locations <= 1)).all(-1).float().mean().item()


def _projection(width: int) -> nn.Linear:
    projection = nn.Linear(width, width)
    nn.init.xavier_uniform_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


class DeformableSelf(Deformable):
    """Deformable self-attention: every token samples around its own pixel centre."""

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """Attend from every token to points around its own pixel centre.

        Args:
            tokens_BSC: Tokens of all levels.
            position_BSC: Position encoding, added to the queries but not to the values; None for none.
            shapes: (height, width) of each level.

        Returns:
            (B, S, C).
        """
        queries = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        return self.attend(queries, tokens_BSC, positions.pixel_centres(shapes, like=tokens_BSC), shapes)

    def inside_share(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> float:
        """Return the share of sampled points inside their map, 0 to 1, for the inputs of a forward call."""
        queries = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        return self._share_inside(queries, positions.pixel_centres(shapes, like=tokens_BSC), shapes)


class DeformableCross(Deformable):
    """Deformable cross-attention: every query samples all levels around its position in the query grid."""

    def forward(self, queries_BQC: Tensor, memory_BSC: Tensor, query_shape: tuple[int, int], shapes: Shapes) -> Tensor:
        """Attend from every query to points around its position in the query grid, on all levels.

        Args:
            queries_BQC: Queries, row by row of the grid.
            memory_BSC: Tokens of all levels.
            query_shape: (rows, columns) of the query grid.
            shapes: (height, width) of each level.

        Returns:
            (B, Q, C).
        """
        return self.attend(queries_BQC, memory_BSC, positions.pixel_centres((query_shape,), like=queries_BQC), shapes)

    def inside_share(
        self, queries_BQC: Tensor, memory_BSC: Tensor, query_shape: tuple[int, int], shapes: Shapes
    ) -> float:
        """Return the share of sampled points inside their map, 0 to 1, for the inputs of a forward call."""
        del memory_BSC
        return self._share_inside(queries_BQC, positions.pixel_centres((query_shape,), like=queries_BQC), shapes)
