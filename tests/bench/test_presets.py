"""The three presets: valid, and the paper's at the figures that the paper gives (section 4.2)."""

from __future__ import annotations

import pytest

from bench.config import from_dict, to_dict
from bench.fields import apply, value_of
from bench.grid import validate
from bench.presets import PRESETS, estimate_seconds, preset


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_run_and_survives_its_own_json(name: str) -> None:
    settings = preset(name)
    validate(settings)
    assert from_dict(to_dict(settings)) == settings
    assert estimate_seconds(settings, threads=1) > 0


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
    assert value_of(preset("paper"), field) == value


def test_other_data_and_an_unknown_name() -> None:
    assert preset("small", "folder:mine").data == "folder:mine"
    with pytest.raises(ValueError, match="preset 'fast': expected one of quick, small, paper"):
        preset("fast")


def test_an_estimate_grows_with_the_work() -> None:
    base = preset("quick")
    assert estimate_seconds(apply(base, {"points": 64}), 1) > estimate_seconds(base, 1)
    assert estimate_seconds(apply(base, {"steps": 2 * base.train.steps}), 1) == 2 * estimate_seconds(base, 1)
    assert estimate_seconds(base, 2) < estimate_seconds(base, 1)
