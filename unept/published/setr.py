"""SETR (Zheng et al. 2021): a plain vision transformer, and three ways from its tokens to a map."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Auxiliary, Output, PublishedNetwork, classifier, conv_bn_relu, resize

QUARTER = 4  # stride of the naive and the aggregated head's logits


class Normed(nn.Module):
    """Layer norm over the channels of a map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return self.norm(x_BChw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Up(nn.Module):
    """Layer norm, then blocks of ``kernel``, each followed by an upsampling; a classifier at the end."""

    def __init__(
        self, before: int, width: int, classes: int, *, scales: tuple[int, ...], kernel: int, dropout: float
    ) -> None:
        super().__init__()
        self.norm = Normed(before)
        self.blocks = nn.ModuleList(conv_bn_relu(width if i else before, width, kernel) for i in range(len(scales)))
        self.scales = scales
        self.classify = classifier(width, classes, dropout)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return (B, K, h * product of scales, w * product of scales)."""
        x = self.norm(x_BChw)
        for step, scale in zip(self.blocks, self.scales, strict=True):
            x = step(x)
            x = resize(x, [scale * side for side in x.shape[2:]])
        return self.classify(x)


class UpHead(nn.Module):
    """`Up` on the last map, and in training another one on each of the earlier maps."""

    def __init__(self, channels: tuple[int, ...], make: Callable[[int], Up], make_extra: Callable[[int], Up]) -> None:
        super().__init__()
        self.decode = make(channels[-1])
        self.extra = nn.ModuleList(make_extra(before) for before in channels[:-1])

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride that `Up` leads to."""
        pairs = zip(self.extra, maps[:-1], strict=True) if self.training else ()
        return Output(self.decode(maps[-1]), tuple(Auxiliary(extra(x)) for extra, x in pairs))


class AggregationHead(nn.Module):
    """Multi-level aggregation: levels normed and projected, the deeper added to the shallower, all concatenated."""

    def __init__(self, channels: tuple[int, ...], width: int, classes: int, scale: int, dropout: float) -> None:
        super().__init__()
        inner, outer = width // 2, width // 4
        self.project = nn.ModuleList(
            nn.Sequential(Normed(before), conv_bn_relu(before, inner, 1)) for before in channels
        )
        self.smooth = nn.ModuleList(conv_bn_relu(inner, inner, 3) for _ in channels)
        self.decode = nn.ModuleList(
            nn.Sequential(conv_bn_relu(inner, outer, 3), conv_bn_relu(outer, outer, 3)) for _ in channels
        )
        self.extra = nn.ModuleList(classifier(inner, classes, dropout) for _ in channels)
        self.scale = scale
        self.classify = classifier(len(channels) * outer, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the maps' stride divided by ``scale``."""
        levels = [project(level) for project, level in zip(self.project, maps, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + levels[index + 1]
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]
        streams = [decode(level) for decode, level in zip(self.decode, levels, strict=True)]
        streams = [resize(x, [self.scale * side for side in x.shape[2:]]) for x in streams]
        pairs = zip(self.extra, levels, strict=True) if self.training else ()
        return Output(self.classify(torch.cat(streams, dim=1)), tuple(Auxiliary(extra(x)) for extra, x in pairs))


def setr_naive(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build SETR-Naive: one 1x1 block on the last map, two on each earlier one, upsampled to 1/4.

    On ViT-large in public.
    """
    scale = max(1, backbone.strides[-1] // QUARTER)

    def up(*scales: int) -> Callable[[int], Up]:
        return lambda before: Up(before, width // 2, classes, scales=scales, kernel=1, dropout=dropout)

    return PublishedNetwork(backbone, UpHead(backbone.channels, up(scale), up(scale, scale)))


def setr_pup(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build SETR-PUP: 3x3 blocks with a doubling after each, to full size; on ViT-large in public."""
    scale = max(1, backbone.strides[-1] // QUARTER)
    doublings = round(math.log2(backbone.strides[-1]))

    def up(*scales: int) -> Callable[[int], Up]:
        return lambda before: Up(before, width // 2, classes, scales=scales, kernel=3, dropout=dropout)

    return PublishedNetwork(backbone, UpHead(backbone.channels, up(*[2] * doublings), up(scale, scale)))


def setr_mla(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build SETR-MLA: multi-level aggregation to 1/4; on ViT-large in public."""
    scale = max(1, backbone.strides[-1] // QUARTER)
    return PublishedNetwork(backbone, AggregationHead(backbone.channels, width, classes, scale, dropout))
