"""Parameters of the attention in a slot as axes: which variants have them, of what type, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import unept
from bench.config.checks import check_variants
from bench.config.grid import Variant, expand_axes, parse_axes
from bench.config.presets import preset
from bench.config.settings import settings_from_dict, settings_to_dict
from bench.results.rows import content_key
from experiments.tables.baselines import without_self_attention

OWN = """
import torch
from typing import Literal
class Mine(torch.nn.Module):
    def __init__(self, width, radius: int = 2, strength=0.5, wide: bool = False, how: Literal["max", "mean"] = "max",
                 sizes: tuple[int, ...] = (1,), untold=None, perhaps: "int | None" = None):
        super().__init__()
        self.given = radius, strength, wide, how, sizes, perhaps
        if radius < 1:
            raise ValueError(f"radius={radius}: expected at least 1")
    def forward(self, tokens, position, shapes):
        return tokens * self.given[1]
class Needing(Mine):
    def __init__(self, width, depth: int):
        super().__init__(width)
class Any(torch.nn.Module):
    def __init__(self, **settings):
        super().__init__()
    def forward(self, tokens, position, shapes):
        return tokens
"""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module of one's own, and an installed package with another."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_for_a_test.py").write_text(OWN)
    package = tmp_path / "site" / "installed_for_a_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    yield tmp_path
    for name in [name for name in sys.modules if "for_a_test" in name]:
        del sys.modules[name]


def variants(*words: str) -> tuple[Variant, ...]:
    return expand_axes(parse_axes(words), preset("quick"))


def options(variant: Variant) -> dict[str, Any]:
    return dict(variant.settings.model.attention_options)


def test_each_value_is_a_variant() -> None:
    first, second = variants("encoder_self=longformer", "encoder_self.window=7,15")
    assert first.name == "encoder_self=longformer encoder_self.window=7"
    assert options(first) == {"encoder_self.window": 7}
    assert dict(second.axes) == {"encoder_self": "longformer", "encoder_self.window": 15}
    assert unept.build(second.settings.model).context_branch.encoder.layers[0].self_attn.each_side == 7


def test_of_several_mechanisms_each_takes_what_it_has() -> None:
    found = variants(
        "encoder_self=none,longformer,reformer", "encoder_self.window=7,15", "encoder_self.hashes=2", "heads=1,2"
    )
    assert [variant.name for variant in found] == [
        "encoder_self=none heads=1",
        "encoder_self=none heads=2",
        "encoder_self=longformer encoder_self.window=7 heads=1",
        "encoder_self=longformer encoder_self.window=7 heads=2",
        "encoder_self=longformer encoder_self.window=15 heads=1",
        "encoder_self=longformer encoder_self.window=15 heads=2",
        "encoder_self=reformer encoder_self.hashes=2 heads=1",
        "encoder_self=reformer encoder_self.hashes=2 heads=2",
    ]
    assert options(found[0]) == {}
    assert options(found[-1]) == {"encoder_self.hashes": 2}


def test_slots_are_apart_and_the_order_of_axes_does_not_matter() -> None:
    one = variants("decoder_self=reformer", "decoder_self.hashes=4", "encoder_self=longformer", "encoder_self.window=6")
    other = variants(
        "encoder_self=longformer", "encoder_self.window=6", "decoder_self=reformer", "decoder_self.hashes=4"
    )
    assert one[0].settings == other[0].settings
    assert options(one[0]) == {"encoder_self.window": 6}


@pytest.mark.parametrize(
    ("words", "name", "kept"),
    [
        (["encoder_self=longformer", "encoder_self.window=0"], "encoder_self=longformer", {}),
        (["encoder_self=longformer", "encoder_self.order=raster", "heads=1"], "encoder_self=longformer heads=1", {}),
        (
            ["encoder_self=longformer", "encoder_self.joint=no", "encoder_self.window=7"],
            "encoder_self=longformer encoder_self.window=7",
            {"encoder_self.window": 7},
        ),
    ],
)
def test_an_option_at_its_default_is_in_neither_name_nor_settings(
    words: list[str], name: str, kept: dict[str, Any]
) -> None:
    (found,) = variants(*words)
    assert found.name == name
    assert options(found) == kept
    if not kept:
        assert found.settings == variants(*(word for word in words if "." not in word))[0].settings


def test_a_grid_of_an_option_alone_names_its_default_by_the_mechanism() -> None:
    base = variants("encoder_self=longformer")[0].settings
    found = expand_axes(parse_axes(["encoder_self.window=0,7"]), base)
    assert [variant.name for variant in found] == ["encoder_self=longformer", "encoder_self.window=7"]
    assert [dict(variant.axes) for variant in found] == [{"encoder_self.window": 0}, {"encoder_self.window": 7}]
    assert options(expand_axes(parse_axes(["encoder_self.window=0"]), found[1].settings)[0]) == {}


def test_types() -> None:
    (found,) = variants(
        "encoder_self=longformer",
        "encoder_self.dilation=1+2",
        "encoder_self.order=window2d",
        "encoder_self.window=6",
        "heads=2",
    )
    assert options(found) == {
        "encoder_self.dilation": (1, 2),
        "encoder_self.order": "window2d",
        "encoder_self.window": 6,
    }
    (found,) = variants("encoder_self=longformer", "encoder_self.joint=yes")
    assert options(found) == {"encoder_self.joint": True}


@pytest.mark.parametrize("module", ["own_for_a_test", "installed_for_a_test.inner"])
def test_ones_own(workplace: Path, module: str) -> None:
    words = ("radius=3", "strength=2", "wide=true", "how=mean", "sizes=1+2", "perhaps=4")
    (found,) = variants(f"encoder_self={module}:Mine", *(f"encoder_self.{word}" for word in words))
    layer = unept.build(found.settings.model).context_branch.encoder.layers[0].self_attn
    assert layer.given == (3, 2.0, True, "mean", (1, 2), 4)
    assert [type(value) for value in layer.given[:3]] == [int, float, bool]
    several = variants(f"encoder_self=none,{module}:Mine,longformer", "encoder_self.strength=0.5,1")
    assert len(several) == 4


def test_what_must_be_given(workplace: Path) -> None:
    (found,) = variants("encoder_self=own_for_a_test:Needing", "encoder_self.depth=3")
    assert options(found) == {"encoder_self.depth": 3}
    with pytest.raises(ValueError, match=r"constructor needs depth.*encoder_self.depth=\.\.\."):
        check_variants(variants("encoder_self=own_for_a_test:Needing"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["encoder_self=longformer", "encoder_self.windw=7"],
            "axis 'encoder_self.windw=7': encoder_self=longformer has no parameter 'windw'; the parameters are window, "
            "order, dilation, global_tokens, joint; did you mean 'window'?",
        ),
        (
            ["encoder_self.window=7"],
            "encoder_self=deformable has no parameter 'window'; there are no parameters of its own",
        ),
        (
            ["encoder_self=none,reformer", "encoder_self.window=7"],
            "encoder_self=none or reformer has no parameter 'window'; the parameters are hashes, chunk",
        ),
        (["encoder_self.width=7"], "axis 'encoder_self.width=7': width is the model's own, not that of a slot"),
        (
            ["encoder_self=longformer", "encoder_self.window=seven"],
            "encoder_self.window=seven: expected a whole number",
        ),
        (["encoder_self=longformer", "encoder_self.window=7.5"], "encoder_self.window=7.5: expected a whole number"),
        (["encoder_self=longformer", "encoder_self.window=99999999999"], "expected at most 1000000000"),
        (["encoder_self=longformer", "encoder_self.joint=maybe"], "encoder_self.joint=maybe: expected true or false"),
        (
            ["encoder_self=longformer", "encoder_self.order=rastr"],
            "encoder_self.order=rastr: expected raster or window2d; did you mean 'raster'?",
        ),
        (["encoder_self=longformer", "encoder_self.window=7,07"], "encoder_self.window: value 7 is given twice"),
        (["encoder_self=longformer", "encoder_self.window=7,7"], "value 7 is given twice"),
        (["encoder_self=longformer", "encoder_self.window="], "no value after the equals sign"),
        (["encoder_slef.window=7"], "there is no field 'encoder_slef.window'"),
        (["encoder_self.=7"], "there is no field 'encoder_self.'"),
        (["attention_options=7"], "there is no field 'attention_options'"),
        (["encoder_self=own_for_a_test:Mine", "encoder_self.untold=7"], "encoder_self.untold=7: its type is not known"),
        (["encoder_self=own_for_a_test:Mine", "encoder_self.how=min"], "expected max or mean"),
        (["encoder_self=own_for_a_test:Any", "encoder_self.thing=1"], "has no parameter 'thing'"),
    ],
)
def test_what_cannot_be_is_one_clear_line(workplace: Path, words: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        variants(*words)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_survive_being_written_and_read() -> None:
    (found,) = variants(
        "encoder_self=longformer", "encoder_self.window=6", "encoder_self.dilation=1+2", "ffn_chunks=2", "heads=2"
    )
    written = settings_to_dict(found.settings)
    assert written["model"]["attention_options"] == {"encoder_self.window": 6, "encoder_self.dilation": [1, 2]}
    assert settings_from_dict(json.loads(json.dumps(written))) == found.settings


def test_options_are_part_of_the_key_and_their_absence_is_not() -> None:
    plain = settings_to_dict(preset("quick"))
    assert "attention_options" not in plain["model"]
    assert "reversible" not in plain["model"]
    assert settings_from_dict(plain) == preset("quick")
    keys = {
        content_key(settings_to_dict(each.settings))
        for each in variants("encoder_self=longformer", "encoder_self.window=6,7")
    }
    assert len(keys | {content_key(plain)}) == 3


def test_an_unknown_option_of_a_row_is_refused() -> None:
    from unept.model import check_model_config

    for name, message in (("encoder_self.windw", "no parameter 'windw'"), ("window", "names no slot")):
        with pytest.raises(ValueError, match=message):
            check_model_config(
                replace(preset("quick").model, encoder_self="longformer", attention_options=((name, 7),))
            )


def test_the_control_has_none_of_the_slots_options() -> None:
    (found,) = variants("encoder_self=longformer", "encoder_self.window=6")
    assert without_self_attention(found.settings).model.attention_options == ()
