"""Builds models from state dicts of the code that the paper's authors published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isqrt
from typing import NamedTuple

import torch
from torch import Tensor

from unept.backbones import Backbone, ResNet, VisionTransformer
from unept.config import ModelConfig, released_profile
from unept.model import STRIDE, UNEPT

FALLBACK_HEADS = 3
HEAD_WIDTH = 64
# Parameters of the two released models at 150 classes and crops of 480 pixels, counted in the released code (spec 0).
TOTALS = {"deit_base": 94_842_326, "resnet50": 32_357_942}


class Parity(NamedTuple):
    """Agreement of a state dict with the released layout.

    Attributes:
        matched: Number of tensors with the right name and shape.
        missing: Names that the state dict lacks.
        extra: Names that the layout lacks.
        shapes: Name, the state dict's shape and the layout's, where they differ.
    """

    matched: int
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    @property
    def whole(self) -> bool:
        """True if names and shapes agree completely."""
        return not (self.missing or self.extra or self.shapes)


def load_released(state_dict: Mapping[str, Tensor], heads: int = 8, backbone_heads: int | None = None) -> UNEPT:
    """Build the model that ``state_dict`` belongs to, in the released profile and in evaluation mode, with its weights.

    The backbone is recognised by the names; widths, depths, levels, points and classes are read from the shapes.

    Args:
        state_dict: Tensors by name.
        heads: Number of attention heads (cannot be read from the state dict).
        backbone_heads: Number of heads of a DeiT (cannot be read from the state dict); None = the backbone's width / 64
            if that is whole, else 3.

    Raises:
        ValueError: Names the tensor where the layout is not the released one.
    """
    if isinstance(state_dict.get("state_dict"), Mapping):
        raise ValueError("this is a whole checkpoint: load its 'state_dict'")
    tensors = _Tensors(state_dict)
    model = _made(tensors, heads, backbone_heads)
    own = model.state_dict()
    for name, tensor in own.items():
        if tensors.shape(name) != tuple(tensor.shape):
            raise ValueError(f"{name} is {tensors.shape(name)}, where the other tensors ask for {tuple(tensor.shape)}")
    extra = sorted(set(state_dict) - set(own))
    if extra:
        raise ValueError(f"{extra[0]} is no tensor of a released model")
    model.load_state_dict(dict(state_dict))
    return model.eval()


def compare(state_dict: Mapping[str, Tensor], heads: int = 8, backbone_heads: int | None = None) -> Parity:
    """Compare every tensor of ``state_dict`` with the model that its shapes imply, which is built without memory.

    Args:
        state_dict: Tensors by name.
        heads: Number of attention heads.
        backbone_heads: Number of heads of a DeiT; None as in `load_released`.

    Raises:
        ValueError: As from `load_released`, if the shapes imply no model at all.
    """
    tensors = _Tensors(state_dict)
    with torch.device("meta"):
        own = _made(tensors, heads, backbone_heads).state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in own.items()}
    shared = [name for name in expected if name in tensors.shapes]
    shapes = tuple(
        (name, tensors.shapes[name], expected[name]) for name in shared if tensors.shapes[name] != expected[name]
    )
    return Parity(
        matched=len(shared) - len(shapes),
        missing=tuple(name for name in expected if name not in tensors.shapes),
        extra=tuple(name for name in state_dict if name not in expected),
        shapes=shapes,
    )


def known_total(backbone: str, classes: int, size: int) -> int:
    """Return the number of parameters of a released model: `TOTALS`, corrected for other classes and another crop.

    Args:
        backbone: deit_base or resnet50.
        classes: Number of classes.
        size: Side of the training crop in pixels.
    """
    total = TOTALS[backbone] + 257 * (classes - 150) + 256 * ((-(-size // STRIDE)) ** 2 - 60**2)
    return total + (768 * ((size // 16) ** 2 - 30**2) if backbone == "deit_base" else 0)


class _Tensors:
    """Shapes of a state dict, with one line of error for a missing name."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        self.shapes = {n: tuple(tensor.shape) for n, tensor in state_dict.items() if isinstance(tensor, Tensor)}

    def shape(self, name: str, dimensions: int | None = None) -> tuple[int, ...]:
        if name not in self.shapes:
            raise ValueError(f"the state dict has no {name}: not the layout of the released code")
        shape = self.shapes[name]
        if dimensions is not None and (len(shape) != dimensions or 0 in shape):
            raise ValueError(f"{name} is {shape}, where the released code has {dimensions} dimensions, none of them 0")
        return shape

    def count(self, prefix: str) -> int:
        """Return the number of numbered modules under ``prefix``."""
        numbers = {name[len(prefix) :].split(".")[0] for name in self.shapes if name.startswith(prefix)}
        return len(numbers)


