"""A convolutional network for seconds of training: three levels of one resolution, and a small receptive field."""

from __future__ import annotations

from torch import Tensor, nn

from unept.backbones.base import Backbone

STEM = ((32, 2), (48, 2), (48, 1), (64, 2))  # channels and stride of each 3x3 convolution


class TinyConv(Backbone):
    """Four 3x3 convolutions to 1/8, then two residual blocks of 1x1 convolutions: 0.1 M parameters.

    The blocks deepen the features without enlarging their receptive field, so that anything farther away than half of
    ``receptive_field`` (pixels) can influence a feature through attention only.
    """

    channels = (64, 64, 64)
    strides = (8, 8, 8)

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        before, step, self.receptive_field = 3, 1, 1
        for channels, stride in STEM:
            parts += [
                nn.Conv2d(before, channels, 3, stride, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            self.receptive_field += 2 * step
            before, step = channels, step * stride
        self.stem = nn.Sequential(*parts)
        self.blocks = nn.ModuleList(Residual(before, 2 * before) for _ in range(2))

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return three maps of 64 channels at 1/8."""
        maps = [self.stem(image_B3HW)]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps


class Residual(nn.Module):
    """Two 1x1 convolutions with batch norm around a residual."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, hidden, 1, bias=False),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return a map of the same shape."""
        return self.relu(x_BCHW + self.body(x_BCHW))
