"""Dense attention by torch's fused product: every token attends to every token, and no matrix is kept where it can be.

Which kernel runs is torch's choice: flash or memory-efficient ones on a CUDA card; on a CPU the flash kernel, unless
there is dropout, for which torch falls back to the plain product.
"""

from __future__ import annotations

from torch import Tensor

from unept.attention.multihead import MultiHead
from unept.attention.products import attend
from unept.ops import Shapes


class DenseFusedSelf(MultiHead):
    """What `DenseSelf` computes, with the same parameters."""

    def forward(self, tokens_BSC: Tensor, position_BSC: Tensor | None, shapes: Shapes) -> Tensor:
        """(B, S, C); the position is added to queries and keys, not to the values."""
        assert sum(height * width for height, width in shapes) == tokens_BSC.shape[1]
        placed = tokens_BSC if position_BSC is None else tokens_BSC + position_BSC
        q, k, v = self.project(placed, placed, tokens_BSC)
        return self.output(attend(q, k, v, None, self.dropout if self.training else 0.0))
