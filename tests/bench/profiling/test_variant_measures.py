"""What a variant costs, taken for real on a small one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import unept
from bench import environment
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import settings_to_dict
from bench.profiling import variant
from bench.profiling.memory.predict import predict_peak
from bench.profiling.memory.setting import StepSetting
from bench.profiling.target_cost import count_operations, target_cost
from bench.profiling.variant import measure_variant
from bench.units import GIB


def test_measures_of_a_small_variant(tmp_path: Path) -> None:
    settings = replace_fields(preset("quick"), {"batch": 2, "levels": 1, "points": 4, "scene_train": 4})
    spec = {"settings": settings_to_dict(settings), "target": 96, "backend": "reference"}
    result = measure_variant(spec, tmp_path, lambda *_: None)
    metrics = result["metrics"]
    model = unept.build(settings.model)
    assert metrics["parameters"] == sum(p.numel() for p in model.parameters())
    assert metrics["gflops"] == pytest.approx(2 * metrics["gmacs"])
    for name in ("train_images_per_second", "inference_images_per_second"):
        spread = metrics[name]
        assert 0 < spread["q1"] <= spread["median"] <= spread["q3"]
        assert spread["n"] == variant.TIMED_STEPS
    assert result["protocol"]["batch"] == 2
    own, target = StepSetting(batch=2, size=64, bounded=True), StepSetting(batch=2, size=96, bounded=True)
    for name, setting in (("step_memory_gib", own), ("target_memory_gib", target)):
        assert metrics[name] == predict_peak(settings, setting, backend="reference").bytes / GIB
    assert metrics["target_size"] == 96
    assert metrics["target_gmacs"] == count_operations(replace_fields(settings, {"size": 96})).gmacs
    assert 1.5 < metrics["target_gmacs"] / metrics["gmacs"] < 2.6
    assert metrics["target_memory_gib"] > 1.5 * metrics["step_memory_gib"]


def test_step_that_cannot_be_traced_has_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("data-dependent")

    monkeypatch.setattr("bench.profiling.target_cost.predict_peak", fail)
    metrics, notes = target_cost(preset("quick"), 96, "reference")
    assert metrics["step_memory_gib"] is None
    assert metrics["target_gmacs"] > 0
    assert notes["no target_memory_gib"] == "RuntimeError: data-dependent"


@pytest.mark.skipif(environment.peak_resident_gib() is None, reason="the system does not tell a process's peak memory")
def test_peak_resident_memory_sees_what_was_held_and_let_go() -> None:
    before = environment.peak_resident_gib()
    assert before is not None
    held = torch.ones(int((before + 0.25) * 2**30 / 4))
    del held
    after = environment.peak_resident_gib()
    assert after is not None
    assert after >= before + 0.2


def test_share_of_points_inside_the_map_falls_with_their_number() -> None:
    shares = []
    for points in (4, 16, 64):
        settings = replace_fields(preset("quick"), {"points": points, "levels": 1})
        shares.append(variant.mean_inside_share(unept.build(settings.model), torch.zeros(1, 3, 64, 64)))
    assert shares[0] > shares[1] > shares[2]
    bare = replace_fields(preset("quick"), {"encoder_self": "none", "decoder_self": "none", "decoder_cross": "none"})
    assert variant.mean_inside_share(unept.build(bare.model), torch.zeros(1, 3, 64, 64)) is None
