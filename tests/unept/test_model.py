"""The whole model: sizes, parameter totals, independence, slots, and settings that cannot be."""

import json
import re
from dataclasses import replace

import pytest
import torch
from locations import GOLDEN, ROOT

import unept
import unept.config
from unept import attention
from unept.layers.positions import resize_embedding
from unept.model import UNEPT

SMALL = unept.ModelConfig(
    backbone="tiny_conv", classes=4, size=32, points=2, heads=2, width=16, ffn=32, encoder_layers=1, decoder_layers=1,
    head_width=8, spatial_widths=(8, 12),
)  # fmt: skip


def build(seed=0, **changes):
    torch.manual_seed(seed)
    return unept.build(replace(SMALL, **changes))


def shapes(output):
    return [None if tensor is None else tuple(tensor.shape) for tensor in output]


def initial_values(**changes):
    return build(**changes).state_dict()


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"points": 4}, ("sampling_offsets.", "attention_weights.")),
        ({"levels": 1}, ("^layers", "level_embed", "sampling_offsets.", "attention_weights.")),
        ({"encoder_self": "dense", "decoder_cross": "none"}, ("encoder.layers.0.self_attn.", "cross_attn.")),
        ({"decoder_layers": 2, "heads": 4}, ("decoder.layers.1.", "sampling_offsets.", "attention_weights.")),
        ({"spatial": False, "queries": "embed"}, ("spatial_branch.", "mask_head.", "dir_head.")),
        ({"classes": 7}, ("cls.",)),
    ],
)
def test_variants_of_one_seed_start_equal_in_all_that_they_share(changes, own):
    base, other = initial_values(), initial_values(**changes)
    shared = [name for name in base.keys() & other.keys() if not any(re.search(part, name) for part in own)]
    assert {name.partition(".")[0] for name in shared} >= {"backbone", "context_branch", "query_embed"}
    for name in shared:
        assert torch.equal(base[name], other[name]), name
    slot = "context_branch.decoder.layers.0.self_attn.value_proj.weight"
    assert torch.equal(base[slot], other[slot])


def test_the_last_map_starts_equal_whatever_the_number_of_levels():
    one, three = initial_values(levels=1), initial_values(levels=3)
    assert torch.equal(one["layers.0.weight"], three["layers.2.weight"])
    assert torch.equal(one["context_branch.level_embed"][-1], three["context_branch.level_embed"][-1])


def test_every_model_of_a_process_starts_elsewhere_and_a_seed_fixes_it():
    first = build().state_dict()
    second = unept.build(SMALL).state_dict()  # goes on from where the generator is
    again = build().state_dict()
    weights = [name for name in first if name.endswith("weight") and "norm" not in name and first[name].std() > 0]
    assert len(weights) > 20
    assert not any(torch.equal(first[name], second[name]) for name in weights)
    assert all(torch.equal(first[name], again[name]) for name in first)
    shaped = [(tuple(first[name].shape), first[name].flatten()[:8].tolist()) for name in weights]
    assert len({str(start) for start in shaped}) == len(shaped), "no two parts of a model start equal"


@pytest.mark.parametrize(
    ("profile", "backbone", "total"),
    [
        (unept.released_profile, "deit_base", 94_842_326),
        (unept.released_profile, "resnet50", 32_357_942),
        (unept.paper_profile, "deit_base", 94_776_278),
        (unept.paper_profile, "resnet50", 32_291_894),
    ],
)
def test_parameter_totals(profile, backbone, total):
    config = replace(profile()[0], backbone=backbone)
    with torch.device("meta"):
        model = unept.build(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    if profile is unept.released_profile:
        name = {"deit_base": "deit", "resnet50": "r50"}[backbone]
        layout = json.loads((GOLDEN / f"keys_{name}_ade20k.json").read_text())
        assert {name: list(tensor.shape) for name, tensor in model.state_dict().items()} == layout


@pytest.mark.parametrize(
    ("levels", "points", "millions"),
    [(1, 4, 30.88), (1, 16, 31.17), (1, 64, 32.36), (3, 4, 31.47), (3, 16, 32.36), (3, 64, 35.91)],
)
def test_parameters_of_the_papers_grid(levels, points, millions):
    released, _ = unept.released_profile()
    with torch.device("meta"):
        model = unept.build(replace(released, levels=levels, points=points))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.006)


