"""ResNet-50 V1c as the paper uses it: stages 3 to 5, all at 1/8 through dilation."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from unept.backbones.base import Backbone
from unept.utils import torchvision_shim

STEM_NAMES = {
    "conv1.0": "stem.0",
    "conv1.1": "stem.1",
    "conv1.3": "stem.3",
    "conv1.4": "stem.4",
    "conv1.6": "stem.6",
    "bn1": "stem.7",
}


class ResNet(Backbone):
    """ResNet V1c: deep stem of three 3x3 convolutions, bottlenecks, output stride 8, contracted first dilation.

    Names of parameters follow OpenMMLab's ``resnet50_v1c``: ``stem.{0,1,3,4,6,7}``, ``layer{1..4}``.

    Args:
        depths: Blocks of each stage.
        widths: Inner channels of each stage; a stage returns four times as many.
        stem_width: Channels of the stem's first convolution.
    """

    strides = (8, 8, 8)
    published = "resnet50c.gluon_in1k"

    def __init__(
        self,
        depths: tuple[int, int, int, int] = (3, 4, 6, 3),
        widths: tuple[int, int, int, int] = (64, 128, 256, 512),
        stem_width: int = 32,
    ) -> None:
        super().__init__()
        torchvision_shim.ensure()
        from timm.models.resnet import Bottleneck
        from timm.models.resnet import ResNet as TimmResNet

        block: Any = Bottleneck  # timm asks for an instance in its annotation, and for the class in its code
        net: Any = TimmResNet(
            block,
            layers=depths,
            channels=widths,
            num_classes=0,
            output_stride=8,
            stem_type="deep",
            stem_width=stem_width,
        )
        self.stem = nn.Sequential(*net.conv1, net.bn1, net.act1)
        self.maxpool = net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        self.channels = tuple(4 * width for width in widths[1:])

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return the maps of stages 3, 4 and 5, all at 1/8."""
        stage3 = self.layer2(self.layer1(self.maxpool(self.stem(image_B3HW))))
        stage4 = self.layer3(stage3)
        return [stage3, stage4, self.layer4(stage4)]

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in timm's names of ``resnet50c`` or in OpenMMLab's."""
        renamed = {}
        for name, tensor in tensors.items():
            module, _, leaf = name.rpartition(".")
            renamed[f"{STEM_NAMES.get(module, module)}.{leaf}"] = tensor
        return super().convert(renamed)
