from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from bench.config.grid import Variant
from bench.config.presets import preset
from bench.profiling import gpu_hours
from bench.results.gpu_assumption import GpuAssumption
from reports.pages import gpu_hours as pages
from unept.inference import predict


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every network has 2 GMACs; what was counted."""
    counted: list[Any] = []

    def count(settings: Any) -> Any:
        counted.append(settings)
        return SimpleNamespace(gmacs=2.0)

    monkeypatch.setattr("bench.profiling.target_cost.count_operations", count)
    return counted


def test_windows_of_the_papers_protocol() -> None:
    """Of a picture of 512 x 683: 1 + 2 + 6 + 8 + 15 + 24, and as many of its mirror image."""
    assert gpu_hours.windows_per_image(preset("paper"), (512, 683)) == 2 * (1 + 2 + 6 + 8 + 15 + 24)
    assert gpu_hours.windows_per_image(preset("paper"), (512, 683), quick=True) == 6


@pytest.mark.parametrize("size", [(40, 70), (64, 64), (90, 61)])
@pytest.mark.parametrize("flip", [False, True])
def test_windows_are_as_many_as_are_evaluated(size: tuple[int, int], flip: bool) -> None:
    base = preset("quick")
    protocol = replace(base.evaluation, mode="slide", window=64, stride=24, scales=(0.5, 1.0, 1.75), flip_test=flip)
    settings = replace(base, evaluation=protocol)
    calls = []

    def model(image: torch.Tensor) -> Any:
        calls.append(len(image))
        return SimpleNamespace(logits=image[:, :2], refined=None)

    predict(
        model,
        np.zeros((*size, 3), np.uint8),
        window=64,
        stride=24,
        scales=protocol.scales,
        flip=flip,
        base=(base.train.base_long, base.train.base_short),
    )
    assert gpu_hours.windows_per_image(settings, size) == sum(calls)


def test_a_run_is_its_steps_its_looks_and_its_evaluation(counting: list[Any]) -> None:
    found = gpu_hours.count_run_work(preset("paper"), pictures=2000)
    assert found.gmacs == 2.0
    assert found.training == pytest.approx(2 * 0.002 * 3 * 16 * 160_000)
    assert found.evaluation == pytest.approx(2 * 0.002 * (2000 * 112 + 20 * 16 * 6))
    whole = replace(preset("quick"), evaluation=replace(preset("quick").evaluation, flip_test=True))
    assert gpu_hours.windows_per_image(whole, (64, 128)) == pytest.approx(2 * 32 * 64 / 64**2), (
        "resized to 32 x 64, both ways"
    )


def test_shared_runs_are_counted_once(counting: list[Any]) -> None:
    base = preset("paper")
    variants = [
        Variant(name="a", axes={}, settings=base),
        Variant(name="b", axes={}, settings=replace(base, train=replace(base.train, steps=80_000))),
    ]
    known: dict[str, Any] = {}
    found = [*gpu_hours.gpu_hours_records("T1", variants, pictures=10, known=known)]
    found += gpu_hours.gpu_hours_records("T2", variants[1:], pictures=10, known=known)
    assert [record["same_as"] for record in found] == ["", "", "T1, b"]
    assert len(counting) == 2
    card = GpuAssumption(name="x", peak=2e6 / 3600, share=0.5)  # 1e6 of 1e12 operations an hour
    lines = [line.split(" | ") for line in pages.totals_table(found, card, 2).splitlines()]
    assert [line[1:3] for line in lines[2:]] == [["2", "4"], ["1", "2"], ["2", "4"]]
    hour = [record["training_tflop"] / 1e6 for record in found]
    assert [line[3] for line in lines[2:]] == [f"{2 * sum(some):,.0f}" for some in (hour[:2], hour[2:], hour[:2])]


def test_a_dry_run_says_what_is_due(counting: list[Any]) -> None:
    variants = [Variant(name="a", axes={}, settings=preset("paper"))]
    found = [*gpu_hours.gpu_hours_records("T1", variants, pictures=2000, known={})]
    first, last = pages.gpu_hours_lines(found, {"a": 3}, GpuAssumption(), gpu_hours.DEFAULT_IMAGE_SIZE)
    each = GpuAssumption().hours(found[0]["training_tflop"] + found[0]["evaluation_tflop"])
    assert first.startswith(f"a: 2.0 GMACs an image, {each:.1f} GPU-hours a run, ")
    assert last.startswith(f"predicted: {3 * each:,.0f} GPU-hours for the 3 runs due, if NVIDIA A100, ")


@pytest.mark.parametrize("wrong", [{"peak": 0.0}, {"peak": float("nan")}, {"share": 0.0}, {"share": 1.5}])
def test_a_card_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        GpuAssumption(**wrong)  # type: ignore[arg-type]
