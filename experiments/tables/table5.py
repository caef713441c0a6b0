"""Table 5: the components added one at a time, from single-scale attention to the whole model on a stronger backbone.

Beside the paper's four rows stands `none`, the third row without self-attention: what it loses is what attention in
those slots brings. The stronger backbone is DeiT-B; beside the tiny conv net of the quick preset it is a tiny ViT,
trained from scratch.
"""

from __future__ import annotations

from dataclasses import replace

from bench.config.grid import Variant
from bench.config.settings import Settings
from experiments.tables import baselines, table6

POINTS = 16
AXES = ("levels", "spatial", "queries", "backbone", *baselines.SELF_SLOTS)
CONTROL = "+ spatial path"  # the whole model, which Table 6 calls N=16 L=3
STRONGER = {"tiny_conv": "tiny_vit", "lite0": "deit_base", "resnet50": "deit_base"}


def table5_variants(base: Settings, *, stronger_weights: str = "") -> tuple[Variant, ...]:
    """Return the four rows in the table's order, each with everything of the row before it, then `none`.

    Args:
        base: Settings below the rows; its `backbone_weights` belong to the base backbone.
        stronger_weights: Weights of the stronger backbone; "" for training from scratch.

    Raises:
        ValueError: The backbone has no stronger one here.
    """
    if base.model.backbone not in STRONGER:
        raise ValueError(f"backbone {base.model.backbone!r}: the ladder of Table 5 starts from {', '.join(STRONGER)}")
    spatial = table6.table6_cell(base, points=POINTS, levels=3)
    pyramid = _without_spatial_path(spatial)
    baseline = replace(pyramid, model=replace(pyramid.model, levels=1))
    stronger = replace(
        spatial,
        model=replace(spatial.model, backbone=STRONGER[base.model.backbone]),
        train=replace(spatial.train, backbone_weights=stronger_weights),
    )
    rows = {
        "baseline": baseline,
        "+ pyramid features": pyramid,
        "+ spatial path": spatial,
        "+ stronger backbone": stronger,
        baselines.NONE: baselines.without_self_attention(spatial),
    }
    return tuple(Variant(name=name, axes=_axes(settings), settings=settings) for name, settings in rows.items())


def _without_spatial_path(settings: Settings) -> Settings:
    """Learned-embedding queries and plain cross-entropy."""
    return replace(
        settings,
        model=replace(settings.model, spatial=False, queries="embed"),
        loss=replace(settings.loss, weight_refined=0.0, weight_boundary=0.0, weight_direction=0.0),
    )


def _axes(settings: Settings) -> dict[str, object]:
    return {name: getattr(settings.model, name) for name in AXES}
