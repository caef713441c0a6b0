"""What a layer lets a token see, measured, against what is known of simple ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.profiling import variant
from bench.profiling.receptive_field import dependency_mask, level_shapes, measure_receptive_field, slot_receptive_field
from unept import attention

SHAPES = ((2, 3), (1, 2))


class Shift(nn.Module):
    """Every token sees the one before it, and only that."""

    def forward(self, tokens: Tensor, *_: object) -> Tensor:
        return tokens.roll(1, 1)


def test_a_shift() -> None:
    chosen = torch.tensor([0, 5])
    once = dependency_mask([Shift()], SHAPES, 4, chosen, residual=False)
    assert once.nonzero().tolist() == [[0, 7], [1, 4]]
    twice = dependency_mask([Shift(), Shift()], SHAPES, 4, chosen, residual=True)
    assert twice.nonzero().tolist() == [[0, 0], [0, 6], [0, 7], [1, 3], [1, 4], [1, 5]]
    found = measure_receptive_field(lambda _: Shift(), SHAPES, 4)
    assert found.share == pytest.approx(1 / 7)
    assert found.two_layers == (
        (pytest.approx(15 / 36), pytest.approx(3 / 12)),
        (pytest.approx(3 / 12), pytest.approx(3 / 4)),
    )


def settings(**changes: object) -> dict[str, object]:
    known = {"width": 8, "heads": 2, "levels": 2, "points": 2, "offset_init": "released", "dropout": 0.1, "layer": 0}
    return known | changes


@pytest.mark.parametrize(
    ("name", "share"), [("none", 0.0), ("pointwise", 0.0), ("dense_math", 1.0), ("dense_fused", 1.0)]
)
def test_known_shares(name: str, share: float) -> None:
    found = measure_receptive_field(
        lambda layer: attention.make_attention("encoder_self", name, settings(layer=layer)), SHAPES, 8
    )
    assert found.share == share
    own = ((1 / 6, 0.0), (0.0, 1 / 2))
    everything = ((1.0, 1.0), (1.0, 1.0))
    assert torch.tensor(found.two_layers).allclose(torch.tensor(everything if share else own))


def test_of_the_quick_model() -> None:
    base = preset("quick")
    assert level_shapes(base) == ((8, 8),) * 3
    found = slot_receptive_field(base, "encoder_self")
    assert found is not None
    assert 0.3 < found.share < 0.45  # 16 points on each of 3 levels and 8 heads, most of them outside the map
    own = slot_receptive_field(replace_fields(base, {"decoder_self": "dense"}), "decoder_self")
    assert own is not None
    assert own.share == 1
    assert own.two_layers == ((1.0,),)
    assert slot_receptive_field(replace_fields(base, {"size": 1024}), "encoder_self") is None


def test_what_a_row_says() -> None:
    found, notes = variant.slot_receptive_fields(replace_fields(preset("quick"), {"encoder_self": "none", "levels": 1}))
    assert found["encoder_self"] == {"share": 0.0, "level 1 from 1": pytest.approx(1 / 64)}
    assert notes == {}


def test_a_published_network_has_no_slots() -> None:
    assert variant.slot_receptive_fields(replace_fields(preset("quick"), {"architecture": "ccnet"})) == ({}, {})


def test_a_module_whose_reach_cannot_be_measured_says_why(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "odd_for_a_test.py").write_text(
        "import torch\nclass Odd(torch.nn.Module):\n def forward(self, tokens, *_):\n  raise RuntimeError('no')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    found, notes = variant.slot_receptive_fields(
        replace_fields(preset("quick"), {"decoder_self": "odd_for_a_test:Odd"})
    )
    assert found["decoder_self"] is None
    assert notes == {"no reach of decoder_self": "RuntimeError: no"}
    assert found["encoder_self"]["share"] > 0
