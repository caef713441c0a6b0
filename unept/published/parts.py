"""Common parts of the published networks: small blocks, the frame around backbone and heads, and the output.

Axes: B images, K classes, H x W pixels, h x w pixels of a map, N of them flattened, P sampled points. Maps come
earliest first, as `unept.backbones.Backbone` returns them; counts of layers follow the public configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from unept.backbones import Backbone

MULTIPLE = 32  # images are padded to a multiple of it, the coarsest stride of any backbone here
AUXILIARY_WEIGHT = 0.4


class Auxiliary(NamedTuple):
    """Logits that are supervised beside the prediction, and the weight of their loss.

    (B, K, h, w) is a map of classes. (B, K, P) are classes at ``places`` (B, P, 2), fractions (x, y) of the padded
    image. (B, K) says which classes the image contains.
    """

    logits: Tensor
    weight: float = AUXILIARY_WEIGHT
    places: Tensor | None = None


class Output(NamedTuple):
    """Result of a published network.

    Attributes:
        logits: Of the padded image at the head's own stride in training, (B, K, H, W) in evaluation.
        auxiliary: Auxiliary logits; empty in evaluation.
        refined: Always None; read by `unept.inference`.
    """

    logits: Tensor
    auxiliary: tuple[Auxiliary, ...] = ()
    refined: None = None


class PublishedNetwork(nn.Module):
    """A backbone, a head, and in training an auxiliary head on the last map but one if there is any.

    Args:
        backbone: Gives the maps.
        head: Maps the backbone's maps to an `Output` at its own stride.
        auxiliary: Maps the last map but one to auxiliary logits.
    """

    def __init__(self, backbone: Backbone, head: nn.Module, auxiliary: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary = auxiliary

    def forward(self, image_B3HW: Tensor) -> Output:
        """Segment normalised images of any one size, float (B, 3, H, W)."""
        H, W = image_B3HW.shape[2:]
        image = F.pad(image_B3HW, (0, -W % MULTIPLE, 0, -H % MULTIPLE))
        maps = self.backbone(image)  # earliest first
        output: Output = self.head(maps)
        if not self.training:
            return Output(resize(output.logits, image.shape[2:])[..., :H, :W])
        if self.auxiliary is not None:
            output = Output(output.logits, (*output.auxiliary, Auxiliary(self.auxiliary(maps[-2]))))
        return output


def conv_bn_relu(
    before: int, after: int, kernel: int, *, padding: int | None = None, relu: bool = True
) -> nn.Sequential:
    """Return a convolution without bias, batch norm, and a ReLU.

    Args:
        before: Channels of the input.
        after: Channels of the output.
        kernel: Side of the kernel.
        padding: Pixels of zeros on each side; None = half the kernel, which keeps the size.
        relu: Add the ReLU.
    """
    around = kernel // 2 if padding is None else padding
    layers: list[nn.Module] = [
        nn.Conv2d(before, after, kernel, padding=around, bias=False),
        nn.BatchNorm2d(after),
    ]
    return nn.Sequential(*layers, *[nn.ReLU(inplace=True)] * relu)


def classifier(before: int, classes: int, dropout: float) -> nn.Sequential:
    """Return dropout of whole channels, then a 1x1 convolution to the classes."""
    return nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(before, classes, 1))


def fcn(before: int, width: int, classes: int, dropout: float) -> nn.Sequential:
    """Return the auxiliary head of the dilated networks: a 3x3 block, then the classes."""
    return nn.Sequential(conv_bn_relu(before, width, 3), *classifier(width, classes, dropout))


def resize(map_BChw: Tensor, size: Sequence[int]) -> Tensor:
    """Resize a map bilinearly, corners not aligned; the map itself is returned if it has that size."""
    if tuple(map_BChw.shape[2:]) == tuple(size):
        return map_BChw
    return F.interpolate(map_BChw, size=tuple(size), mode="bilinear", align_corners=False)


def attend(query_BCN: Tensor, key_BCM: Tensor, value_BDM: Tensor) -> Tensor:
    """Return scaled dot-product attention of N pixels over M others, channels first; (B, D, N)."""
    scores_BNM = (query_BCN.transpose(1, 2) @ key_BCM) * query_BCN.shape[1] ** -0.5
    return value_BDM @ scores_BNM.softmax(-1).transpose(1, 2)
