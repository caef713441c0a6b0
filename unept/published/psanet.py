"""PSANet (Zhao et al. 2018): every place predicts where on the map it collects from and distributes to."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Output, PublishedNetwork, classifier, conv_bn_relu, fcn, resize


class Branch(nn.Module):
    """One of the two directions: features at half the size, and ``mask`` x ``mask`` weights around each pixel."""

    def __init__(self, before: int, width: int, mask: int) -> None:
        super().__init__()
        self.reduce = conv_bn_relu(before, width, 1)
        self.attention = nn.Sequential(conv_bn_relu(width, width, 1), nn.Conv2d(width, mask**2, 1, bias=False))
        self.mask = mask

    def forward(self, x_BChw: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, C, h/2, w/2), and weights (B, other, own) between each pixel and every other."""
        reduced = self.reduce(x_BChw)
        reduced = resize(reduced, [max(side // 2, 1) for side in reduced.shape[2:]])
        return reduced, spread(self.attention(reduced), self.mask)


class PSAHead(nn.Module):
    """Collect and distribute branches, projected back to the backbone's channels and fused with its last map."""

    def __init__(self, channels: int, width: int, classes: int, mask: int, dropout: float) -> None:
        super().__init__()
        self.collect = Branch(channels, width, mask)
        self.distribute = Branch(channels, width, mask)
        self.project = conv_bn_relu(2 * width, channels, 1, padding=1)  # the public head pads its 1x1 convolution
        self.bottleneck = conv_bn_relu(2 * channels, width, 3)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the last map."""
        x = maps[-1]
        collected, from_others = self.collect(x)
        distributed, to_others = self.distribute(x)
        # Collect from and distribute to all pixels of the halved map.
        both = [
            (features.flatten(2) @ weights.softmax(1)).view_as(features)
            for features, weights in ((collected, from_others), (distributed, to_others.transpose(1, 2)))
        ]
        context = resize(self.project(torch.cat(both, dim=1)), x.shape[2:])
        return Output(self.classify(self.bottleneck(torch.cat((x, context), dim=1))))


def spread(mask_BMhw: Tensor, side: int) -> Tensor:
    """Lay each pixel's weights, stored relative to it, out over the whole map: (B, other pixel, own pixel).

    Channel (r, c) of a pixel's ``side`` x ``side`` mask belongs to the pixel r - (side - 1) // 2 rows below it and c -
    (side - 1) // 2 columns to its right; pixels outside the mask get 0.
    """
    h, w = mask_BMhw.shape[2:]
    rows_hh, inside_hh = _offsets(h, side, mask_BMhw.device)
    columns_ww, inside_ww = _offsets(w, side, mask_BMhw.device)
    channel_NN = (rows_hh[:, None, :, None] * side + columns_ww[None, :, None, :]).reshape(h * w, h * w)
    inside_NN = (inside_hh[:, None, :, None] & inside_ww[None, :, None, :]).reshape(h * w, h * w)
    gathered = mask_BMhw.flatten(2).gather(1, channel_NN.expand(mask_BMhw.shape[0], -1, -1))
    return gathered.masked_fill(~inside_NN, 0.0)


def _offsets(length: int, side: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mask's row (or column) for each (other, own) pair along one axis, and whether the mask contains it."""
    position = torch.arange(length, device=device)
    offset = position[:, None] - position + (side - 1) // 2
    return offset.clamp(0, side - 1), (offset >= 0) & (offset < side)


def psanet(
    backbone: Backbone, *, classes: int = 150, width: int = 512, mask: int = 66, dropout: float = 0.1
) -> PublishedNetwork:
    """Build PSANet as in the public ADE20K configuration, where it has a ResNet-101 with output stride 8."""
    head = PSAHead(backbone.channels[-1], width, classes, mask, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
