from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor, nn

from bench.attention_layer import AttentionUnderTest, attention_from_options, scaling
from bench.attention_layer.scaling import LayerSize, ScalingSweep
from experiments.attention.layer_scaling import attentions_to_scale

TINY = ScalingSweep(base=LayerSize(side=6, points=4), side=(6, 8), points=(2, 4), levels=(1, 2), batch=(1, 2), rounds=1)


def of(records: list[dict[str, Any]], attention: str, axis: str) -> list[dict[str, Any]]:
    return [each for each in records if (each["attention"], each["axis"]) == (attention, axis)]


def test_every_axis_has_every_attention_and_time_only_where_something_changes() -> None:
    chosen = {name: attention_from_options("encoder_self", name, []) for name in ("deformable", "dense_math", "none")}
    records = scaling.measure_layer_scaling(chosen, TINY)
    assert len(records) == 3 * 4 * 2
    for axis in ("side", "points", "levels", "batch"):
        assert all("seconds" in each for each in of(records, "deformable", axis))
    assert not any("seconds" in each for each in of(records, "dense_math", "points"))
    assert not any("seconds" in each for axis in ("side", "batch") for each in of(records, "none", axis))
    small, large = of(records, "dense_math", "batch")
    assert large["gmacs"] == pytest.approx(2 * small["gmacs"])
    assert large["saved"] == 2 * small["saved"]
    assert small["seconds"]["forward"]["n"] >= 1
    found = {(each["attention"], each["axis"], each["quantity"]): each for each in scaling.fit_exponents(records)}
    assert found["dense_math", "batch", "gmacs"]["exponent"] == pytest.approx(1)
    assert found["dense_math", "points", "peak"]["exponent"] == pytest.approx(0)
    assert ("none", "side", "gmacs") not in found
    line = found["deformable", "side", "peak"]
    assert (line["sizes"], line["from"], line["to"]) == (2, 36, 64)


def test_the_matrix_of_dense_attention_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 x 40 tokens: scores, weights, a byte of mask and what is dropped at once, of 8 heads."""
    monkeypatch.setattr(scaling, "_time", lambda *_: None)
    effort = replace(TINY, side=(40,), points=(4,), levels=(1,), batch=(1,))
    (record, *_) = scaling.measure_layer_scaling(
        {"dense_math": attention_from_options("encoder_self", "dense_math", [])}, effort
    )
    matrix = 8 * 1600**2
    assert 9 * matrix < record["saved"] < 9 * matrix + 20 * 1600 * 256 * 4  # weights, the mask, weights with dropout
    assert record["peak"] > record["saved"] + 4 * matrix
    assert record["gmacs"] == pytest.approx((2 * 1600**2 * 256 + 4 * 1600 * 256**2) / 1e9)


def test_what_is_too_large_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    record = {"gmacs": 1.0, "peak": 1 << 30}
    assert scaling.is_timed(record)
    assert not scaling.is_timed(record | {"gmacs": scaling.MAX_TIMED_GMACS + 1})
    assert not scaling.is_timed(record | {"peak": scaling.MAX_TIMED_BYTES + 1})
    assert not scaling.is_timed(record | {"gmacs": 0.0})
    assert not scaling.is_timed({"message": "ValueError: no"})


def test_an_attention_that_cannot_be_traced_has_a_message() -> None:
    class Reading(nn.Module):
        def forward(self, tokens: Tensor, *_: Any) -> Tensor:
            return tokens * tokens.sum().item()

    class Own(AttentionUnderTest):
        def make(self, layer: int = 0, **changes: Any) -> nn.Module:  # noqa: ARG002 - a subject's form
            return Reading()

    given = Own(slot="encoder_self", model=attention_from_options("encoder_self", "none", []).model)
    records = scaling.measure_layer_scaling({"reading": given}, TINY)
    assert all("message" in each and "seconds" not in each for each in records)
    assert scaling.fit_exponents(records) == []


def test_the_names_are_those_that_the_slots_take() -> None:
    assert {"deformable", "dense_math", "dense_fused", "none"} < set(attentions_to_scale())
    efforts = (ScalingSweep(), scaling.QUICK_SWEEP)
    for effort in efforts:
        for axis, sizes in effort.sweeps().items():
            assert len({getattr(size, axis) for size in sizes}) == len(sizes) > 1
            assert all(replace(size, **{axis: getattr(effort.base, axis)}) == effort.base for size in sizes)
