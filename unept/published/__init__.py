"""The networks that the paper compares with, rebuilt from their public configurations: one a file, on one frame.

>>> import unept
>>> network = unept.build(unept.ModelConfig(architecture="ccnet", backbone="tiny_conv", size=64, classes=8, width=64))
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from unept.config import ModelConfig
from unept.config_rules import check_network
from unept.published import anl, backbones, ccnet, dnlnet, encnet, ocrnet, pointrend, psanet, setr, upernet
from unept.published.loss import total_loss
from unept.published.parts import Auxiliary, Output, PublishedNetwork
from unept.utils.rng import draws_by_name

__all__ = ["PUBLISHED", "Auxiliary", "Output", "PublishedNetwork", "build_network", "check_network", "total_loss"]

PUBLISHED: dict[str, Callable[..., nn.Module]] = {
    "psanet": psanet.psanet,
    "upernet": upernet.upernet,
    "encnet": encnet.encnet,
    "ccnet": ccnet.ccnet,
    "pointrend": pointrend.pointrend,
    "dnlnet": dnlnet.dnlnet,
    "anl": anl.anl,
    "ocrnet": ocrnet.ocrnet,
    "setr_naive": setr.setr_naive,
    "setr_pup": setr.setr_pup,
    "setr_mla": setr.setr_mla,
}
_COARSE = ("upernet", "pointrend")  # with a pyramid of their own: a ResNet below them goes down to 1/32
_AGGREGATED = (5, 11, 17, 23)  # ViT-large blocks, counted from 0, whose tokens SETR's three heads take
_SUPERVISED = (9, 14, 19, 23)
MASK, MASK_SIZE = 66, 480  # PSANet's mask, and the crop in pixels from which on it is the published one


def build_network(config: ModelConfig, *, weights: str = "") -> nn.Module:
    """Build the published network that ``config`` names.

    Args:
        config: Only architecture, backbone, classes, size, width and dropout are read. ``width`` is 512 in every public
            configuration; each narrower layer is a fixed fraction of it.
        weights: File of backbone weights; "" for none.

    Raises:
        ValueError: In one line, for settings that do not go together and for a missing or unfit file.
    """
    check_network(config)
    name = config.architecture
    with draws_by_name()("backbone"):  # as in `unept.build`: one seed, one backbone, whatever the head
        backbone = backbones.build_published_backbone(
            config.backbone,
            config.size,
            stride=32 if name in _COARSE else 8,
            blocks=_AGGREGATED if name == "setr_mla" else _SUPERVISED,
            weights=weights,
        )
    extra = {"mask": _mask(config.size)} if name == "psanet" else {}
    return PUBLISHED[name](backbone, classes=config.classes, width=config.width, dropout=config.dropout, **extra)


def _mask(size: int) -> int:
    """Return PSANet's mask.

    The published size from the published crop on, else one that just covers the map at 1/16.
    """
    return MASK if size >= MASK_SIZE else 2 * -(-size // 16) - 1
