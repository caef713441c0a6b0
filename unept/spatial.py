"""The spatial branch: context queries from the image itself, and the heads that predict its boundaries."""

from __future__ import annotations

from torch import Tensor, nn

DIRECTIONS = 8


class ConvBlock(nn.Module):
    """3x3 convolution of stride 2, batch norm, and a ReLU if ``relu``."""

    def __init__(self, before: int, after: int, *, relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, after, H / 2, W / 2)."""
        return self.relu(self.bn(self.conv1(x_BCHW)))


class SpatialBranch(nn.Module):
    """Three convolutions to 1/8 of the image (paper, section 3.3).

    Args:
        width: Channels of the result.
        spatial_widths: Channels after the first and the second convolution.
        relu_last: Apply a ReLU after the last convolution too; the paper's text and the released code differ here.
    """

    def __init__(
        self, *, width: int = 256, spatial_widths: tuple[int, int] = (64, 128), relu_last: bool = True
    ) -> None:
        super().__init__()
        first, second = spatial_widths
        self.convblock1 = ConvBlock(3, first, relu=True)
        self.convblock2 = ConvBlock(first, second, relu=True)
        self.convblock3 = ConvBlock(second, width, relu=relu_last)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """Return (B, width, H / 8, W / 8)."""
        return self.convblock3(self.convblock2(self.convblock1(image_B3HW)))


def prediction_head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """Return two 1x1 convolutions with batch norm and a ReLU between them: a boundary or a direction head.

    Args:
        width: Channels of the input.
        hidden: Channels between the convolutions.
        outputs: 1 or 2 for boundaries, 8 for directions.
    """
    return nn.Sequential(
        nn.Conv2d(width, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 1, bias=False),
    )