@pytest.mark.parametrize("backbone", ["tiny_conv", "tiny_vit", "lite0"])
def test_training_and_evaluation_sizes(backbone):
    model = build(backbone=backbone)
    image = torch.randn(2, 3, 32, 32)
    assert shapes(model(image)) == [(2, 4, 4, 4), (2, 1, 4, 4), (2, 8, 4, 4), None]
    model.eval()
    with torch.no_grad():
        assert shapes(model(image)) == [(2, 4, 32, 32), (2, 1, 4, 4), (2, 8, 4, 4), (2, 4, 32, 32)]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 17), (16, 16), (33, 50), (100, 40)])
@pytest.mark.parametrize("backbone", ["tiny_conv", "tiny_vit"])
def test_any_size(backbone, height, width):
    model = build(backbone=backbone).eval()
    image = torch.randn(1, 3, height, width)
    h, w = -(-height // 8), -(-width // 8)
    with torch.no_grad():
        output = model(image)
        assert shapes(output) == [(1, 4, height, width), (1, 1, h, w), (1, 8, h, w), (1, 4, height, width)]
        padded = torch.zeros(1, 3, -(-height // 16) * 16, -(-width // 16) * 16)
        padded[..., :height, :width] = image
        torch.testing.assert_close(output.logits, model(padded).logits[..., :height, :width])
        torch.testing.assert_close(output.refined, model(padded).refined[..., :height, :width])
    model.train()
    if height > 16 and width > 16:
        assert shapes(model(image)) == [(1, 4, h, w), (1, 1, h, w), (1, 8, h, w), None]


def test_training_logits_upsample_to_the_evaluation_ones():
    model = build(dropout=0.0, refine_test=False)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    image = torch.randn(1, 3, 32, 48)
    low = model(image).logits
    model.eval()
    expected = torch.nn.functional.interpolate(low, size=(32, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(model(image).logits, expected, rtol=1e-5, atol=1e-5)
    assert model(image).refined is None


def test_training_reaches_every_parameter():
    for changes in ({}, {"levels": 1}, {"backbone": "tiny_vit"}, {"queries": "spatial"}, {"encoder_self": "dense"}):
        model = build(**changes)
        image = torch.randn(2, 3, 32, 32)
        for _ in range(2):  # at the start some paths are shut by zeros (attention weights, idle norms)
            output = model(image)
            loss = sum(tensor.square().mean() for tensor in output if tensor is not None)
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.01 * torch.randn(parameter.shape)
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
        assert silent == [], changes


@pytest.mark.parametrize(
    ("slot", "name"),
    [(slot, name) for slot in unept.config.SLOTS for name in attention.attention_names(slot) if name != "batch"],
)
def test_images_of_a_batch_do_not_meet(slot, name):
    model = build(**{slot: name}).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        together = model(images)
        alone = model(images[1:2])
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one[1:2], other, rtol=1e-4, atol=1e-5)


def test_images_of_a_batch_meet_in_the_released_decoder():
    model = build(decoder_self="batch").eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert (model(images).logits[1:2] - model(images[1:2]).logits).abs().max() > 1e-4


def outside(model, slot):
    part, _, module = slot.partition("_")
    inside = f"context_branch.{part}.layers.0.{module}_attn."
    return {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(inside)}


@pytest.mark.parametrize(
    ("slot", "names"),
    [
        ("encoder_self", attention.attention_names("encoder_self")),
        ("decoder_self", attention.attention_names("decoder_self")),
        ("decoder_cross", ("deformable", "dense", "none")),
    ],
)
def test_variants_differ_in_their_slot_only(slot, names):
    slots = ("encoder_self", "decoder_self", "decoder_cross")
    reference = outside(build(**{slot: names[0]}), slot)
    for name in names[1:]:
        other = outside(build(**{slot: name}), slot)
        assert {key: value.shape for key, value in other.items()} == {k: v.shape for k, v in reference.items()}
        for key in other:
            if not any(f".{part}.layers.0.{kind}_attn." in key for part, _, kind in (s.partition("_") for s in slots)):
                assert torch.equal(other[key], reference[key]), key


def test_points_and_levels_start_from_the_same_rest():
    one, other = build(points=2).state_dict(), build(points=16).state_dict()
    same = [name for name in one if "_attn." not in name]
    assert len(same) > 60
    assert all(torch.equal(one[name], other[name]) for name in same)


def test_same_seed_same_bits():
    image = torch.randn(2, 3, 32, 32)
    results = []
    for _ in range(2):
        model = build(seed=5)
        output = model(image)
        sum(tensor.square().mean() for tensor in output if tensor is not None).backward()
        results.append([output.logits, *(parameter.grad for parameter in model.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))


def test_queries():
    image = torch.randn(1, 3, 32, 32)
    assert build(queries="spatial").query_embed is None
    assert build(queries="embed").query_embed.weight.shape == (16, 16)
    for queries in ("spatial", "embed", "both"):
        model = build(queries=queries, decoder_cross="none", decoder_self="none").eval()
        with torch.no_grad():
            first, second = model(image).logits, model(image + 1).logits
        assert torch.equal(first, second) == (queries == "embed")
    alone = build(spatial=False)
    assert shapes(alone(image)) == [(1, 4, 4, 4), None, None, None]
    assert shapes(alone.eval()(image)) == [(1, 4, 32, 32), None, None, None]


def test_query_embedding_follows_the_image():
    model = build(queries="embed", decoder_cross="none", decoder_self="none").eval()
    seen = []
    model.context_branch.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    with torch.no_grad():
        model(torch.randn(2, 3, 32, 64))
    expected = resize_embedding(model.query_embed.weight, (4, 4), (4, 8))
    assert torch.equal(seen[0], expected.expand(2, -1, -1))


def test_query_grid_of_an_odd_crop():
    model = build(size=100)
    assert model.query_embed.weight.shape[0] == 13**2
    assert shapes(model(torch.randn(2, 3, 100, 100)))[0] == (2, 4, 13, 13)


def test_boundary_heads_and_refinement():
    image = torch.randn(1, 3, 32, 32)
    two = build(boundary_head="two_class").eval()
    with torch.no_grad():
        assert two(image).boundary.shape == (1, 2, 4, 4)
        from unept.layers.boundary_refinement import refine

        model = build().eval()
        output = model(image)
        expected = refine(output.logits, output.boundary, output.direction, "probability")
        assert torch.equal(output.refined, expected)
        assert not torch.equal(output.refined, output.logits)


def with_changes(model, **changes):
    """The same weights under another setting."""
    other = unept.build(replace(model.config, **changes))
    other.load_state_dict(model.state_dict())
    return other.eval()


def test_edge_threshold_reaches_the_refinement():
    model = build().eval()
    with torch.no_grad():
        model.mask_head[-1].weight.mul_(0.05)  # edges between logits 0 and 0.5 are edges by one of the two rules
        by_probability = model(image := torch.randn(1, 3, 32, 32))
        by_logit = with_changes(model, edge_threshold="logit")(image)
    assert torch.equal(by_probability.logits, by_logit.logits)
    assert not torch.equal(by_probability.refined, by_logit.refined)


def test_position_resize_reaches_the_backbone():
    model = build(backbone="tiny_vit").eval()
    bicubic = with_changes(model, position_resize="bicubic")
    with torch.no_grad():
        for side, equal in ((32, True), (48, False)):
            image = torch.randn(1, 3, side, side)
            assert torch.equal(model(image).logits, bicubic(image).logits) == equal


def test_learned_queries_start_from_a_normal():
    embedding = build(size=128, width=32).query_embed.weight
    assert embedding.std().item() == pytest.approx(1, rel=0.05)


def test_dropout_is_in_the_context_branch_only():
    for backbone in ("tiny_conv", "tiny_vit", "lite0"):
        model = build(backbone=backbone)
        active = [name for name, module in model.named_modules() if getattr(module, "p", 0) or "drop_path" in name]
        layers = [name for name in active if name.startswith("context_branch.")]
        assert [name for name in active if type(model.get_submodule(name)) is not torch.nn.Identity] == layers
        assert layers


def test_one_small_image_trains():
    """Batch norm has something to average over even in one image of one pixel."""
    for backbone in ("tiny_conv", "tiny_vit", "lite0"):
        model = build(backbone=backbone)
        output = model(torch.randn(1, 3, 1, 1))
        assert shapes(output) == [(1, 4, 1, 1), (1, 1, 1, 1), (1, 8, 1, 1), None]
        assert all(tensor.isfinite().all() for tensor in output if tensor is not None)


def test_no_random_number_is_drawn_in_evaluation():
    model = build().eval()
    before = torch.get_rng_state()
    with torch.no_grad():
        model(torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_spatial_branch_ends_with_a_relu_or_not():
    for relu in (True, False):
        feature = build(spatial_relu_last=relu).spatial_branch(torch.randn(2, 3, 32, 32))
        assert (feature.min() >= 0) == relu


def test_levels_are_the_last_ones():
    model = build(levels=2, backbone="lite0")
    assert [layer.in_channels for layer in model.layers] == [112, 320]
    assert model.context_branch.level_embed.shape == (2, 16)


def test_backbone_parameters_are_named_so():
    names = [name for name, _ in build().named_parameters() if "backbone" in name]
    assert names
    assert all(name.startswith("backbone.") for name in names)
    assert len(names) == len(list(build().backbone.parameters()))


@pytest.mark.parametrize("side", [32, 96], ids=["matrix", "grid"])
@pytest.mark.parametrize("slot", ["deformable", "dense", "dense_fused", "sparse_transformer", "longformer"])
def test_autocast(side, slot):
    cross = slot if slot in attention.CROSS else "deformable"
    model = build(encoder_self=slot, decoder_self=slot, decoder_cross=cross).eval()
    image = torch.randn(2, 3, side, side)
    with torch.no_grad():
        expected = model(image).logits
        with torch.autocast("cpu", torch.bfloat16):
            found = model(image).logits.float()
    assert (found - expected).abs().mean() < 0.02 * expected.std()
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.train()(image).logits.square().mean()
    loss.backward()
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(gradients) > 30
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_every_tensor_is_made_where_the_image_is():
    with torch.device("meta"):
        model = build()
    for train in (True, False):
        output = model.train(train)(torch.zeros(2, 3, 33, 50, device="meta"))
        assert all(tensor.device.type == "meta" for tensor in output if tensor is not None)


def test_another_default_type():
    torch.set_default_dtype(torch.float64)
    try:
        model = build()
        for train in (True, False):
            output = model.train(train)(torch.randn(2, 3, 33, 50))
            assert all(tensor.dtype == torch.float64 for tensor in output if tensor is not None)
    finally:
        torch.set_default_dtype(torch.float32)


def test_double_precision():
    model = build().double().eval()
    with torch.no_grad():
        assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).logits.dtype == torch.float64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "heads=3 does not divide width=16"),
        ({"width": 18}, "width=18: a multiple of 4"),
        ({"levels": 4}, "levels=4, but tiny_conv has 3 levels"),
        ({"levels": 0}, "levels=0: at least 1"),
        ({"points": 0}, "points=0: at least 1"),
        ({"classes": -1}, "classes=-1: at least 1"),
        ({"decoder_layers": 0}, "decoder_layers=0: at least 1"),
        ({"encoder_layers": -1}, "encoder_layers=-1: at least 0"),
        ({"dropout": 1.0}, "dropout=1.0: from 0 to below 1"),
        ({"spatial_widths": (0, 4)}, r"spatial_widths=\(0, 4\): at least 1 each"),
        ({"backbone": "tiny_con"}, r"no backbone 'tiny_con' \(nearest: tiny_conv\)"),
        ({"encoder_self": "dens"}, r"encoder_self cannot be 'dens' \(nearest: dense\)"),
        (
            {"queries": "spacial"},
            r"queries cannot be 'spacial' \(nearest: spatial\); it is one of spatial, embed, both",
        ),
        ({"offset_init": "x"}, "offset_init cannot be 'x'; it is one of released, scaled"),
        ({"queries": "spatial", "spatial": False}, "queries=spatial needs the spatial branch"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        build(**changes)
    assert "\n" not in str(caught.value)


def test_no_encoder():
    model = build(encoder_layers=0)
    assert shapes(model(torch.randn(2, 3, 32, 32)))[0] == (2, 4, 4, 4)


def test_public_names():
    for name in unept.__all__:
        assert getattr(unept, name) is not None
    assert unept.UNEPT is UNEPT
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        unept.unknown  # noqa: B018


def test_configuration_needs_no_torch():
    import subprocess
    import sys

    code = "import sys, unept, unept.config; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
