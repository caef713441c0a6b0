"""Multiply-adds of the custom operators, for operation counters."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

CORNERS = 4  # pixels around a sampled point


def msda_macs(value_BSHD: Tensor, _reference: Tensor, _offsets: Tensor, logits_BQHLP: Tensor, _: Sequence[int]) -> int:
    """Return the multiply-adds of the sampling: four corners and one weight for each channel of each point."""
    return logits_BQHLP.numel() * value_BSHD.shape[3] * (CORNERS + 1)


MACS: Mapping[str, Callable[..., int]] = types.MappingProxyType({"unept::msda": msda_macs})
"""Multiply-adds of one call of an operator, from its arguments, by the operator's full name."""
