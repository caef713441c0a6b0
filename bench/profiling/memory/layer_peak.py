"""Peak memory of one attention layer in a training step, predicted without computing.

The layer and its inputs are fake tensors: they have sizes and no content, and every operation is asked for the sizes of
its results alone. A `MemoryTracker` follows each storage from the operation that makes it to its end, so whatever the
gradient keeps alive counts, and temporaries while they live. Not seen are the buffers inside an operation, such as the
work space of a fused kernel. The operations are those that torch would choose for the device that is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from bench.profiling.memory.tracker import INPUTS, MemoryTracker

MAP_SIDES = (30, 60, 90, 120)  # of one square level, tokens


@dataclass(frozen=True, kw_only=True)
class LayerPeak:
    """Bytes over one forward and backward pass of a layer, its inputs and parameters not counted.

    Attributes:
        saved: Alive between the two passes, the result included.
        peak: The most at any time.
    """

    saved: int
    peak: int


def layer_peak(
    make: Callable[[], nn.Module],
    shapes: tuple[tuple[int, int], ...],
    width: int,
    *,
    batch: int = 1,
    device: str = "cpu",
) -> LayerPeak:
    """Predict the peak of a self-attention in training, for the gradient of the tokens.

    The gradients of the parameters are left out: their size does not depend on the tokens.

    Args:
        make: Builds the module.
        shapes: Height and width of each level's map, in tokens.
        width: Channels of a token.
        batch: Number of images.
        device: Device whose operators are assumed, "cpu" or "cuda".
    """
    total = sum(height * columns for height, columns in shapes)

    def give() -> tuple[Any, ...]:
        tokens = torch.empty(batch, total, width, requires_grad=True)
        return tokens, torch.empty(1, total, width).expand_as(tokens), shapes

    return call_peak(make, give, device=device)


def call_peak(make: Callable[[], nn.Module], give: Callable[[], Sequence[Any]], *, device: str = "cpu") -> LayerPeak:
    """Predict the peak of any module in training, for the gradient of the inputs that require one.

    Args:
        make: Builds the module; called where tensors are fake.
        give: Returns its arguments; called where tensors are fake.
        device: Device whose operators are assumed, "cpu" or "cuda".
    """
    with FakeTensorMode(), torch.device(device):
        layer, inputs = make().train(), give()
        tensors = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
        tracker = MemoryTracker()
        tracker.mark([*tensors, *layer.parameters(), *layer.buffers()], INPUTS)
        before = tracker.live_bytes()
        with tracker:
            result = layer(*inputs)
            saved = tracker.live_bytes() - before
            if result.requires_grad:
                leaves = [tensor for tensor in tensors if tensor.requires_grad]
                torch.autograd.grad(result, leaves, torch.empty_like(result), allow_unused=True)
    return LayerPeak(saved=saved, peak=tracker.peak().bytes - before)


def memory_exponent(
    make: Callable[[], nn.Module], width: int, sides: Sequence[int] = MAP_SIDES, **options: Any
) -> float:
    """Return the power of the number of tokens with which the peak grows, over one square level of each side.

    Args:
        make: Builds the self-attention.
        width: Channels of a token.
        sides: Sides of the maps, in tokens.
        **options: Passed to `layer_peak`.
    """
    peaks = [layer_peak(make, ((side, side),), width, **options).peak for side in sides]
    return power_law_exponent([side * side for side in sides], peaks)


def power_law_exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope of log(values) against log(sizes) by least squares."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
