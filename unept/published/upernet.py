"""UPerNet (Xiao et al. 2018): pyramid pooling on the last map, a feature pyramid below it, all levels fused."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Output, PublishedNetwork, classifier, conv_bn_relu, fcn, resize

POOLED = (1, 2, 3, 6)


class UPerHead(nn.Module):
    """Pyramid pooling and feature pyramid.

    Every level as ``width`` channels, concatenated at the size of the finest.
    """

    def __init__(self, channels: tuple[int, ...], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        *finer, last = channels
        self.pools = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(side), conv_bn_relu(last, width, 1)) for side in POOLED
        )
        self.pooled = conv_bn_relu(last + len(POOLED) * width, width, 3)
        self.laterals = nn.ModuleList(conv_bn_relu(before, width, 1) for before in finer)
        self.smooth = nn.ModuleList(conv_bn_relu(width, width, 3) for _ in finer)
        self.fuse = conv_bn_relu(len(channels) * width, width, 3)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the first map."""
        # Pyramid pooling on the last map.
        last = maps[-1]
        pooled = [resize(pool(last), last.shape[2:]) for pool in self.pools]
        levels = [lateral(level) for lateral, level in zip(self.laterals, maps[:-1], strict=True)]
        levels.append(self.pooled(torch.cat((last, *pooled), dim=1)))
        # Top-down: add the coarser level to the finer.
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + resize(levels[index + 1], levels[index].shape[2:])
        levels = [smooth(level) for smooth, level in zip(self.smooth, levels[:-1], strict=True)] + levels[-1:]
        # All levels at the size of the finest.
        fused = self.fuse(torch.cat([resize(level, maps[0].shape[2:]) for level in levels], dim=1))
        return Output(self.classify(fused))


def upernet(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build UPerNet as in the public ADE20K configuration, where it has a ResNet-101 with output stride 32."""
    head = UPerHead(backbone.channels, width, classes, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
