"""Which attentions `unept-bench memory --scale` lays side by side: the paper's, its three rivals, and the controls."""

from __future__ import annotations

from bench.check import Subject, subject

SLOT = "encoder_self"  # positions are given, and there may be several levels
ATTENTIONS = (
    "deformable",
    "sparse_transformer",
    "longformer",
    "reformer",
    "dense_fused",
    "dense_math",
    "none",
)


def subjects() -> dict[str, Subject]:
    """One layer of each, with its own defaults, at the width and the heads of the paper."""
    return {name: subject(SLOT, name, []) for name in ATTENTIONS}
