"""Operations of one forward pass, counted on the meta device: no weights, no data, no time.

The count is torch's own (convolutions and every matrix product, attention included) plus the sampling of deformable
attention by formula. A module that samples says so itself through `sampling_macs(queries, batch)`; no mechanism is
known here by name. Element-wise and norm operations are free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Multiply-accumulates in units of 1e9; `gflops` is twice `gmacs`."""

    matrix_gmacs: float
    sampling_gmacs: float

    @property
    def gmacs(self) -> float:
        """All counted multiply-accumulates."""
        return self.matrix_gmacs + self.sampling_gmacs

    @property
    def gflops(self) -> float:
        """Floating-point operations, 2 per multiply-accumulate."""
        return 2 * self.gmacs


def count(model: nn.Module, size: tuple[int, int]) -> Operations:
    """Count one image of `size` (height, width) in evaluation mode. `model` must be on the meta device."""
    sampled = 0
    model.requires_grad_(False)  # the counter's hooks expect a gradient of whatever asks for one

    def add(module: Any, args: tuple[Any, ...], _: Any) -> None:
        nonlocal sampled
        sampled += module.sampling_macs(queries=args[0].shape[1], batch=args[0].shape[0])

    hooks = [m.register_forward_hook(add) for m in model.modules() if hasattr(m, "sampling_macs")]
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model.eval()(torch.zeros(1, 3, *size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    return Operations(matrix_gmacs=counter.get_total_flops() / 2e9, sampling_gmacs=sampled / 1e9)
