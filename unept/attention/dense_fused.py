"""Dense attention by torch's fused product: every token attends to every token, usually without storing the matrix.

torch chooses the kernel: flash or memory-efficient attention on a CUDA device; flash on a CPU, except with dropout,
where torch has the plain product only and `scaled_dot_product.product` recomputes it in blocks.
"""

from __future__ import annotations

from torch import Tensor

from unept.attention.multihead import MultiHeadSelf
from unept.attention.scaled_dot_product import attend
from unept.ops import Shapes


class DenseFusedSelf(MultiHeadSelf):
    """Dense self-attention with the parameters and the result of `DenseSelf`, by torch's fused product."""

    def mix(self, q_BSHD: Tensor, k_BSHD: Tensor, v_BSHD: Tensor, shapes: Shapes) -> Tensor:
        """Return the attention of every query over all tokens, (B, S, H, D)."""
        del shapes
        return attend(q_BSHD, k_BSHD, v_BSHD, None, self.dropout_p)
