"""The two profiles, field by field, as the paper's text and the released code have them."""

from dataclasses import asdict

import unept

PAPER = {
    "decoder_self": "deformable", "spatial_relu_last": True, "boundary_head": "binary",
    "edge_threshold": "probability", "refine_test": True, "position_resize": "bilinear",
    "weight_ce": 1.0, "weight_refined": 1.5, "weight_boundary": 3.0, "weight_direction": 0.7, "ce_average": "valid",
    "boundary_ignore": "masked", "direction_flip": "mirrored", "distance": "crop",
}  # fmt: skip
RELEASED = {
    "decoder_self": "batch", "spatial_relu_last": False, "boundary_head": "two_class",
    "edge_threshold": "logit", "refine_test": False, "position_resize": "bicubic",
    "weight_ce": 0.8, "weight_refined": 1.0, "weight_boundary": 5.0, "weight_direction": 0.6, "ce_average": "all",
    "boundary_ignore": "positive", "direction_flip": "kept", "distance": "stored",
}  # fmt: skip
SHARED = {
    "architecture": "unept",
    "backbone": "resnet50", "classes": 150, "size": 480, "levels": 3, "points": 16, "heads": 8, "width": 256,
    "ffn": 2048, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.1, "encoder_self": "deformable",
    "decoder_cross": "deformable", "offset_init": "released", "spatial": True, "queries": "both",
    "spatial_widths": (64, 128), "head_width": 256, "direction_area": "predicted",
    "attention_options": (), "reversible": False, "ffn_chunks": 1, "bounded": True,
}  # fmt: skip


def test_profiles():
    for profile, own in ((unept.paper_profile, PAPER), (unept.released_profile, RELEASED)):
        model, loss = profile()
        assert asdict(model) | asdict(loss) == own | SHARED
