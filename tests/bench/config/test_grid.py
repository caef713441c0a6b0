from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any, get_type_hints

import pytest

from bench.config.fields import (
    AXIS_ALIASES,
    NO_AXIS,
    RANGES,
    config_fields,
    field_value,
    format_value,
    nearest_name,
    parse_field,
    replace_fields,
)
from bench.config.grid import Axis, expand_axes, merge_equal, parse_axes, profile_fields, validate_settings
from bench.config.presets import PRESETS, preset
from bench.config.settings import Settings
from unept.config import SLOTS, paper_profile, released_profile


def names_of_all_parts() -> list[str]:
    parts = [kind for kind in get_type_hints(Settings).values() if dataclasses.is_dataclass(kind)]
    own = [name for name, kind in get_type_hints(Settings).items() if not dataclasses.is_dataclass(kind)]
    return own + [f.name for part in parts for f in dataclasses.fields(part)]


def test_field_names_are_unique_over_the_parts() -> None:
    names = names_of_all_parts()
    assert [name for name, count in Counter(names).items() if count > 1] == []
    assert set(config_fields()) == set(names) - set(NO_AXIS)
    assert not set(AXIS_ALIASES) & set(names)
    assert "profile" not in names


def test_ranges_and_aliases_name_fields() -> None:
    assert set(RANGES) <= set(config_fields())
    assert set(AXIS_ALIASES.values()) <= set(config_fields())


@pytest.mark.parametrize("name", PRESETS)
def test_every_field_of_every_preset_survives_being_written_and_read(name: str) -> None:
    settings = preset(name)
    for field in config_fields().values():
        value = field_value(settings, field.name)
        read = parse_field(field, format_value(value))
        assert type(read) is type(value), field.name
        assert read == value, field.name


def test_presets_are_valid() -> None:
    for name in PRESETS:
        validate_settings(preset(name))


@pytest.mark.parametrize(
    ("word", "name", "values"),
    [
        ("N=4,16,64", "points", (4, 16, 64)),
        ("points=4", "points", (4,)),
        ("L=1,3", "levels", (1, 3)),
        ("spatial=true,false", "spatial", (True, False)),
        ("photometric=Off", "photometric", (False,)),
        ("lr=1e-3,0.01", "lr", (1e-3, 1e-2)),
        ("queries=both,embed", "queries", ("both", "embed")),
        ("encoder_self=deformable,none", "encoder_self", ("deformable", "none")),
        ("decoder_cross=my.module:Attention", "decoder_cross", ("my.module:Attention",)),
        ("scales=1,0.5+1.0", "scales", ((1.0,), (0.5, 1.0))),
        ("spatial_widths=16+32", "spatial_widths", ((16, 32),)),
        ("images=0,8", "images", (0, 8)),
        ("profile=paper,released", "profile", ("paper", "released")),
        ("backbone_weights=a=b.pth", "backbone_weights", ("a=b.pth",)),
        ("backbone_weights=my file.pth", "backbone_weights", ("my file.pth",)),
        ("scene_objects_min=0", "scene_objects_min", (0,)),
    ],
)
def test_an_axis(word: str, name: str, values: tuple[Any, ...]) -> None:
    (axis,) = parse_axes([word])
    assert axis == Axis(name=name, values=values)
    assert [type(value) for value in axis.values] == [type(value) for value in values]


