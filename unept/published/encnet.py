"""EncNet (Zhang et al. 2018): the whole image, encoded over a learned codebook, gates the channels of the map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Auxiliary, Output, PublishedNetwork, classifier, conv_bn_relu, fcn

CODES = 32
PRESENCE_WEIGHT = 0.2


class Encoding(nn.Module):
    """Residuals of all pixels to each codeword, weighted by a soft assignment and summed over the map."""

    def __init__(self, width: int, codes: int) -> None:
        super().__init__()
        limit = (codes * width) ** -0.5
        self.codewords = nn.Parameter(torch.empty(codes, width).uniform_(-limit, limit))
        self.scale = nn.Parameter(torch.empty(codes).uniform_(-1, 0))

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return (B, codes, C). Distances are computed by products, so that no (pixels, codes, C) tensor is stored."""
        x_BNC = x_BChw.flatten(2).transpose(1, 2)
        squares_BN1 = x_BNC.square().sum(-1, keepdim=True)
        distance_BNK = squares_BN1 - 2 * x_BNC @ self.codewords.T + self.codewords.square().sum(-1)
        share_BKN = (self.scale * distance_BNK).softmax(-1).transpose(1, 2)
        return share_BKN @ x_BNC - share_BKN.sum(-1, keepdim=True) * self.codewords


class EncHead(nn.Module):
    """Head with a 3x3 block gated by the encoding of the image.

    In training it also predicts the classes of the image.
    """

    def __init__(self, channels: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.bottleneck = conv_bn_relu(channels, width, 3)
        self.project = conv_bn_relu(width, width, 1)
        self.encode = nn.Sequential(Encoding(width, CODES), nn.BatchNorm1d(CODES), nn.ReLU(inplace=True))
        self.gate = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.presence = nn.Linear(width, classes)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the last map."""
        x_BChw = self.bottleneck(maps[-1])
        encoded_BC = self.encode(self.project(x_BChw)).mean(1)
        gated = torch.relu(x_BChw + x_BChw * self.gate(encoded_BC)[..., None, None])
        extra = (Auxiliary(self.presence(encoded_BC), PRESENCE_WEIGHT),) if self.training else ()
        return Output(self.classify(gated), extra)


def encnet(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build EncNet as in the public ADE20K configuration, where it has a ResNet-101 with output stride 8."""
    head = EncHead(backbone.channels[-1], width, classes, dropout)
    return PublishedNetwork(backbone, head, fcn(backbone.channels[-2], width // 2, classes, dropout))
