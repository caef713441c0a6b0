"""PointRend (Kirillov et al. 2020): a coarse map, refined point by point where it is least certain."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unept.backbones import Backbone
from unept.published.parts import Auxiliary, Output, PublishedNetwork, classifier, conv_bn_relu, resize

SUBDIVISIONS = 2  # each doubles the map
TEST_POINTS = 8196  # refined in each subdivision
TRAIN_POINTS = 2048
OVERSAMPLE = 3
IMPORTANT = 0.75  # share of the training points that are taken where the coarse map is least certain


class Pyramid(nn.Module):
    """Feature pyramid: ``width`` channels on every level, the coarser added to the finer."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(before, width, 1) for before in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Return one map for each level, at the sizes of the inputs."""
        levels = [lateral(level) for lateral, level in zip(self.laterals, maps, strict=True)]
        for index in range(len(levels) - 2, -1, -1):
            levels[index] = levels[index] + F.interpolate(levels[index + 1], size=levels[index].shape[2:])
        return [smooth(level) for smooth, level in zip(self.smooth, levels, strict=True)]


class Coarse(nn.Module):
    """Coarse prediction.

    Each level brought to the finest in steps of a 3x3 block and a doubling, summed, classified.
    """

    def __init__(self, strides: tuple[int, ...], width: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.doublings = tuple(round(math.log2(stride / strides[0])) for stride in strides)
        self.steps = nn.ModuleList(
            nn.Sequential(*(conv_bn_relu(hidden if step else width, hidden, 3) for step in range(max(1, doublings))))
            for doublings in self.doublings
        )
        self.classify = classifier(hidden, classes, dropout)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return logits (B, K, h, w) at the size of the finest level."""
        total: Tensor | None = None
        for x, steps, doublings in zip(levels, self.steps, self.doublings, strict=True):
            for step in cast(nn.Sequential, steps):
                x = step(x)
                x = resize(x, [2 * side for side in x.shape[2:]]) if doublings else x
            total = x if total is None else total + x
        assert total is not None, "a pyramid has levels"
        return self.classify(total)


class PointMLP(nn.Module):
    """Classes of single points from the finest features and the coarse logits, which every layer is given again."""

    def __init__(self, width: int, classes: int, layers: int = 3) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv1d(width + classes, width, 1), nn.ReLU(inplace=True)) for _ in range(layers)
        )
        self.classify = nn.Conv1d(width + classes, classes, 1)

    def forward(self, fine_BCP: Tensor, coarse_BKP: Tensor) -> Tensor:
        """(B, K, P)."""
        x = torch.cat((fine_BCP, coarse_BKP), dim=1)
        for layer in self.layers:
            x = torch.cat((layer(x), coarse_BKP), dim=1)
        return self.classify(x)


class PointHead(nn.Module):
    """Coarse prediction and point-wise refinement.

    Random and uncertain points in training, the most uncertain in evaluation.
    """

    def __init__(self, backbone: Backbone, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.pyramid = Pyramid(backbone.channels, width // 2)
        self.coarse = Coarse(backbone.strides, width // 2, width // 4, classes, dropout)
        self.points = PointMLP(width // 2, classes)

    def forward(self, maps: list[Tensor]) -> Output:
        """Return logits at the stride of the first map in training, at a quarter of it in evaluation."""
        # Feature pyramid and coarse logits, (B, K, h, w).
        finest, *_ = levels = self.pyramid(maps)
        coarse = self.coarse(levels)
        if self.training:
            places = training_places(coarse)
            logits_BKP = self.points(sample(finest, places), sample(coarse, places))
            return Output(coarse, (Auxiliary(logits_BKP, 1.0, places),))
        # Double the map and predict its least certain pixels anew.
        refined = coarse
        for _ in range(SUBDIVISIONS):
            refined = resize(refined, [2 * side for side in refined.shape[2:]])
            index_BP, places = uncertain_places(refined)
            logits_BKP = self.points(sample(finest, places), sample(coarse, places))
            index_BKP = index_BP[:, None].expand(-1, refined.shape[1], -1)
            refined = refined.flatten(2).scatter(2, index_BKP, logits_BKP).view_as(refined)
        return Output(refined)


def sample(map_BChw: Tensor, places_BP2: Tensor) -> Tensor:
    """Sample a map bilinearly at ``places``, fractions (x, y) of width and height; (B, C, P)."""
    grid_B1P2 = 2 * places_BP2[:, None] - 1
    return F.grid_sample(map_BChw, grid_B1P2, mode="bilinear", align_corners=False)[:, :, 0]


def uncertainty(logits_BKN: Tensor) -> Tensor:
    """Return the second-largest logit minus the largest: 0 if two classes are even, negative elsewhere; (B, N)."""
    top = logits_BKN.topk(2, dim=1).values
    return top[:, 1] - top[:, 0]


def uncertain_places(logits_BKhw: Tensor) -> tuple[Tensor, Tensor]:
    """Return flat indices (B, P) and centres (B, P, 2), as fractions (x, y), of the least certain pixels of a map."""
    h, w = logits_BKhw.shape[2:]
    index_BP = uncertainty(logits_BKhw.flatten(2)).topk(min(h * w, TEST_POINTS), dim=1).indices
    x = ((index_BP % w) + 0.5) / w
    y = (index_BP.div(w, rounding_mode="floor") + 0.5) / h
    return index_BP, torch.stack((x, y), dim=-1)


@torch.no_grad()
def training_places(logits_BKhw: Tensor) -> Tensor:
    """Draw random places (B, P, 2), most of them the least certain ones of a larger random draw."""
    B, points = logits_BKhw.shape[0], min(TRAIN_POINTS, 4 * logits_BKhw.shape[2] * logits_BKhw.shape[3])
    important = int(IMPORTANT * points)
    drawn_BD2 = torch.rand(B, OVERSAMPLE * points, 2, device=logits_BKhw.device)
    index_BP = uncertainty(sample(logits_BKhw, drawn_BD2)).topk(important, dim=1).indices
    chosen = drawn_BD2.gather(1, index_BP[..., None].expand(-1, -1, 2))
    return torch.cat((chosen, torch.rand(B, points - important, 2, device=logits_BKhw.device)), dim=1)


def pointrend(backbone: Backbone, *, classes: int = 150, width: int = 512, dropout: float = 0.1) -> PublishedNetwork:
    """Build PointRend as in the public ADE20K configuration: a ResNet-101 with output stride 32, no auxiliary head."""
    return PublishedNetwork(backbone, PointHead(backbone, width, classes, dropout))
