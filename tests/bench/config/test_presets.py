"""The three presets: valid, and the paper's at the figures that the paper gives (section 4.2)."""

from __future__ import annotations

import dataclasses

import pytest

from bench.config.fields import field_value, replace_fields
from bench.config.grid import expand_axes, parse_axes, validate_settings
from bench.config.presets import PRESETS, estimate_training_seconds, preset
from bench.config.settings import settings_from_dict, settings_to_dict


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_run_and_survives_its_own_json(name: str) -> None:
    settings = preset(name)
    validate_settings(settings)
    assert settings_from_dict(settings_to_dict(settings)) == settings
    assert estimate_training_seconds(settings, threads=1) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("size", 480),
        ("classes", 150),
        ("levels", 3),
        ("points", 16),
        ("heads", 8),
        ("width", 256),
        ("ffn", 2048),
        ("encoder_layers", 2),
        ("decoder_layers", 2),
        ("steps", 160_000),
        ("batch", 16),
        ("lr", 1e-4),
        ("backbone_lr", 0.1),
        ("lr_drop", 2 / 3),
        ("weight_decay", 1e-4),
        ("scale_min", 0.5),
        ("scale_max", 2.0),
        ("scales", (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)),
        ("flip_test", True),
        ("weight_ce", 1.0),
        ("weight_refined", 1.5),
        ("weight_boundary", 3.0),
        ("weight_direction", 0.7),
    ],
)
def test_the_paper_preset_has_the_papers_figure(field: str, value: object) -> None:
    assert field_value(preset("paper"), field) == value


# The paper's recipes, from its section 4.2 and the configurations that its authors released (spec, section 2). Of
# Cityscapes, base scale and stride are ours.
PUBLISHED = {
    "ade20k": {
        "classes": 150, "size": 480, "base_long": 2048, "base_short": 512, "steps": 160_000, "window": 480,
        "stride": 160, "dropped": {"paper": 106_667, "released": 126_000},
    },
    "pascal_context": {
        "classes": 60, "size": 480, "base_long": 520, "base_short": 520, "steps": 160_000, "window": 480,
        "stride": 160, "dropped": {"paper": 106_667, "released": 126_000},
    },
    "cityscapes": {
        "classes": 19, "size": 768, "base_long": 2048, "base_short": 1024, "steps": 80_000, "window": 768,
        "stride": 256, "dropped": {"paper": 53_333, "released": 63_000},
    },
}  # fmt: skip
SHARED = {
    "batch": 16,
    "lr": 1e-4,
    "backbone_lr": 0.1,
    "weight_decay": 1e-4,
    "beta1": 0.9,
    "beta2": 0.999,
    "lr_drop_factor": 0.1,
    "scale_min": 0.5,
    "scale_max": 2.0,
    "flip": 0.5,
    "photometric": True,
    "category_max": 0.75,
    "mode": "slide",
    "scales": (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
    "flip_test": True,
    "split": "val",
}


@pytest.mark.parametrize("kind", PUBLISHED)
def test_the_recipe_of_each_data_set(kind: str) -> None:
    figures = dict(PUBLISHED[kind])
    dropped = figures.pop("dropped")
    settings = preset("paper", f"{kind}:data/somewhere")
    assert settings.data == f"{kind}:data/somewhere"
    assert {name: field_value(settings, name) for name in figures | SHARED} == figures | SHARED
    validate_settings(settings)
    assert isinstance(dropped, dict)
    for profile, step in dropped.items():
        (variant,) = expand_axes(parse_axes([f"profile={profile}"]), settings)
        assert round(variant.settings.train.steps * variant.settings.train.lr_drop) == step
        assert {name: field_value(variant.settings, name) for name in figures | SHARED} == figures | SHARED


def test_the_classes_are_those_of_the_readers() -> None:
    from unept.data import ade20k, cityscapes, pascal_context

    classes = {
        "ade20k": ade20k.CLASSES,
        "cityscapes": cityscapes.CLASSES,
        "pascal_context": len(pascal_context.CLASSES),
    }
    assert {kind: figures["classes"] for kind, figures in PUBLISHED.items()} == classes


def test_other_data_have_the_recipe_of_ade20k() -> None:
    bare = preset("paper")
    assert bare.data == "ade20k:data/ADEChallengeData2016"
    for data in ("folder:mine", "scenes", bare.data):
        assert preset("paper", data) == dataclasses.replace(bare, data=data)
    assert preset("small", "cityscapes:x").model.size == 160, "only the paper's preset has a recipe by data set"


def test_other_data_and_an_unknown_name() -> None:
    assert preset("small", "folder:mine").data == "folder:mine"
    with pytest.raises(ValueError, match="preset 'fast': expected one of quick, small, paper"):
        preset("fast")


def test_an_estimate_grows_with_the_work() -> None:
    base = preset("quick")
    assert estimate_training_seconds(replace_fields(base, {"points": 64}), 1) > estimate_training_seconds(base, 1)
    assert estimate_training_seconds(
        replace_fields(base, {"steps": 2 * base.train.steps}), 1
    ) == 2 * estimate_training_seconds(base, 1)
    assert estimate_training_seconds(base, 2) < estimate_training_seconds(base, 1)
