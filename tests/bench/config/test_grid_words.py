"""Any words of a grid are variants, or one line that names the word; nothing else, and soon."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_values import SOME, refusal

from bench.config.attention_options import without_defaults
from bench.config.fields import config_fields
from bench.config.grid import MAX_VARIANTS, Variant, expand_axes, merge_equal, parse_axes, with_field_values
from bench.config.presets import preset
from bench.config.settings import settings_from_dict, settings_to_dict

BASE = preset("quick")
OWN = """
from torch import nn

class LowRank(nn.Module):
    def __init__(self, width: int, rank: int = 4, mix: bool = True, kind: str = "a", sizes: tuple[int, ...] = (1, 2)):
        super().__init__()
"""
NAMES = ("N", "L", "points", "profile", "encoder_self", "encoder_self.mix", "encoder_self.rank", "decoder_self.kind")
NAMES += ("encoder_self.sizes", "encoder_self.width", "encoder_self.x", "data", "seeds", "attention_options", "", ".")
VALUES = ("", "0", "1", "4", "16", "-1", "1e400", "nan", "1_0", "٤", "9" * 5000, "true", "FALSE", "none", "4+4", "+")
VALUES += ("own_low_rank:LowRank", "own_low_rank:Absent", "absent_module:X", ":", "x:", ":x", "..:x", "longformer")
VALUES += ("paper", "released", "a=b", "'4'", '"4"', "$(x)", "\x1b[31m", "\udce9", "é", "\u202e", "\0", "a\nb", "`x`")


@pytest.fixture(autouse=True)
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_low_rank.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


any_value = st.sampled_from(VALUES) | st.text(max_size=6)
any_name = st.sampled_from(NAMES) | st.sampled_from(sorted(config_fields())) | st.text(max_size=5)
axis_word = st.builds(
    lambda name, equals, values, more: f"{name}{equals}{','.join(values)}{more}",
    any_name,
    st.sampled_from(["=", "=", "=", "=", "", "==", " = ", "＝"]),
    st.lists(any_value, min_size=1, max_size=3),
    st.sampled_from(["", "", "", " ", ",", "\tL=1", " encoder_self.mix=false", "\n"]),
)


def variants_of(words: list[str]) -> tuple[Variant, ...]:
    return expand_axes(parse_axes(words), BASE)


@SOME
@given(words=st.lists(axis_word | st.text(max_size=12), max_size=3))
def test_a_grid_is_variants_or_one_line(words: list[str]) -> None:
    if refusal(variants_of, words):
        return
    variants = variants_of(words)
    assert variants
    assert len({variant.name for variant in variants}) == len(variants)
    kept, equal = merge_equal(variants)
    assert len(kept) + len(equal) == len(variants)
    for variant in variants:
        values = settings_to_dict(variant.settings)
        assert settings_from_dict(values) == variant.settings
        assert without_defaults(values) == values
    axes = parse_axes(words)
    assert parse_axes([str(axis) for axis in axes]) == axes


@SOME
@given(words=st.lists(axis_word, min_size=1, max_size=2))
def test_fields_of_one_value_are_settings_or_one_line(words: list[str]) -> None:
    refusal(with_field_values, BASE, words)


@settings(SOME, max_examples=60)
@given(
    mix=st.sampled_from(["false", "true", "no", "On", "False", "0", "maybe", ""]),
    rank=st.sampled_from(["4", "04", "8", "4.0", "-4", "9" * 30, "x", "true"]),
    sizes=st.sampled_from(["1+2", "1", "1+2+3", "1+", "+", "a", "1,1+2"]),
)
def test_options_of_ones_own_attention(mix: str, rank: str, sizes: str) -> None:
    words = [
        f"encoder_self=own_low_rank:LowRank encoder_self.mix={mix}",
        f"encoder_self.rank={rank}",
        f"encoder_self.sizes={sizes}",
    ]
    if said := refusal(variants_of, words):
        assert "encoder_self." in said
        return
    (plain,) = variants_of(words[0].split()[:1])
    assert mix.lower() in ("false", "true", "no", "on")
    for variant in variants_of(words):
        assert ("mix" in variant.name) == (mix.lower() in ("false", "no"))
        assert (variant.settings == plain.settings) == (variant.name == plain.name)


def test_a_grid_of_too_many_variants_is_refused_before_one_is_made() -> None:
    values = ",".join(map(str, range(1, 1001)))
    axes = parse_axes([f"steps={values}", f"width={values}", f"ffn={values}"])
    with pytest.raises(ValueError, match=rf"^the grid has 1,000,000,000 variants: expected at most {MAX_VARIANTS:,}"):
        expand_axes(axes, BASE)
