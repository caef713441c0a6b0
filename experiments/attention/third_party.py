"""Attention cores of other packages in place of ours, each with its own layout, padding and masks.

A function raises ImportError where its package is not installed. Inputs are (B, S, H, D). A core that wants another
layout receives it beforehand; padding is a part of the call.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.microbench.attention.implementations import MapSize, PreparedCall, Tensors
from unept.utils import torchvision_shim


def heads_first(tensors: Tensors) -> Tensors:
    """Return tensors as (B, H, S, D), contiguous."""
    return [x.transpose(1, 2).contiguous() for x in tensors]


def heads_last(output: Tensor) -> Tensor:
    """Return a tensor (B, H, S, D) as (B, S, H, D)."""
    return output.transpose(1, 2)


def scaled_dot_product(masks: Sequence[tuple[int, Tensor]]) -> PreparedCall:
    """Return torch's scaled_dot_product_attention: one call per mask and its number of heads, or one without a mask."""

    def run(tensors: Tensors) -> Tensor:
        if len(masks) < 2:
            return _product(tensors, masks[0][1] if masks else None)
        parts = zip(*(x.split([number for number, _ in masks], dim=1) for x in tensors), strict=True)
        return torch.cat([_product(part, mask) for part, (_, mask) in zip(parts, masks, strict=True)], dim=1)

    return PreparedCall(take=heads_first, run=run, give=heads_last, kept=[mask for _, mask in masks])


def _product(tensors: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    q, k, v = tensors
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def local_attention_windows(size: MapSize, half: int) -> PreparedCall:
    """Return LocalAttention of local-attention: windows of ``half`` tokens that look one back and one forward."""
    kind: Any = importlib.import_module("local_attention").LocalAttention
    module = kind(window_size=half, look_backward=1, look_forward=1, autopad=True, exact_windowsize=True)
    real = torch.ones(1, size.tokens, dtype=torch.bool)
    return PreparedCall(take=heads_first, run=lambda tensors: module(*tensors, mask=real), give=heads_last)


class _PreparedProjection(nn.Module):
    """Projection that returns a prepared tensor, `output`, whatever its input."""

    def __init__(self) -> None:
        super().__init__()
        self.output = torch.empty(0)

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the prepared tensor (S, B, C); `hidden` is not read."""
        del hidden
        return self.output


def transformers_longformer(size: MapSize, window: int) -> PreparedCall:
    """Return LongformerSelfAttention of transformers without global tokens; its projections return the prepared
    tensors.
    """
    torchvision_shim.ensure()
    config: Any = importlib.import_module("transformers.models.longformer.configuration_longformer").LongformerConfig
    kind: Any = importlib.import_module("transformers.models.longformer.modeling_longformer").LongformerSelfAttention
    width, extra = size.heads * size.head_width, -size.tokens % window
    configuration = config(
        hidden_size=width,
        num_attention_heads=size.heads,
        attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )
    module = kind(configuration, 0)
    module.query, module.key, module.value = projections = [_PreparedProjection() for _ in range(3)]
    hidden = torch.zeros(()).expand(1, size.tokens + extra, width)
    mask = F.pad(torch.zeros(1, size.tokens), (0, extra), value=-10000.0)
    masks = {"attention_mask": mask, "is_index_masked": mask < 0, "is_index_global_attn": mask > 0}

    def run(tensors: Tensors) -> Tensor:
        for projection, x in zip(projections, tensors, strict=True):
            projection.output = F.pad(x, (0, 0, 0, extra)).transpose(0, 1)
        if not extra:  # it divides the queries in place
            projections[0].output = projections[0].output.clone()
        output: Tensor = module(hidden, **masks, is_global_attn=False)[0]
        return output[:, : size.tokens]

    return PreparedCall(
        take=lambda tensors: [x.flatten(2) for x in tensors],
        run=run,
        give=lambda output: output.unflatten(2, (size.heads, -1)),
    )


def reformer_buckets(size: MapSize, chunk: int) -> int:
    """Return the number of buckets of reformer-pytorch: one per chunk of the padded sequence."""
    return (size.tokens + -size.tokens % (2 * chunk)) // chunk


def reformer_lsh(size: MapSize, chunk: int, hashes: int) -> PreparedCall:
    """Return LSHAttention of reformer-pytorch with the padding that it demands; heads are batch entries to it."""
    kind: Any = importlib.import_module("reformer_pytorch").LSHAttention
    module = kind(bucket_size=chunk, n_hashes=hashes, causal=False).eval()
    extra = -size.tokens % (2 * chunk)
    real = (torch.arange(size.tokens + extra) < size.tokens).expand(size.heads, -1)

    def run(tensors: Tensors) -> Tensor:
        qk, v = (F.pad(x, (0, 0, 0, extra)) for x in tensors)
        output: Tensor = module(qk, v, input_mask=real)[0]
        return output[:, : size.tokens]

    return PreparedCall(
        take=lambda tensors: [x[0] for x in heads_first(tensors)], run=run, give=lambda output: heads_last(output[None])
    )
