"""Inputs of a call of the operator: the same for speed, memory and correctness.

Shape legend: see `unept.ops.reference`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.microbench.operator.cases import OperatorCase
from unept.layers import positions


def make_inputs(case: OperatorCase, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Return value, reference points, offsets, logits and a gradient of the result.

    The numbers have single precision, whatever the type. No point lies within 1e-3 px of a pixel line, where the
    derivative jumps.
    """
    shapes, B, Q, H, D, P, spread, seed, ordered = case
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    value, reference_Q2 = normal(B, case.tokens, H, D), torch.rand(Q, 2, generator=generator)
    if ordered:
        reference_Q2 = positions.pixel_centres(shapes, like=value).repeat(-(-Q // case.tokens), 1)[:Q]
    sizes = torch.tensor([(w, h) for h, w in shapes])[:, None]
    offsets = spread * normal(B, Q, H, len(shapes), P, 2)
    pixels = (reference_Q2[:, None, None, None] * sizes).double() - 0.5 + offsets.double()
    offsets += ((pixels - pixels.round()).abs() < 2e-3) * 8e-3
    tensors = [value, reference_Q2, offsets, normal(B, Q, H, len(shapes), P), normal(B, Q, H * D)]
    return [tensor.to(dtype) for tensor in tensors]
