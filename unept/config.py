"""Configuration of a UN-EPT model and of its supervision, as typed values.

There are two profiles: ``paper`` follows the text of the paper where it says something, ``released`` follows the code
its authors published. Each point where they differ is a field here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

BACKENDS = ("auto", "reference", "native", "cuda", "mmcv")  # of deformable attention, see `unept.ops.resolve`
SLOTS = ("encoder_self", "decoder_self", "decoder_cross")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Architecture of one UN-EPT model (paper, section 3). Lengths in pixels, widths in channels.

    Another ``architecture`` is a network of `unept.published`. It reads only backbone, classes, size, width and
    dropout, and also accepts the backbones resnet101, hrnet_w48 and vit_large.
    """

    architecture: str = "unept"  # unept | psanet | upernet | encnet | ccnet | pointrend | dnlnet | anl | ...
    backbone: str = "resnet50"  # resnet50 | deit_base | lite0 | tiny_conv | tiny_vit
    classes: int = 150
    size: int = 480  # side of the training crop; fixes the learned query grid, ceil(size / 8) squared
    levels: int = 3  # L; L = 1 is the backbone's last feature map
    points: int = 16  # N, sampling points per level and head
    heads: int = 8
    width: int = 256
    ffn: int = 2048
    encoder_layers: int = 2
    decoder_layers: int = 2
    dropout: float = 0.1
    encoder_self: str = "deformable"
    decoder_self: str = "deformable"
    decoder_cross: str = "deformable"
    attention_options: tuple[tuple[str, Any], ...] = ()  # keywords of a slot's class: ("slot.name", value)
    reversible: bool = False  # encoder layers of two streams, recomputed for the gradient (Reformer, section 3)
    ffn_chunks: int = 1  # pieces of the sequence that the feed-forward networks take one after the other
    offset_init: Literal["released", "scaled"] = "released"
    spatial: bool = True  # the spatial branch with its boundary and direction heads
    queries: Literal["spatial", "embed", "both"] = "both"
    spatial_widths: tuple[int, int] = (64, 128)
    spatial_relu_last: bool = True
    head_width: int = 256
    boundary_head: Literal["binary", "two_class"] = "binary"
    edge_threshold: Literal["probability", "logit"] = "probability"
    refine_test: bool = True
    position_resize: Literal["bilinear", "bicubic"] = "bilinear"


def options_of(config: ModelConfig, slot: str) -> dict[str, Any]:
    """Return the options that ``config`` has for the attention in ``slot``, by name."""
    return {name.partition(".")[2]: value for name, value in config.attention_options if name.partition(".")[0] == slot}


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Supervision (paper, Eq. 7), and how the boundary and direction targets are made."""

    weight_ce: float = 1.0
    weight_refined: float = 1.5
    weight_boundary: float = 3.0
    weight_direction: float = 0.7
    ce_average: Literal["valid", "all"] = "valid"  # "all" also divides by the ignored pixels
    direction_area: Literal["predicted", "truth", "both"] = "predicted"
    boundary_ignore: Literal["masked", "positive"] = "masked"  # unlabelled pixels: left out, or boundary as released
    direction_flip: Literal["mirrored", "kept"] = "mirrored"  # "mirrored": angles follow a horizontal flip
    distance: Literal["crop", "stored"] = "crop"  # truth made after the crop, or once per image at its own size
    bounded: bool = True  # large maps: both segmentation terms in bands, never storing the upsampled logits


def paper_profile() -> tuple[ModelConfig, LossConfig]:
    """Return model and loss as in the paper's text, at its ADE20K setting with a ResNet-50."""
    return ModelConfig(), LossConfig()


def released_profile() -> tuple[ModelConfig, LossConfig]:
    """Return model and loss as in the authors' published code, at its ADE20K setting with a ResNet-50."""
    model = ModelConfig(
        decoder_self="batch",
        spatial_relu_last=False,
        boundary_head="two_class",
        edge_threshold="logit",
        refine_test=False,
        position_resize="bicubic",
    )
    loss = LossConfig(
        weight_ce=0.8,
        weight_refined=1.0,
        weight_boundary=5.0,
        weight_direction=0.6,
        ce_average="all",
        boundary_ignore="positive",
        direction_flip="kept",
        distance="stored",
    )
    return model, loss
