"""The spatial branch: context queries from the image itself, and the heads that see its boundaries."""

from __future__ import annotations

from torch import Tensor, nn

DIRECTIONS = 8


class ConvBlock(nn.Module):
    """3x3 convolution of stride 2, batch norm, and a ReLU where ``relu``."""

    def __init__(self, before: int, after: int, *, relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(after)
        self.relu = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Half the height and width."""
        return self.relu(self.bn(self.conv1(x_BCHW)))


class SpatialBranch(nn.Module):
    """Three convolutions to 1/8 (paper, section 3.3); whether the last has a ReLU differs between text and code."""

    def __init__(
        self, *, width: int = 256, spatial_widths: tuple[int, int] = (64, 128), relu_last: bool = True
    ) -> None:
        super().__init__()
        first, second = spatial_widths
        self.convblock1 = ConvBlock(3, first, relu=True)
        self.convblock2 = ConvBlock(first, second, relu=True)
        self.convblock3 = ConvBlock(second, width, relu=relu_last)

    def forward(self, image_B3HW: Tensor) -> Tensor:
        """(B, width, H / 8, W / 8)."""
        return self.convblock3(self.convblock2(self.convblock1(image_B3HW)))


def prediction_head(width: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two 1x1 convolutions: the boundary head (1 or 2 outputs) and the direction head (8)."""
    return nn.Sequential(
        nn.Conv2d(width, hidden, 1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(inplace=True),
        nn.Conv2d(hidden, outputs, 1, bias=False),
    )
