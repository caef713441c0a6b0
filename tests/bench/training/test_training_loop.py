"""One run: repeatable to the bit, resumable to the bit, and a divergence is said, never averaged."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import unept
from bench.config.fields import replace_fields
from bench.config.presets import preset
from bench.config.settings import Settings, settings_to_dict
from bench.evaluation import evaluate as evaluation
from bench.evaluation import protocol
from bench.training import checkpoint, loop
from bench.training.optimizer import learning_rate, make_optimizer, schedule_text, set_learning_rates
from unept.data.scenes_v2 import CLASSES, PALETTE, ScenesV2


def silent(step: int, total: int, message: str) -> None:
    """A progress that says nothing."""


def small(**changes: Any) -> Settings:
    base = {
        "steps": 6,
        "batch": 2,
        "points": 4,
        "levels": 1,
        "dropout": 0.1,
        "checkpoint_every": 2,
        "scene_train": 8,
        "scene_val": 3,
    }
    return replace_fields(preset("quick"), base | changes)


def run(settings: Settings, folder: Path, seed: int = 3) -> dict[str, Any]:
    return loop.train_and_evaluate({"settings": settings_to_dict(settings), "seed": seed}, folder, silent)


def numbers(result: dict[str, Any]) -> str:
    return json.dumps([result["metrics"], result["training"]["curve"], result["training"]["probe"]])


def test_same_seed_same_bits_and_another_seed_others(tmp_path: Path) -> None:
    first, again, other = (
        numbers(run(small(), tmp_path / name, seed)) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_a_run_cut_off_continues_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_after: int
) -> None:
    whole = numbers(run(small(), tmp_path / "whole"))
    steps = 0
    original = loop.train_step

    def cut(*args: Any) -> Any:
        nonlocal steps
        if steps == stop_after:
            raise KeyboardInterrupt
        steps += 1
        return original(*args)

    monkeypatch.setattr(loop, "train_step", cut)
    with pytest.raises(KeyboardInterrupt):
        run(small(), tmp_path / "cut")
    monkeypatch.setattr(loop, "train_step", original)
    continued = run(small(), tmp_path / "cut")
    assert continued["training"]["resumed_at"] == stop_after // 2 * 2
    assert numbers(continued) == whole


FRACTIONS = (
    "miou",
    "pixel_accuracy",
    "boundary_iou",
    "boundary_f",
    "interior_miou",
    "error_near_boundary",
)
REFINED = ("miou_refined", "pixel_accuracy_refined", "boundary_iou_refined", "boundary_f_refined")


def test_metrics_are_named_fractions(tmp_path: Path) -> None:
    result = run(small(), tmp_path)
    metrics = result["metrics"]
    assert result["status"] == "ok"
    for name in (*FRACTIONS, *REFINED):
        assert 0 <= metrics[name] <= 1, name
    assert len(metrics["iou"]) == small().model.classes
    assert result["evaluation"]["images"] == 3
    plain = run(small(refine_test=False), tmp_path / "plain")["metrics"]
    assert [plain[name] for name in REFINED] == [None] * len(REFINED)
    assert {name: plain[name] for name in FRACTIONS} == {name: metrics[name] for name in FRACTIONS}


def test_probes_are_there_and_change_nothing(tmp_path: Path) -> None:
    looked, blind = (run(small(probes=count, probe_images=2), tmp_path / str(count)) for count in (3, 0))
    assert looked["metrics"] == blind["metrics"]
    assert looked["training"]["curve"] == blind["training"]["curve"]
    assert [look[0] for look in looked["training"]["probe"]] == [2, 4, 6]
    assert all(0 <= miou <= 1 for _, miou, _ in looked["training"]["probe"])
    assert blind["training"]["probe"] == []


def test_the_last_probe_of_all_pictures_is_the_evaluation(tmp_path: Path) -> None:
    result = run(small(probes=2, probe_images=3), tmp_path)
    _, miou, lookalike = result["training"]["probe"][-1]
    assert (miou, lookalike) == (result["metrics"]["miou"], result["metrics"]["lookalike_accuracy"])


def test_where_to_look_and_what_to_keep() -> None:
    assert evaluation.probe_steps(500, 20) == frozenset(range(25, 501, 25))
    assert evaluation.probe_steps(3, 20) == {1, 2, 3}
    assert evaluation.evenly_spaced(10, 4) == [0, 2, 5, 7]
    assert evaluation.evenly_spaced(2, 4) == [0, 1]
    assert evaluation.evenly_spaced(2, 0) == []


def test_kept_pictures(tmp_path: Path) -> None:
    path = tmp_path / "pictures" / "key.npz"
    settings = small(keep=2)
    result = loop.train_and_evaluate(
        {"settings": settings_to_dict(settings), "seed": 3, "pictures": str(path)}, tmp_path / "checkpoints", silent
    )
    with np.load(path, allow_pickle=False) as arrays:
        assert arrays["index"].tolist() == [0, 1]
        assert arrays["classes"].tolist() == list(CLASSES)
        assert arrays["palette"].tolist() == [list(colour) for colour in PALETTE]
        for place in range(2):
            sample = ScenesV2(settings.scenes, "val")[place]
            assert (arrays[f"image_{place}"] == sample.image).all()
            assert (arrays[f"truth_{place}"] == sample.label).all()
        for name in ("prediction_1", "refined_1"):
            assert (arrays[name].shape, arrays[name].dtype) == ((64, 64), np.uint8)
        assert "image_2" not in arrays
    assert result["status"] == "ok"
    assert [p.name for p in path.parent.iterdir()] == ["key.npz"]


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_what_is_not_finite_raises_before_it_reaches_the_weights(where: str) -> None:
    settings = small()
    model = unept.build(settings.model).train()
    optimizer = make_optimizer(model, settings.train)
    batch = loop.training_batches(settings, 0).batch_at(0)
    if where == "loss":
        batch["image"][0, 0, 0, 0] = math.nan
    else:
        model.cls.weight.register_hook(lambda grad: grad * math.inf)
    before = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(loop.NonFiniteError, match=where):
        loop.train_step(model, optimizer, batch, settings)
    assert all(torch.equal(now, then) for now, then in zip(model.parameters(), before, strict=True))


def test_outputs_that_are_not_finite_in_evaluation_alone_are_a_divergence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: unept.UNEPT, *args: Any) -> Any:
        output = forward(self, *args)
        if not self.training:
            output.logits[0, 1, 2, 3] = math.nan
        return output

    forward = unept.UNEPT.forward
    monkeypatch.setattr(unept.UNEPT, "forward", spoil)
    place = "image val_000000: scale 1, window at row 0, column 0: 1 of 28,672 class logits are not finite"
    with pytest.raises(loop.NonFiniteError, match=f"^probe after step 3: {place}$"):
        run(small(probes=2), tmp_path / "probed")
    with pytest.raises(loop.NonFiniteError, match=f"^final evaluation: {place}$"):
        run(small(probes=0, steps=1), tmp_path / "blind")


def test_weights_that_the_last_update_spoils_are_a_divergence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(steps=2, probes=1)
    model = unept.build(settings.model)
    model.register_buffer("mask", torch.full((2,), -math.inf))  # began so, and is no fault
    loop.train(model, settings, seed=0, folder=tmp_path / "well", progress=silent)
    step = torch.optim.AdamW.step

    def overflow(self: torch.optim.AdamW, *args: Any) -> Any:
        made = step(self, *args)
        if next(iter(self.state.values()))["step"] == settings.train.steps:
            with torch.no_grad():
                model.cls.bias[0] = math.inf
        return made

    monkeypatch.setattr(torch.optim.AdamW, "step", overflow)
    with pytest.raises(loop.NonFiniteError, match=r"^weights are not finite after the last step: cls\.bias$"):
        loop.train(model, settings, seed=0, folder=tmp_path / "ill", progress=silent)


def test_a_loss_that_is_not_finite_is_said_with_its_step(tmp_path: Path) -> None:
    with pytest.raises(loop.NonFiniteError, match=r"^step \d: loss is (nan|inf)$"):
        run(small(lr=1e20, probes=0), tmp_path)


def test_rates_backbone_factor_and_drop() -> None:
    config = dataclasses.replace(preset("quick").train, lr=1.0, backbone_lr=0.1, steps=9, lr_drop=2 / 3, warmup=0.0)
    model = nn.ModuleDict({"backbone": nn.Linear(2, 2), "head": nn.Linear(2, 1)})
    optimizer = make_optimizer(model, config)
    sizes = [sum(p.numel() for p in group["params"]) for group in optimizer.param_groups]
    assert sizes == [3, 6]
    rates = []
    for step in range(config.steps):
        set_learning_rates(optimizer, config, step)
        rates.append([group["lr"] for group in optimizer.param_groups])
    assert rates[5] == [1.0, 0.1]
    assert rates[6] == pytest.approx([0.1, 0.01])
    assert all(group["weight_decay"] == config.weight_decay for group in optimizer.param_groups)


def test_the_papers_drops() -> None:
    config = preset("paper").train
    optimizer = make_optimizer(nn.Linear(1, 1), config)
    for drop, step in ((2 / 3, 106_667), (126 / 160, 126_000)):
        changed = dataclasses.replace(config, lr_drop=drop)
        for now, rate in ((step - 1, 1e-4), (step, 1e-5)):
            set_learning_rates(optimizer, changed, now)
            assert optimizer.param_groups[0]["lr"] == pytest.approx(rate)


def test_warm_up_and_cosine() -> None:
    config = dataclasses.replace(preset("quick").train, lr=2.0, steps=10, warmup=0.4, lr_drop=2 / 3)
    assert [learning_rate(config, step) for step in range(10)] == pytest.approx(
        [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 2.0, 0.2, 0.2, 0.2]
    )
    cosine = dataclasses.replace(config, schedule="cosine")
    module = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=2.0)
    theirs = torch.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.25, total_iters=3),
            torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=6),
        ],
        milestones=[4],
    )
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    assert [learning_rate(cosine, step) for step in range(10)] == pytest.approx(rates)
    assert schedule_text(config) == "rate rising to 2 over 4 steps, 0.2 from step 7"
    assert schedule_text(cosine) == "rate rising to 2 over 4 steps, falling to 0 along half a cosine"
    never = dataclasses.replace(config, warmup=0.0, lr_drop=1.0)
    assert {learning_rate(never, step) for step in range(10)} == {2.0}
    assert schedule_text(never) == "rate 2"


def test_the_sampling_offsets_have_a_rate_of_their_own() -> None:
    config = dataclasses.replace(preset("quick").train, lr=1.0, backbone_lr=0.5, offset_lr=0.1, warmup=0.0)
    model = unept.build(small().model)
    optimizer = make_optimizer(model, config)
    set_learning_rates(optimizer, config, 0)
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = 0.5 if name.startswith("backbone.") else 0.1 if "sampling_offsets" in name else 1.0
        assert rate_of[id(parameter)] == expected, name
    assert len(make_optimizer(nn.Linear(1, 1), config).param_groups) == 2, "no group without parameters of it"


def test_every_parameter_decays_norms_biases_and_embeddings_too() -> None:
    settings = preset("paper")
    model = unept.build(small().model)
    optimizer = make_optimizer(model, settings.train)
    assert type(optimizer) is torch.optim.AdamW
    other, backbone = ([id(p) for p in group["params"]] for group in optimizer.param_groups)
    assert sorted(other + backbone) == sorted(id(p) for p in model.parameters())
    assert sorted(backbone) == sorted(id(p) for p in model.backbone.parameters())
    for group, rate in zip(optimizer.param_groups, (1e-4, 1e-5), strict=True):
        assert group["lr"] == pytest.approx(rate)
        assert (group["weight_decay"], group["betas"], group["eps"]) == (1e-4, (0.9, 0.999), 1e-8)
    other_betas = make_optimizer(model, dataclasses.replace(settings.train, beta1=0.8, beta2=0.99))
    assert other_betas.param_groups[0]["betas"] == (0.8, 0.99)


def test_the_papers_recipe_and_protocol() -> None:
    train, evaluation = preset("paper").train, preset("paper").evaluation
    assert (train.steps, train.batch, train.lr_drop_factor) == (160_000, 16, 0.1)
    assert (train.scale_min, train.scale_max, train.flip, train.photometric) == (0.5, 2.0, 0.5, True)
    assert (train.base_long, train.base_short, train.category_max) == (2048, 512, 0.75)
    assert (evaluation.mode, evaluation.window, evaluation.stride) == ("slide", 480, 160)
    assert evaluation.scales == (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
    assert evaluation.flip_test


def test_evaluation_follows_its_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def watched(model: nn.Module, image: Any, **arguments: Any) -> Any:
        assert not model.training
        asked.append(arguments)
        label = torch.zeros(settings.model.classes, *image.shape[:2])
        label[0], other = 1, torch.zeros_like(label)
        other[3] = 1
        return protocol.Prediction(label, other)

    monkeypatch.setattr(protocol, "predict", watched)
    settings = small(
        mode="slide", window=32, stride=16, scales=(0.5, 2.0), flip_test=True, base_long=90, base_short=48, images=2
    )
    metrics = loop.evaluate_model(unept.build(settings.model).train(), settings, progress=silent).metrics
    assert (
        asked
        == [{"mode": "slide", "window": 32, "stride": 16, "scales": (0.5, 2.0), "flip": True, "base": (90, 48)}] * 2
    )
    assert metrics["pixel_accuracy"] != metrics["pixel_accuracy_refined"]


def test_training_follows_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small(edge_threshold="logit", size=48, base_long=48, base_short=48)
    pipeline = loop.training_batches(settings, 0).pipeline
    assert (pipeline.size, pipeline.classes, pipeline.boundary_truth) == (48, 7, True)
    assert (pipeline.augmentation, pipeline.loss) == (settings.train, settings.loss)
    assert not loop.training_batches(small(spatial=False, queries="embed"), 0).pipeline.boundary_truth
    thresholds = []
    original = loop.total_loss
    monkeypatch.setattr(loop, "total_loss", lambda *a, **k: thresholds.append(k["edge_threshold"]) or original(*a, **k))
    model = unept.build(settings.model)
    loop.train_step(
        model, make_optimizer(model, settings.train), loop.training_batches(settings, 0).batch_at(0), settings
    )
    assert thresholds == ["logit"]


def test_variants_differ_in_their_slot_and_in_nothing_else() -> None:
    torch.manual_seed(0)
    ours = unept.build(small().model).state_dict()
    torch.manual_seed(0)
    other = unept.build(small(encoder_self="none", decoder_self="dense").model).state_dict()
    shared = {name for name in ours if "self_attn" not in name and "cross_attn" not in name}
    assert shared == {name for name in other if "self_attn" not in name and "cross_attn" not in name}
    assert all(torch.equal(ours[name], other[name]) for name in shared)


def test_checkpoints_are_written_on_the_way_and_not_after_the_last_step(tmp_path: Path) -> None:
    run(small(), tmp_path)
    assert (tmp_path / checkpoint.CHECKPOINT_FILE).exists()
    model = unept.build(small().model)
    state = checkpoint.load_checkpoint(tmp_path, model, make_optimizer(model, small().train))
    assert state.step == 4


def test_seeds_of_what_is_random_in_evaluation_are_recorded() -> None:
    found = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        (by_name,) = loop.attention_seeds(unept.build(small(encoder_self="reformer").model)).values()
        assert [*by_name] == ["context_branch.encoder.layers.0.self_attn"]
        found += by_name.values()
    assert found[0] == found[1] != found[2]
    assert all(0 <= seed < 2**53 for seed in found), "whole numbers that JSON and CSV keep"
    assert loop.attention_seeds(unept.build(small().model)) == {}


def test_a_runs_row_has_the_seeds_of_what_is_random_in_evaluation(tmp_path: Path) -> None:
    result = run(small(encoder_self="reformer", steps=1), tmp_path)
    assert [*result["evaluation"]["attention_seeds"]] == ["context_branch.encoder.layers.0.self_attn"]


def test_a_published_network_is_trained_and_scored_by_the_same_recipe(tmp_path: Path) -> None:
    settings = small(architecture="pointrend", spatial=False, queries="embed", steps=3)
    result = run(settings, tmp_path)
    assert result["status"] == "ok"
    assert result["metrics"]["miou_refined"] is None
    _, total, ce, refined, boundary, direction = result["training"]["curve"][-1]
    assert total > ce > 0
    assert (refined, boundary, direction) == (0, 0, 0)
    assert numbers(run(settings, tmp_path / "again")) == numbers(result)
