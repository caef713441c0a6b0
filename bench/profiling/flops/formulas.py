"""Multiply-adds of one call of an operator, and the operators that are free: together every one that may occur.

Counted are convolutions, matrix products, fused attention and sampling at computed positions; biases are not. Free are
element-wise operators (those of torch, by its own tag), whose elements are counted apart, views, and a short list:
moving data, reductions and norms, pooling and resizing, sorting, and making constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from unept.ops import MACS

Formula = Callable[..., int]

FREE_OPERATORS = frozenset(
    f"aten::{name}"
    for names in (
        # making and moving data
        "arange eye full full_like ones ones_like zeros zeros_like empty empty_like new_empty new_full new_ones "
        "new_zeros scalar_tensor _to_copy clone copy_ fill_ zero_ cat stack repeat roll flip tril triu embedding "
        "index index_put index_put_ index_copy index_copy_ index_select gather scatter scatter_ scatter_add "
        "scatter_add_ scatter_reduce constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle "
        "pixel_unshuffle im2col col2im as_strided_ lift_fresh _unsafe_view _unsafe_index _local_scalar_dense rand "
        "randn rand_like randn_like bernoulli bernoulli_",
        # reductions and norms
        "sum mean amax amin max min any all argmax argmin prod var var_mean std logsumexp cumsum linalg_vector_norm "
        "_softmax _log_softmax _safe_softmax native_batch_norm native_layer_norm native_group_norm "
        "_native_batch_norm_legit _native_batch_norm_legit_no_training _fused_rms_norm",
        # pooling, resizing to a fixed grid, sorting
        "max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d adaptive_max_pool2d upsample_nearest2d "
        "_upsample_nearest_exact2d upsample_bilinear2d upsample_bicubic2d _upsample_bilinear2d_aa "
        "_upsample_bicubic2d_aa topk sort",
    )
    for name in names.split()
)
UNTAGGED_ELEMENTWISE = frozenset(  # though torch does not say so
    f"aten::{name}"
    for name in (
        "floor_divide",
        "glu",
        "hardswish",
        "hardswish_",
        "log_sigmoid_forward",
        "masked_fill_",
        "_prelu_kernel",
    )
)
COPIES = frozenset(("aten::clone",))  # torch says element-wise of this one


class UncountedError(ValueError):
    """An operator that has no formula here and is not free."""


def is_known(func: Any) -> bool:
    """Return True for an operator that is counted or free."""
    name = func._schema.name
    free = name in FREE_OPERATORS or _elementwise(func) or (func.is_view and _of_torch(func))
    return name in _FORMULAS or free or _registered(func) is not None


def count_macs(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> int:
    """Return the multiply-adds of this call of a known operator; 0 for a free one."""
    name = func._schema.name
    if name in _FORMULAS:
        return _FORMULAS[name](*args, **({"out_": result} if name in _BY_RESULT else {}))
    registered = _registered(func)
    return 0 if registered is None else registered(*args, **kwargs, out_val=result) // 2


def count_elements(func: Any, result: Any) -> int:
    """Return the number of elements that an element-wise operator gives; 0 for any other."""
    if not _elementwise(func) or func._schema.name in COPIES:
        return 0
    results = result if isinstance(result, (tuple, list)) else (result,)
    return sum(tensor.numel() for tensor in results if isinstance(tensor, torch.Tensor))


def _elementwise(func: Any) -> bool:
    return (torch.Tag.pointwise in func.tags and _of_torch(func)) or func._schema.name in UNTAGGED_ELEMENTWISE


def _of_torch(func: Any) -> bool:
    return func.namespace in ("aten", "prims")


def _registered(func: Any) -> Formula | None:
    """Return the formula for torch's own counter, in operations, which are two per multiply-add."""
    formula: Formula | None = flop_registry.get(func) or flop_registry.get(func._overloadpacket)
    return formula


def _convolution(_: Any, weight: Any, *__: Any, out_: Any) -> int:
    """Multiply the positions of the result by the weights that meet at each."""
    return math.prod((out_.shape[0], *out_.shape[2:])) * weight.numel()


def _transposed_or_not(image: Any, weight: Any, *rest: Any, out_: Any) -> int:
    if rest[4]:  # transposed: every input place meets every weight
        return math.prod((image.shape[0], *image.shape[2:])) * weight.numel()
    return _convolution(image, weight, out_=out_)


def _product(left: Any, right: Any, *_: Any) -> int:
    return left.numel() * right.shape[-1]


def _added_product(_: Any, left: Any, right: Any, *__: Any) -> int:
    return _product(left, right)


def _vector(left: Any, *_: Any) -> int:
    return left.numel()


def _added_vector(_: Any, left: Any, *__: Any) -> int:
    return left.numel()


def _attention(query: Any, key: Any, value: Any, *_: Any) -> int:
    pairs = query.shape[:-1].numel() * key.shape[-2]
    return pairs * (query.shape[-1] + value.shape[-1])


def _distances(left: Any, right: Any, *_: Any) -> int:
    return left.numel() * right.shape[-2]


def _grid_sample(_: Any, __: Any, mode: int, *___: Any, out_: Any) -> int:
    """Count 4 neighbours of each sampled value (8 in volumes), 16 where bicubic, none where nearest."""
    dimensions = out_.dim() - 2
    return out_.numel() * {0: 2**dimensions, 1: 0, 2: 4**dimensions}[mode]


_ATTENTIONS = (
    "flash_attention",
    "flash_attention_for_cpu",
    "efficient_attention",
    "cudnn_attention",
    "fused_attention_overrideable",
    "attention_math",
    "attention_math_for_mps",
)
_FORMULAS: dict[str, Formula] = {
    "aten::convolution": _transposed_or_not,
    "aten::_convolution": _transposed_or_not,
    "aten::mkldnn_convolution": _convolution,
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::addmm": _added_product,
    "aten::baddbmm": _added_product,
    "aten::mv": _vector,
    "aten::addmv": _added_vector,
    "aten::dot": _vector,
    "aten::_cdist_forward": _distances,
    "aten::grid_sampler_2d": _grid_sample,
    "aten::grid_sampler_3d": _grid_sample,
    **MACS,
    **{f"aten::_scaled_dot_product_{name}": _attention for name in _ATTENTIONS},
}
_BY_RESULT = frozenset(name for name in _FORMULAS if "conv" in name or "grid_sampler" in name)
