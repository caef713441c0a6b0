"""CCNet (Huang et al. 2019): every place attends to its own row and column, twice, and so to the whole map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Output, PublishedNetwork, classifier, conv_bn_relu, fcn

PASSES = 2


class CrissCross(nn.Module):
    """Attention over the H + W - 1 pixels of a pixel's row and column, scaled by a factor that starts at 0."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(width, width // 8, 1)
        self.key = nn.Conv2d(width, width // 8, 1)
        self.value = nn.Conv2d(width, width, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return a map of the same shape. The pixel itself is counted once, in its row."""
        query, key, value = self.query(x_BChw), self.key(x_BChw), self.value(x_BChw)
        h = x_BChw.shape[2]
        own_h1h = torch.eye(h, dtype=torch.bool, device=x_BChw.device)[:, None]
        # Scores against the pixel's column (without itself) and row, in one softmax.
        column_Bhwi = torch.einsum("bchw,bciw->bhwi", query, key).masked_fill(own_h1h, float("-inf"))
        row_Bhwj = torch.einsum("bchw,bchj->bhwj", query, key)
        share = torch.cat((column_Bhwi, row_Bhwj), dim=-1).softmax(-1)
        # Weighted sums of the values along column and row.
        gathered = torch.einsum("bhwi,bciw->bchw", share[..., :h], value)
        gathered = gathered + torch.einsum("bhwj,bchj->bchw", share[..., h:], value)
        return self.gamma * gathered + x_BChw


class CCHead(nn.Module):
    """Head with a 3x3 block before and after the attention, then both maps fused."""

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.before = conv_bn_relu(channels, width, 3)
        self.attention = CrissCross(width)
        self.after = conv_bn_relu(width, width, 3)
        self.fuse = conv_bn_relu(channels + width, width, 3)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the last map."""
        x = self.before(maps[-1])
        for _ in range(PASSES):
            x = self.attention(x)
        return Output(self.classify(self.fuse(torch.cat((maps[-1], self.after(x)), dim=1))))


def ccnet(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build CCNet as in the public ADE20K configuration, where it has a ResNet with output stride 8."""
    head = CCHead(backbone.channels[-1], width, classes, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