def _made(tensors: _Tensors, heads: int, backbone_heads: int | None) -> UNEPT:
    """Build the model that the shapes imply, with random weights."""
    config = _config(tensors, heads)
    backbone = _deit(tensors, config, backbone_heads) if config.backbone == "deit_base" else _resnet(tensors)
    return UNEPT(config, backbone)


def _config(tensors: _Tensors, heads: int) -> ModelConfig:
    classes, width = tensors.shape("cls.weight", 4)[:2]
    levels = tensors.shape("context_branch.level_embed", 2)[0]
    sampled = "context_branch.decoder.layers.0.cross_attn.sampling_offsets.bias"
    offsets = tensors.shape(sampled, 1)[0]
    if heads < 1 or width % heads or offsets % (heads * levels * 2):
        raise ValueError(
            f"heads={heads} does not divide the {width} channels of cls.weight and the {offsets} numbers of {sampled} "
            f"for {levels} levels"
        )
    queries = tensors.shape("query_embed.weight", 2)[0]
    if isqrt(queries) ** 2 != queries:
        raise ValueError(f"query_embed.weight has {queries} rows, no square grid")
    model, _ = released_profile()
    return replace(
        model,
        backbone="deit_base" if tensors.count("backbone.blocks.") else "resnet50",
        classes=classes,
        size=isqrt(queries) * STRIDE,
        levels=levels,
        points=offsets // (heads * levels * 2),
        heads=heads,
        width=width,
        ffn=tensors.shape("context_branch.decoder.layers.0.linear1.weight", 2)[0],
        encoder_layers=tensors.count("context_branch.encoder.layers."),
        decoder_layers=tensors.count("context_branch.decoder.layers."),
        spatial_widths=(
            tensors.shape("spatial_branch.convblock1.conv1.weight", 4)[0],
            tensors.shape("spatial_branch.convblock2.conv1.weight", 4)[0],
        ),
        head_width=tensors.shape("mask_head.0.weight", 4)[0],
    )


def _deit(tensors: _Tensors, config: ModelConfig, heads: int | None) -> Backbone:
    width, _, patch, _ = tensors.shape("backbone.patch_embed.proj.weight", 4)
    if heads is None:
        heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else FALLBACK_HEADS
    positions = tensors.shape("backbone.pos_embed", 3)[1] - 2
    if positions < 1 or isqrt(positions) ** 2 != positions:
        raise ValueError(f"backbone.pos_embed has {positions + 2} tokens, no two and a square grid")
    hidden = tensors.shape("backbone.blocks.0.mlp.fc1.weight", 2)[0]
    return VisionTransformer(
        size=isqrt(positions) * patch,
        patch=patch,
        width=width,
        depth=tensors.count("backbone.blocks."),
        heads=heads,
        mlp_ratio=(hidden + 0.5) / width,  # timm cuts the product to a whole number
        prefix=2,
        position_resize=config.position_resize,
    )


def _resnet(tensors: _Tensors) -> Backbone:
    stages = (1, 2, 3, 4)
    first, second, third, fourth = (tensors.shape(f"backbone.layer{stage}.0.conv1.weight", 4)[0] for stage in stages)
    depth1, depth2, depth3, depth4 = (tensors.count(f"backbone.layer{stage}.") for stage in stages)
    return ResNet(
        depths=(depth1, depth2, depth3, depth4),
        widths=(first, second, third, fourth),
        stem_width=tensors.shape("backbone.stem.0.weight", 4)[0],
    )
