"""DNLNet (Yin et al. 2020): non-local attention split into a whitened pairwise term and a unary one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Output, PublishedNetwork, classifier, conv_bn_relu, fcn

TEMPERATURE = 0.05


class Disentangled(nn.Module):
    """Attention of every pixel to all others, by a whitened pairwise term and a unary one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width // 2
        self.value = nn.Conv2d(width, inner, 1)
        self.query = nn.Conv2d(width, inner, 1)
        self.key = nn.Conv2d(width, inner, 1)
        self.mask = nn.Conv2d(width, 1, 1)
        self.out = conv_bn_relu(inner, width, 1, relu=False)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a map of the same shape."""
        value_BCN, query_BCN, key_BCN = (part(x_BChw).flatten(2) for part in (self.value, self.query, self.key))
        # Pairwise term: attention between whitened queries and keys.
        query_BCN = query_BCN - query_BCN.mean(-1, keepdim=True)
        key_BCN = key_BCN - key_BCN.mean(-1, keepdim=True)
        sharpness = query_BCN.shape[1] ** -0.5 / TEMPERATURE
        pair_BNM = ((query_BCN.transpose(1, 2) @ key_BCN) * sharpness).softmax(-1)
        pairwise_BCN = value_BCN @ pair_BNM.transpose(1, 2)
        # Unary term: one attention map for all pixels.
        unary_BC1 = value_BCN @ self.mask(x_BChw).flatten(2).softmax(-1).transpose(1, 2)
        return x_BChw + self.out((pairwise_BCN + unary_BC1).unflatten(2, x_BChw.shape[2:]))


class DNLHead(nn.Module):
    """Head with a 3x3 block before and after the attention, then both maps fused."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.before = conv_bn_relu(channels, width, 3)
        self.attention = Disentangled(width)
        self.after = conv_bn_relu(width, width, 3)
        self.fuse = conv_bn_relu(channels + width, width, 3)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the last map."""
        after = self.after(self.attention(self.before(maps[-1])))
        return Output(self.classify(self.fuse(torch.cat((maps[-1], after), dim=1))))


def dnlnet(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build DNLNet as in the public ADE20K configuration, where it has a ResNet-101 with output stride 8."""
    head = DNLHead(backbone.channels[-1], width, classes, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
