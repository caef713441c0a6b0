"""Tables 5, 6 and 7 as variants: what each row changes, and the cells that they share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.config.fields import config_fields, field_value
from bench.config.grid import validate_settings
from bench.config.presets import PRESETS, preset
from bench.config.settings import Settings, settings_to_dict
from bench.results.rows import row_key
from experiments.tables import table5, table6, table7, table8
from experiments.tables.baselines import with_control
from reports.paper import figures
from unept.config import released_profile

KEYED = {"preset": "quick", "seed": 0, "backend": "reference", "threads": 1, "sources": "x"}


def changes(before: Settings, after: Settings) -> dict[str, object]:
    """The fields in which the second differs, with its values."""
    return {
        name: field_value(after, name)
        for name in config_fields()
        if field_value(after, name) != field_value(before, name)
    }


def key(settings: Settings) -> str:
    return row_key("run", {**KEYED, "settings": settings_to_dict(settings)})


@pytest.mark.parametrize("name", PRESETS)
def test_table_6_is_the_grid_in_the_papers_order(name: str) -> None:
    base = preset(name)
    variants = table6.table6_variants(base)
    assert [v.name for v in variants] == [
        "N=4 L=1",
        "N=16 L=1",
        "N=64 L=1",
        "N=4 L=3",
        "N=16 L=3",
        "N=64 L=3",
    ]
    for variant in variants:
        model = variant.settings.model
        assert variant.axes == {"points": model.points, "levels": model.levels}
        assert model.spatial
        assert model.queries == "both"
        assert set(changes(base, variant.settings)) <= {"points", "levels"}
        validate_settings(variant.settings)


@pytest.mark.parametrize("name", PRESETS)
def test_table_5_adds_one_component_a_row(name: str) -> None:
    base = preset(name)
    baseline, pyramid, spatial, stronger, none = (v.settings for v in table5.table5_variants(base))
    assert (baseline.model.levels, baseline.model.points, baseline.model.spatial) == (1, 16, False)
    assert baseline.model.queries == "embed"
    assert changes(baseline, pyramid) == {"levels": 3}
    assert changes(pyramid, spatial) == {
        "spatial": True,
        "queries": "both",
        "weight_refined": 1.5,
        "weight_boundary": 3.0,
        "weight_direction": 0.7,
    }
    changed = changes(spatial, stronger)
    assert changed.pop("backbone") == {"quick": "tiny_vit", "small": "deit_base", "paper": "deit_base"}[name]
    assert changed in ({}, {"backbone_weights": ""})
    assert changes(spatial, none) == {"encoder_self": "none", "decoder_self": "none"}
    for settings in (baseline, pyramid, spatial, stronger, none):
        validate_settings(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_cell_of_both_tables_is_trained_once(name: str) -> None:
    base = preset(name)
    ladder = {v.name: v.settings for v in table5.table5_variants(base)}
    grid = {v.name: v.settings for v in table6.table6_variants(base)}
    assert ladder["+ spatial path"] == grid["N=16 L=3"]
    keys = [key(settings) for settings in (*ladder.values(), *grid.values())]
    assert key(ladder["+ spatial path"]) == key(grid["N=16 L=3"])
    assert len(set(keys)) == 10


def test_the_stronger_backbone_has_its_own_weights() -> None:
    base = preset("paper")
    base = replace(base, train=replace(base.train, backbone_weights="resnet.pth"))
    weights = [v.settings.train.backbone_weights for v in table5.table5_variants(base)]
    assert weights == ["resnet.pth", "resnet.pth", "resnet.pth", "", "resnet.pth"]
    weights = [v.settings.train.backbone_weights for v in table5.table5_variants(base, stronger_weights="deit.pth")]
    assert weights == ["resnet.pth", "resnet.pth", "resnet.pth", "deit.pth", "resnet.pth"]


def test_the_released_profile_keeps_its_own_weights_and_heads() -> None:
    model, loss = released_profile()
    for variant in table6.table6_variants(Settings(model=model, loss=loss)):
        assert variant.settings.loss == loss
        assert variant.settings.model.boundary_head == "two_class"


def test_what_the_tables_take_for_granted_is_checked() -> None:
    base = preset("quick")
    with pytest.raises(ValueError, match=r"weight_boundary=0\.0: .* use a value > 0"):
        table6.table6_variants(replace(base, loss=replace(base.loss, weight_boundary=0.0)))
    with pytest.raises(ValueError, match=r"queries=embed: .* use spatial or both"):
        table5.table5_variants(replace(base, model=replace(base.model, queries="embed")))
    with pytest.raises(ValueError, match="backbone 'deit_base': the ladder of Table 5 starts from tiny_conv, lite0"):
        table5.table5_variants(replace(base, model=replace(base.model, backbone="deit_base")))


def test_a_control_is_one_of_the_rows_or_the_row_without_self_attention() -> None:
    base = preset("quick")
    make = with_control(table6.table6_variants, "none", ["points", "levels"])
    *cells, none = make(base)
    assert [v.name for v in cells] == [v.name for v in table6.table6_variants(base)]
    assert none.name == "none"
    assert none.axes == {"points": 16, "levels": 3, "encoder_self": "none", "decoder_self": "none"}
    assert changes(base, none.settings) == {"encoder_self": "none", "decoder_self": "none"}
    for given in ("", "N=4 L=1"):
        assert with_control(table6.table6_variants, given)(base) == table6.table6_variants(base)
    assert with_control(table5.table5_variants, "none")(base) == table5.table5_variants(base)
    with pytest.raises(ValueError, match=r"--control N=5 L=1: expected N=4 L=1, .* or none; did you mean 'N="):
        with_control(table6.table6_variants, "N=5 L=1")(base)


@pytest.mark.parametrize("name", PRESETS)
def test_table_7_trains_every_row_under_one_recipe(name: str) -> None:
    base = preset(name)
    base = replace(base, train=replace(base.train, backbone_weights="own.pth"))
    variants = {v.name: v for v in table7.table7_variants(base)}
    assert set(figures.TABLES[7].rows) <= set(variants)
    assert table7.CONTROL in variants
    ladder = {v.name: v.settings for v in table5.table5_variants(base)}
    assert variants["Ours"].settings == ladder["+ stronger backbone"]
    assert variants["Ours, convolutional"].settings == ladder["+ spatial path"]
    for row, architecture in table7.PUBLISHED_ARCHITECTURES.items():
        settings = variants[row].settings
        validate_settings(settings)
        assert settings.model.architecture == architecture
        assert settings.model.width == 2 * base.model.width
        kept = ("steps", "batch", "lr", "size", "classes", "weight_ce", "data", "dropout")
        assert {field: field_value(settings, field) for field in kept} == {
            field: field_value(base, field) for field in kept
        }
        same = settings.model.backbone == base.model.backbone
        assert settings.train.backbone_weights == ("own.pth" if same else "")
    networks = {variants[row].settings.model.backbone for row in table7.PUBLISHED_ARCHITECTURES}
    assert (
        networks
        == {
            "quick": {"tiny_conv", "tiny_vit"},
            "small": {"lite0", "deit_base"},
            "paper": {"resnet101", "hrnet_w48", "vit_large"},
        }[name]
    )


def test_table_8_changes_the_slots_and_nothing_else() -> None:
    base = preset("quick")
    rows = {variant.name: variant.settings for variant in table8.table8_variants(base)}
    whole = rows.pop(table8.CONTROL)
    assert whole == table6.table6_cell(base, points=16, levels=3)
    for name in table8.PUBLISHED_ARCHITECTURES:
        assert rows.pop(name).model.architecture != "unept"
    for name, settings in rows.items():
        attention = table8.MECHANISMS[name]
        assert settings.model.decoder_cross == "deformable"
        model = replace(whole.model, encoder_self=attention, decoder_self=attention)
        assert settings == replace(whole, model=model)


def test_table_7_starts_from_ours() -> None:
    base = preset("quick")
    with pytest.raises(ValueError, match="architecture=ccnet: Table 7 has a row for each"):
        table7.table7_variants(replace(base, model=replace(base.model, architecture="ccnet")))
    with pytest.raises(ValueError, match="backbone 'deit_base': the rows of Table 7 start from tiny_conv, lite0"):
        table7.table7_variants(replace(base, model=replace(base.model, backbone="deit_base")))
