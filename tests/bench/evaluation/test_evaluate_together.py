"""Pictures that a model sees in one call: when, with the same labels, and with the same message for a fault."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.distributed import SINGLE
from bench.evaluation import evaluate
from bench.evaluation.protocol import EvaluationProtocol, is_model_batch_independent, protocol_of_settings
from unept.attention import CROSS, SELF, is_batch_independent
from unept.data import open_data
from unept.utils.finite import NonFiniteError


def quick(**changes: Any) -> tuple[nn.Module, Any]:
    """A small model of the quick preset that is not at its initial weights, and its settings."""
    settings = replace_fields(preset("quick"), {"points": 4, "scene_val": 21, "scene_train": 4, **changes})
    torch.manual_seed(0)
    model = unept.build(settings.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model, settings


def sizes_of_calls(model: nn.Module) -> list[int]:
    """The number of pictures of each call from now on."""
    calls: list[int] = []
    model.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    return calls


def by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on every picture has a call of its own."""
    monkeypatch.setattr(EvaluationProtocol, "is_single_pass", property(lambda _: False))


@pytest.mark.parametrize("changes", [{}, {"levels": 3, "points": 16}, {"refine_test": False}])
def test_metrics_are_those_of_picture_after_picture(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = quick(**changes)
    calls = sizes_of_calls(model)
    together = evaluate.evaluate_model(model, settings, progress=lambda *_: None)
    probed = evaluate.probe_model(model, settings)
    assert calls == [16, 5, 16]
    by_one(monkeypatch)
    calls.clear()
    alone = evaluate.evaluate_model(model, settings, progress=lambda *_: None)
    assert calls == [1] * 21
    for name, value in alone.metrics.items():
        assert together.metrics[name] == pytest.approx(value, abs=1e-5), name
    assert together.facts == alone.facts
    assert together.pictures.keys() == alone.pictures.keys()
    assert evaluate.probe_model(model, settings) == pytest.approx(probed, abs=1e-5)


def test_labels_differ_at_ties_alone() -> None:
    model, settings = quick()
    dataset = open_data("scenes", "val", settings.scenes)
    images, how = [dataset[index].image for index in range(16)], protocol_of_settings(settings)
    together = how.predict_labels_together(model, images)
    assert together is not None
    assert len({labels.plain.tobytes() for labels in together}) == 16
    for image, labels in zip(images, together, strict=True):
        alone = how.predict_labels(model, image, 8)
        for one, other in zip(labels, alone, strict=True):
            assert one is not None
            assert other is not None
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert (one != other).mean() < 1e-3


@pytest.mark.parametrize(
    "changes",
    [
        {"scales": (1.0, 2.0)},
        {"flip_test": True},
        {"mode": "slide"},
        {"base_long": 96, "base_short": 96},
        {"decoder_self": "batch"},
        {"encoder_self": "longformer", "decoder_self": "batch"},
        {"architecture": "encnet", "backbone": "resnet50", "size": 64},
    ],
)
def test_any_other_protocol_and_any_model_that_may_mix_pictures_take_them_alone(changes: dict[str, Any]) -> None:
    model, settings = quick(scene_val=2, **changes)
    calls = sizes_of_calls(model)
    evaluate.probe_model(model, settings) if "scales" not in changes else None
    evaluate.evaluate_model(model, settings, progress=lambda *_: None)
    assert set(calls) == {1} or ("flip_test" in changes and set(calls) <= {1, 2})


def test_what_does_not_mix_the_pictures_of_a_batch() -> None:
    assert {name for name in (*SELF, *CROSS) if not is_batch_independent(name)} == {"batch"}
    assert not is_batch_independent("level_mean:LevelMean"), "a user's class may"
    assert is_model_batch_independent(quick()[0])
    assert not is_model_batch_independent(quick(decoder_self="batch")[0])
    assert not is_model_batch_independent(nn.Linear(1, 1))


def test_pictures_of_other_sizes_and_large_ones_are_taken_alone() -> None:
    model, how = quick()[0], EvaluationProtocol(mode="whole")
    small, wide = np.zeros((64, 64, 3), np.uint8), np.zeros((64, 96, 3), np.uint8)
    assert how.predict_labels_together(model, [small, small]) is not None
    assert how.predict_labels_together(model, [small, wide]) is None
    assert how.predict_labels_together(model, [small] * 33) is None, "more pixels than are taken together"
    assert replace(how, base=(64, 64)).predict_labels_together(model, [wide, wide]) is None, "they would be resized"


@pytest.mark.parametrize("spoilt", [0, 7, 18])
def test_the_picture_whose_output_is_not_finite_is_named(spoilt: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model, settings = quick()
    image = open_data("scenes", "val", settings.scenes)[spoilt].image

    def spoil(self: unept.UNEPT, images: Tensor) -> Any:
        output = forward(self, images)
        corner = unnormalised(images[:, :, :3, :3])
        target = torch.from_numpy(np.asarray(image[:3, :3], np.float32)).permute(2, 0, 1)
        for index, one in enumerate(corner):
            if torch.allclose(one, target, atol=0.01):
                output.logits[index, 0, 0, 0] = math.nan
        return output

    forward: Callable[..., Any] = unept.UNEPT.forward
    monkeypatch.setattr(unept.UNEPT, "forward", spoil)
    with pytest.raises(NonFiniteError, match=f"^image val_{spoilt:06d}: scale 1, window at row 0, column 0: 1 of"):
        evaluate.evaluate_model(model, settings, progress=lambda *_: None)


def unnormalised(images: Tensor) -> Tensor:
    """Grey levels of normalised pictures."""
    from unept.utils.imagenet import MEAN, STD

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return images * std + mean


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_take_turns_at_the_same_groups(processes: int) -> None:
    """So that a call of the model sees the same pictures, whatever their number."""
    model, settings = quick(scene_val=40)
    dataset, how = open_data("scenes", "val", settings.scenes), protocol_of_settings(settings)
    seen = []
    for rank in range(processes):
        calls = sizes_of_calls(model)
        group = replace(SINGLE, rank=rank, size=processes)
        seen += [index for index, _, _ in evaluate._labelled(model, dataset, 40, how, group)]
        assert set(calls) <= {16, 8}
    assert sorted(seen) == list(range(40))