def test_one_word_may_hold_several_axes() -> None:
    assert parse_axes(["N=4 L=1,3"]) == parse_axes(["N=4", "L=1,3"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["N="], "axis 'N=': no value after the equals sign, expected one or more, as in N=4,16"),
        (["N=four"], "N=four: expected a whole number"),
        (["N=1_0"], "N=1_0: expected a whole number"),
        (["N=4.5"], "N=4.5: expected a whole number"),
        (["N=0"], "N=0: expected at least 1"),
        (["points=-3"], "points=-3: expected at least 1"),
        (["L=0"], "L=0: expected at least 1"),
        (["N"], "axis 'N': expected NAME=VALUE,VALUE,... as in N=4,16"),
        (["=4"], "axis '=4': expected NAME=VALUE,VALUE,... as in N=4,16"),
        (["X=1"], "axis 'X=1': there is no field 'X'"),
        (["point=4"], "axis 'point=4': there is no field 'point'; did you mean 'points'?"),
        (["encoder_slef=none"], "there is no field 'encoder_slef'; did you mean 'encoder_self'?"),
        (["n=4"], "axis 'n=4': there is no field 'n'; did you mean 'N'?"),
        (["N=4,,16"], "axis 'N=4,,16': a comma without a value beside it"),
        (["N=4,16,"], "axis 'N=4,16,': a comma without a value beside it"),
        (["N=4", "N=16"], "axis N is given twice (N is points): N=4 and N=16"),
        (["N=4", "points=16"], "axis N is given twice (N is points): N=4 and N=16"),
        (["heads=1", "heads=2"], "axis heads is given twice: heads=1 and heads=2"),
        (["N=4,16,4"], "axis 'N=4,16,4': value 4 is given twice"),
        (["N=16,016"], "axis 'N=16,016': value 16 is given twice"),
        (["lr=0.1,1e-1"], "value 0.1 is given twice"),
        ([], "the grid is empty: expected at least one axis, as in --grid N=4,16 L=1,3"),
        (["", "  "], "the grid is empty"),
        (["spatial=maybe"], "spatial=maybe: expected true or false"),
        (["queries=spacial"], "queries=spacial: expected spatial, embed or both; did you mean 'spatial'?"),
        (["dropout=1.5"], "dropout=1.5: expected 0 to 1"),
        (["lr=-1"], "lr=-1: expected at least 0"),
        (["lr=nan"], "lr=nan: expected a finite number"),
        (["lr=inf"], "lr=inf: expected a finite number"),
        (["lr=fast"], "lr=fast: expected a number"),
        (["spatial_widths=16"], "spatial_widths=16: expected 2 values joined by plus signs, as in 1+1"),
        (["spatial_widths=16+x"], "spatial_widths=16+x: expected a whole number"),
        (["spatial_widths=16+0"], "spatial_widths=16+0: expected at least 1"),
        (["scales="], "axis 'scales=': no value"),
        (["profile=papers"], "profile=papers: expected paper or released; did you mean 'paper'?"),
        (["data=scenes,folder:x"], "axis 'data=scenes,folder:x': a study has one value of data; use --data"),
    ],
)
def test_a_malformed_grid_is_one_clear_line(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_axes(words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_variants_are_row_major_with_names_and_settings() -> None:
    base = preset("quick")
    variants = expand_axes(parse_axes(["points=4,16", "L=1,3"]), base)
    assert [variant.name for variant in variants] == ["N=4 L=1", "N=4 L=3", "N=16 L=1", "N=16 L=3"]
    assert [dict(variant.axes) for variant in variants[:2]] == [{"points": 4, "levels": 1}, {"points": 4, "levels": 3}]
    assert variants[1].settings == replace_fields(base, {"points": 4, "levels": 3})
    assert variants[1].settings.train == base.train


def test_an_axis_reaches_every_part() -> None:
    words = ["steps=7", "weight_ce=2", "scene_noise=3", "mode=slide", "heads=1"]
    (variant,) = expand_axes(parse_axes(words), preset("quick"))
    settings = variant.settings
    assert settings.train.steps == 7
    assert settings.loss.weight_ce == 2.0
    assert settings.scenes.scene_noise == 3
    assert settings.evaluation.mode == "slide"
    assert settings.model.heads == 1
    assert variant.name == "steps=7 weight_ce=2 scene_noise=3 mode=slide heads=1"


def test_a_profile_sets_what_the_profiles_differ_in_and_an_axis_has_the_last_word() -> None:
    base = preset("quick")
    paper, released = expand_axes(parse_axes(["profile=paper,released"]), base)
    assert released.settings.model.decoder_self == "batch"
    assert released.settings.loss.weight_boundary == 5.0
    assert paper.settings.model.refine_test
    assert released.settings.model.width == base.model.width
    differing = {
        name
        for mine, theirs in zip(paper_profile(), released_profile(), strict=True)
        for name, value in vars(mine).items()
        if vars(theirs)[name] != value
    }
    assert set(profile_fields("paper")) == set(profile_fields("released")) == differing | {"lr_drop"}
    assert paper.settings.train == dataclasses.replace(base.train, lr_drop=2 / 3)
    assert released.settings.train == dataclasses.replace(base.train, lr_drop=0.7875)
    (mixed,) = expand_axes(parse_axes(["decoder_self=dense", "profile=released"]), base)
    assert mixed.settings.model.decoder_self == "dense"
    assert mixed.name == "decoder_self=dense profile=released"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["queries=spatial", "spatial=true,false"], "queries=spatial spatial=false: "),
        (["heads=3"], "heads=3 does not divide width=64"),
        (["scale_min=2"], "scale_min=2: expected more than 0 and at most scale_max, 1"),
        (["scale_min=0"], "scale_min=0"),
        (["mode=slide", "stride=65"], "stride=65: expected at most window, 64"),
        (["scales=0+1"], "scales=0+1: expected numbers above 0"),
        (["scene_cue_distance=60"], "scene_cue_distance=60: scene_size is 64: expected at least"),
        (["encoder_self=deformabel"], "deformable"),
        (["backbone=tiny_cnv"], "tiny_conv"),
        (["encoder_self=none:", "heads=1"], "encoder_self=none:"),
    ],
)
def test_an_impossible_combination_is_one_clear_line(words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        expand_axes(parse_axes(words), preset("quick"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_variants_of_the_same_settings_are_one() -> None:
    paper = tuple(Axis(name=name, values=(value,)) for name, value in profile_fields("paper").items())
    both = expand_axes((*parse_axes(["profile=paper,released"]), *paper), preset("quick"))
    left, equal = merge_equal(both)
    assert left == both[:1]
    assert equal == {both[1].name: both[0].name}
    assert merge_equal(left) == (left, {})


def test_nearest_names() -> None:
    assert nearest_name("ponts", config_fields()) == "points"
    assert nearest_name("ENCODER_SELF", SLOTS) == "encoder_self"
    assert nearest_name("zzzz", SLOTS) == ""
