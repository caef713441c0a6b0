"""ANL (Zhu et al. 2019): non-local attention whose keys and values are pooled to 110 tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Output, PublishedNetwork, attend, classifier, conv_bn_relu, fcn

POOLED = (1, 3, 6, 8)


class Asymmetric(nn.Module):
    """Attention whose queries come from one map and whose keys and values are pooled tokens of another.

    Args:
        key: Channels of the keys' map.
        query: Channels of the queries' map.
        inner: Channels of queries, keys and values.
        out: Channels of the result.
        shared: Use one projection for queries and keys.
    """

    def __init__(self, key: int, query: int, inner: int, out: int, *, shared: bool = False) -> None:
        super().__init__()
        self.key = conv_bn_relu(key, inner, 1)
        self.query = self.key if shared else conv_bn_relu(query, inner, 1)
        self.value = nn.Conv2d(key, inner, 1)
        self.out = nn.Conv2d(inner, out, 1)
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(side) for side in POOLED)

    def forward(self, query_BChw: Tensor, key_BChw: Tensor) -> Tensor:
        """Return (B, out, h, w), the size of the queries' map."""
        query_BCN = self.query(query_BChw).flatten(2)
        attended = attend(query_BCN, self._pooled(self.key(key_BChw)), self._pooled(self.value(key_BChw)))
        return self.out(attended.unflatten(2, query_BChw.shape[2:]))

    def _pooled(self, x_BChw: Tensor) -> Tensor:
        return torch.cat([pool(x_BChw).flatten(2) for pool in self.pools], dim=2)


class ANLHead(nn.Module):
    """Head in which the last map attends to the one before it (fusion), then to itself."""

    def __init__(self, channels: tuple[int, ...], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        low, high = channels[-2:]
        self.fusion = Asymmetric(low, high, width // 2, high)
        self.fused = conv_bn_relu(2 * high, high, 1, relu=False)
        self.bottleneck = conv_bn_relu(high, width, 3)
        self.attention = Asymmetric(width, width, width // 2, width, shared=True)
        self.after = conv_bn_relu(2 * width, width, 1)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the last map."""
        low, high = maps[-2:]
        x = self.bottleneck(self.fused(torch.cat((self.fusion(high, low), high), dim=1)))
        return Output(self.classify(self.after(torch.cat((self.attention(x, x), x), dim=1))))


def anl(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build ANL as in the public ADE20K configuration, where it has a ResNet with output stride 8."""
    head = ANLHead(backbone.channels, width, classes, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
