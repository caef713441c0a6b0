"""OCRNet (Yuan et al. 2020): a first guess of the classes pools one vector a class, to which every place attends."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unept.backbones import Backbone
from unept.published.parts import Auxiliary, Output, PublishedNetwork, attend, classifier, conv_bn_relu, resize


class ObjectAttention(nn.Module):
    """Attention of every pixel to the K class vectors."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.query = nn.Sequential(conv_bn_relu(width, inner, 1), conv_bn_relu(inner, inner, 1))
        self.key = nn.Sequential(conv_bn_relu(width, inner, 1), conv_bn_relu(inner, inner, 1))
        self.value = conv_bn_relu(width, inner, 1)
        self.out = conv_bn_relu(inner, width, 1)
        self.fuse = conv_bn_relu(2 * width, width, 1)

    def forward(self, x_BChw: Tensor, vectors_BCK: Tensor) -> Tensor:
        """Return a map of the same shape as the input map."""
        vectors = vectors_BCK[..., None]
        key, value = self.key(vectors).flatten(2), self.value(vectors).flatten(2)
        attended = attend(self.query(x_BChw).flatten(2), key, value).unflatten(2, x_BChw.shape[2:])
        return self.fuse(torch.cat((self.out(attended), x_BChw), dim=1))


class OCRHead(nn.Module):
    """Head that concatenates all maps, predicts a first guess, and attends to the class vectors it pools."""

    def __init__(self, channels: tuple[int, ...], width: int, classes: int, dropout: float) -> None:
        super().__init__()
        total = sum(channels)
        self.guess = nn.Sequential(conv_bn_relu(total, total, 1), *classifier(total, classes, dropout))
        self.bottleneck = conv_bn_relu(total, width, 3)
        self.attention = ObjectAttention(width, width // 2)
        self.classify = classifier(width, classes, dropout)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the first map."""
        # First guess of the classes from all maps.
        x = torch.cat([resize(level, maps[0].shape[2:]) for level in maps], dim=1)
        guess_BKhw = self.guess(x)
        x_BChw = self.bottleneck(x)
        # One vector for each class: the features weighted by the guess.
        share_BKN = guess_BKhw.flatten(2).softmax(-1)
        vectors_BCK = x_BChw.flatten(2) @ share_BKN.transpose(1, 2)
        logits = self.classify(self.attention(x_BChw, vectors_BCK))
        return Output(logits, (Auxiliary(guess_BKhw),) if self.training else ())


def ocrnet(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build OCRNet as in the public ADE20K configuration, where it has an HRNet-W48.

    The first guess is the auxiliary head.
    """
    return PublishedNetwork(backbone, OCRHead(backbone.channels, width, classes, dropout))
