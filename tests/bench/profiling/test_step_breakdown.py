from __future__ import annotations

import dataclasses
import os

import pytest
import torch
from golden_pages import assert_golden

from bench.config.presets import preset
from bench.profiling import step_breakdown
from bench.profiling.step_options import StepTiming
from bench.results.step_parts import (
    ATTENTION,
    BACKBONE,
    CONTEXT,
    DATA_CACHED,
    DATA_GENERATED,
    LOSS,
    OPTIMIZER,
    PARTS,
    SPATIAL,
    WHOLE_STEP,
    PartTime,
)
from reports.pages import step_breakdown as pages


def test_every_part_is_timed_under_every_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UNEPT_BACKEND", raising=False)
    seen: list[str | None] = []
    train_step = step_breakdown.train_step
    monkeypatch.setattr(
        step_breakdown, "train_step", lambda *words: seen.append(os.environ["UNEPT_BACKEND"]) or train_step(*words)
    )
    times = step_breakdown.time_step(preset("quick"), ["reference"], images=2, rounds=2)
    assert [(time.part, time.backend) for time in times] == [
        (part, "reference") for part in (*PARTS, DATA_GENERATED, DATA_CACHED)
    ]
    assert all(0 < time.low <= time.seconds <= time.high for time in times)
    assert seen == ["reference"] * 4  # one prepares, one warms up, two count
    assert "UNEPT_BACKEND" not in os.environ


def test_a_part_gets_what_it_gets_in_the_model() -> None:
    model = step_breakdown.unept.build(preset("quick").model).train()
    image = torch.randn(2, 3, 64, 64)
    calls = step_breakdown._recorded(model, image)
    layers = [*model.context_branch.encoder.layers, *model.context_branch.decoder.layers]
    assert {*calls} > {layers[0].self_attn, layers[1].self_attn, layers[1].cross_attn, model.backbone}
    tokens, position, shapes = calls[layers[0].self_attn]
    assert tokens.requires_grad
    assert tokens.is_leaf
    assert (tokens.shape, shapes) == ((2, 192, 64), ((8, 8),) * 3)
    model.zero_grad()
    step_breakdown._both_ways([layers[0].self_attn], calls)()
    assert all(parameter.grad is not None for parameter in layers[0].self_attn.parameters())
    assert all(parameter.grad is None for parameter in layers[1].parameters())
    assert position is None or position.grad is not None


def test_what_the_parts_do_not_explain_is_said() -> None:
    seconds = {WHOLE_STEP: 1.0, BACKBONE: 0.3, SPATIAL: 0.1, CONTEXT: 0.2, ATTENTION: 0.15, LOSS: 0.1, OPTIMIZER: 0.05}
    times = [
        PartTime(part=part, backend=name, seconds=factor * value, low=value, high=2 * value)
        for part, value in seconds.items()
        for name, factor in (("native", 1), ("reference", 2))
    ]
    page = pages.step_breakdown_markdown({"quick: 8 x 64 px": times}, ["a machine"])
    assert_golden("step_breakdown.md", page)


def test_a_case_is_a_preset_and_fields() -> None:
    base = preset("quick")
    assert step_breakdown.parse_case("quick").settings == base
    changed = step_breakdown.parse_case("quick N=4 heads=4")
    assert changed.settings == dataclasses.replace(base, model=dataclasses.replace(base.model, points=4, heads=4))
    for words, message in (
        ("quik", "preset 'quik'"),
        ("quick N=4,16", "one value for each field"),
        ("quick poins=4", "no field 'poins'"),
        ("", "expected a preset"),
        ("quick architecture=ccnet", "architecture=unept only"),
    ):
        with pytest.raises(ValueError, match=message):
            step_breakdown.parse_case(words)
    for bad in ({"rounds": 0}, {"images": -1}, {"threads": -1}):
        with pytest.raises(ValueError, match=f"--{next(iter(bad))}"):
            step_breakdown.BreakdownProtocol(cases=(), backends=(), timing=StepTiming(**bad))
    with pytest.raises(ValueError, match="--backends"):
        step_breakdown.BreakdownProtocol(cases=(), backends=("native", "native"))
