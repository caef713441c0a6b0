"""Operations as the paper's tool counts them: by the modules that a forward pass calls, and by nothing else.

The tool is mmcv's counter (`mmcv.cnn.get_model_complexity_info`), by its rules of which module counts what: the
multiply-adds of convolutions with one addition for a bias, of linear layers without one, an operation for each input of
a pooling, for each output of an activation or an upsampling, and two for each input of a norm with a learned scale.
Only these very classes count, not classes derived from them, and no function: attention's products, functional
resizing and sampling are 0. Batch norm is 0, as it was where the models were counted with synchronised batch norm,
which the tool does not know. One multiply-add is one operation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

Count = Callable[[Any, Tensor, Tensor], int]


def module_operations(module: nn.Module, inputs: Tensor, result: Tensor) -> int:
    """Return what the tool adds for one call of `module`, from its first input and its output; 0 for other modules."""
    count = _COUNTS.get(type(module))
    return count(module, inputs, result) if count else 0


def is_counted(module: nn.Module) -> bool:
    """Return True where the tool knows this module's class."""
    return type(module) in _COUNTS


def _convolution(module: Any, inputs: Tensor, result: Tensor) -> int:
    positions = inputs.shape[0] * math.prod(result.shape[2:])
    return positions * (module.weight.numel() + (module.out_channels if module.bias is not None else 0))


def _transposed(module: Any, inputs: Tensor, result: Tensor) -> int:
    positions = inputs.shape[0] * math.prod(inputs.shape[2:])
    return positions * module.weight.numel() + (result.numel() if module.bias is not None else 0)


def _linear(_: Any, inputs: Tensor, result: Tensor) -> int:
    return inputs.numel() * result.shape[-1]


def _norm(module: Any, inputs: Tensor, _: Tensor) -> int:
    learned = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
    return inputs.numel() * (2 if learned else 1)


def _inputs(_: Any, inputs: Tensor, __: Tensor) -> int:
    return inputs.numel()


def _outputs(_: Any, __: Tensor, result: Tensor) -> int:
    return result.numel()


_COUNTS: dict[type[nn.Module], Count] = (
    dict.fromkeys((nn.Conv1d, nn.Conv2d, nn.Conv3d), _convolution)
    | {nn.ConvTranspose2d: _transposed, nn.Linear: _linear, nn.Upsample: _outputs}
    | dict.fromkeys((nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU), _outputs)
    | dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d), _inputs)
    | dict.fromkeys((nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d), _inputs)
    | dict.fromkeys((nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d), _inputs)
    | dict.fromkeys((nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d), _norm)
)
