"""Backbones of the published networks at full size.

Timm's, and any backbone of `unept.backbones` for reduced widths.
"""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from torch import Tensor, nn

from unept.backbones import Backbone, load_backbone_weights, make_backbone
from unept.catalogue import PUBLISHED_BACKBONES
from unept.config_rules import check_backbone
from unept.published.parts import MULTIPLE, resize
from unept.utils import torchvision_shim

RESNETS = {"resnet50": "resnet50c", "resnet101": "resnet101c"}
TIMM_WEIGHTS = {
    "resnet50c": "resnet50c.gluon_in1k",
    "resnet101c": "resnet101c.gluon_in1k",
    "hrnet_w48": "hrnet_w48.ms_in1k",
    "vit_large_patch16_384": "vit_large_patch16_384.augreg_in21k_ft_in1k",
}
VIT_SIZE = 512  # pixels; the crop of SETR's public ADE20K configuration, whose token grid the positions are stored for


class Features(Backbone):
    """Four maps of one of timm's convolutional networks, earliest first."""

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__()
        torchvision_shim.ensure()
        import timm

        net: Any = timm.create_model(name, pretrained=False, features_only=True, **options)
        for module in net.modules():
            for child, own in module.named_children():
                if isinstance(own, nn.Upsample):
                    setattr(module, child, Upsample(cast(float, own.scale_factor)))
        self.net = net
        self.published = TIMM_WEIGHTS[name]
        self.channels = tuple(net.feature_info.channels())
        self.strides = tuple(net.feature_info.reduction())

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return one map for each level."""
        return list(self.net(image_B3HW))

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in timm's own names."""
        return super().convert({f"net.{name}": tensor for name, tensor in tensors.items()})


class Upsample(nn.Module):
    """Bilinear upsampling between HRNet's branches, as in its segmentation network.

    Timm's classifier takes the nearest pixel.

    It is no `torch.nn.Upsample`; neither is the one of the public segmentation network.
    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = round(factor)

    def forward(self, x_BChw: Tensor) -> Tensor:
        """Return (B, C, factor * h, factor * w)."""
        return resize(x_BChw, [self.factor * side for side in x_BChw.shape[2:]])


class TokenMaps(Backbone):
    """A vision transformer of timm's: the token maps after the blocks ``outputs``, without a final norm."""

    def __init__(self, name: str, outputs: tuple[int, ...], size: int, **options: Any) -> None:
        super().__init__()
        torchvision_shim.ensure()
        import timm

        norm = partial(nn.LayerNorm, eps=1e-6)
        net: Any = timm.create_model(
            name,
            pretrained=False,
            img_size=size,
            num_classes=0,
            dynamic_img_size=True,
            final_norm=False,
            norm_layer=norm,
            **options,
        )
        self.net, self.outputs = net, outputs
        self.published = TIMM_WEIGHTS[name]
        self.channels = (net.embed_dim,) * len(outputs)
        self.strides = (net.patch_embed.patch_size[0],) * len(outputs)

    def forward(self, image_B3HW: Tensor) -> list[Tensor]:
        """Return one map (B, width, H / patch, W / patch) for each block."""
        maps: list[Tensor] = self.net.forward_intermediates(
            image_B3HW, indices=list(self.outputs), norm=False, intermediates_only=True
        )
        return maps

    def convert(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Convert a state dict in timm's own names."""
        return super().convert({f"net.{name}": tensor for name, tensor in tensors.items()})


def build_published_backbone(
    name: str, size: int, *, stride: int = 8, blocks: tuple[int, ...] = (), weights: str = ""
) -> Backbone:
    """Build the backbone ``name``.

    Args:
        name: A name of PUBLISHED_BACKBONES.
        size: Side of the crop in pixels, for the stored positions of a smaller transformer.
        stride: Output stride of a ResNet.
        blocks: Blocks whose tokens a ViT-large returns.
        weights: File of weights; "" for none.

    Raises:
        ValueError: For an unknown name and for weights that are missing or do not fit.
    """
    check_backbone(name, PUBLISHED_BACKBONES)
    own: Backbone
    if name in RESNETS:
        own = Features(RESNETS[name], output_stride=stride, out_indices=(1, 2, 3, 4))
    elif name == "hrnet_w48":
        own = Features(name, feature_location="", out_indices=(1, 2, 3, 4))
    elif name == "vit_large":
        own = TokenMaps("vit_large_patch16_384", blocks, VIT_SIZE)
    else:
        return make_backbone(name, -(-size // MULTIPLE) * MULTIPLE, weights=weights)
    if weights:
        load_backbone_weights(own, weights)
    return own
