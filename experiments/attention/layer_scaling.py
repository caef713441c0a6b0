"""Attentions that the scaling measurement compares: the paper's, the three efficient ones of Table 8, and the
baselines.
"""

from __future__ import annotations

from bench.attention_layer import AttentionUnderTest, attention_from_options

SLOT = "encoder_self"  # positions are given, and there may be several levels
ATTENTION_FORMS = {  # by the name that the report has: attention, and parameters other than its defaults
    "deformable": ("deformable", ()),
    "sparse_transformer": ("sparse_transformer", ()),
    "sparse_transformer, fixed": ("sparse_transformer", ("mode=fixed",)),
    "longformer": ("longformer", ()),
    "longformer, window2d": ("longformer", ("order=window2d",)),
    "reformer": ("reformer", ()),
    "dense_fused": ("dense_fused", ()),
    "dense_math": ("dense_math", ()),
    "none": ("none", ()),
}


def attentions_to_scale() -> dict[str, AttentionUnderTest]:
    """Return one layer of each attention, at the paper's width and heads."""
    return {
        name: attention_from_options(SLOT, attention, options) for name, (attention, options) in ATTENTION_FORMS.items()
    }
