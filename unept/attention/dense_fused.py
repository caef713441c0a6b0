"""Dense attention by torch's fused product: every token attends to every token, and no matrix is kept where it can be.

Which kernel runs is torch's choice: flash or memory-efficient ones on a CUDA card; on a CPU the flash kernel, unless
there is dropout, for which torch has the plain product alone and `products.product` a better one.
"""

from __future__ import annotations

from torch import Tensor

from unept.attention.multihead import MultiHeadSelf
from unept.attention.scaled_dot_product import attend
from unept.ops import Shapes


class DenseFusedSelf(MultiHeadSelf):
    """What `DenseSelf` computes, with the same parameters."""

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """(B, S, H, D)."""
        del shapes
        return attend(q_BSHD, k_BSHD, v_BSHD, None, self.dropout_p)
