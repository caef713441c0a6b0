"""Third-party attention cores that one could install in place of ours, each with its own layout, padding and masks.

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


def heads_first(given: Tensors) -> Tensors:
    """Return tensors as (B, H, S, D), contiguous."""
    return [x.transpose(1, 2).contiguous() for x in given]


def heads_last(found: Tensor) -> Tensor:
    """Return a tensor (B, H, S, D) as (B, S, H, D)."""
    return found.transpose(1, 2)


def scaled_dot_product(masks: Sequence[tuple[int, Tensor]]) -> PreparedCall:
    """Return torch's scaled_dot_product_attention: one call per mask and its number of heads, or one without a mask."""

    def run(given: Tensors) -> Tensor:
        if len(masks) < 2:
            return _product(given, masks[0][1] if masks else None)
        parts = zip(*(x.split([number for number, _ in masks], dim=1) for x in given), strict=True)
        return torch.cat([_product(part, mask) for part, (_, mask) in zip(parts, masks, strict=True)], dim=1)

    return PreparedCall(take=heads_first, run=run, give=heads_last, kept=[mask for _, mask in masks])


def _product(given: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    q, k, v = given
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def local_attention_windows(size: MapSize, half: int) -> PreparedCall:
    """Return LocalAttention of local-attention: windows of ``half`` tokens that look one back and one forward."""
    kind: Any = importlib.import_module("local_attention").LocalAttention
    module = kind(window_size=half, look_backward=1, look_forward=1, autopad=True, exact_windowsize=True)
    real = torch.ones(1, size.tokens, dtype=torch.bool)
    return PreparedCall(take=heads_first, run=lambda given: module(*given, mask=real), give=heads_last)


class _Given(nn.Module):
    """Stands where a projection does, and gives what it would have found."""

    def __init__(self) -> None:
        super().__init__()
        self.found = torch.empty(0)

    def forward(self, hidden: Tensor) -> Tensor:
        """(S, B, C), whatever it is called with."""
        del hidden
        return self.found


def transformers_longformer(size: MapSize, window: int) -> PreparedCall:
    """Return LongformerSelfAttention of transformers without global tokens; its projections return the prepared
    tensors.
    """
    torchvision_shim.ensure()
    config: Any = importlib.import_module("transformers.models.longformer.configuration_longformer").LongformerConfig
    kind: Any = importlib.import_module("transformers.models.longformer.modeling_longformer").LongformerSelfAttention
    width, extra = size.heads * size.head_width, -size.tokens % window
    told = config(
        hidden_size=width,
        num_attention_heads=size.heads,
        attention_window=[window],
        attention_probs_dropout_prob=0.0,
    )
    module = kind(told, 0)
    module.query, module.key, module.value = projections = [_Given() for _ in range(3)]
    hidden = torch.zeros(()).expand(1, size.tokens + extra, width)
    mask = F.pad(torch.zeros(1, size.tokens), (0, extra), value=-10000.0)
    masks = {"attention_mask": mask, "is_index_masked": mask < 0, "is_index_global_attn": mask > 0}

    def run(given: Tensors) -> Tensor:
        for place, x in zip(projections, given, strict=True):
            place.found = F.pad(x, (0, 0, 0, extra)).transpose(0, 1)
        if not extra:  # it divides the queries in place
            projections[0].found = projections[0].found.clone()
        found: Tensor = module(hidden, **masks, is_global_attn=False)[0]
        return found[:, : size.tokens]

    return PreparedCall(
        take=lambda given: [x.flatten(2) for x in given],
        run=run,
        give=lambda found: found.unflatten(2, (size.heads, -1)),
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

    def run(given: Tensors) -> Tensor:
        qk, v = (F.pad(x, (0, 0, 0, extra)) for x in given)
        found: Tensor = module(qk, v, input_mask=real)[0]
        return found[:, : size.tokens]

    return PreparedCall(
        take=lambda given: [x[0] for x in heads_first(given)], run=run, give=lambda found: heads_last(found[None])
    )
