"""State dicts of the released code: parity of a whole model, every layout, and dicts that are none."""

from dataclasses import replace

import pytest
import torch
from locations import GOLDEN
from safetensors.torch import load_file

import unept
from unept.backbones import ResNet, VisionTransformer
from unept.model import UNEPT

GOLDEN_FILE = GOLDEN / "deit.safetensors"
STAGES = (
    "backbone.0", "backbone.1", "backbone.2", "spatial", "enc0_attn_out", "enc_layer0", "memory",
    "dec0_selfattn_out", "dec0_crossattn_out", "decoder_out",
)  # fmt: skip


@pytest.fixture(scope="module")
def golden():
    return load_file(GOLDEN_FILE)


@pytest.fixture(scope="module")
def state(golden):
    return {name.removeprefix("state."): tensor for name, tensor in golden.items() if name.startswith("state.")}


@pytest.fixture(scope="module")
def model(state):
    return unept.load_released(state, heads=4)


def close(ours, golden):
    torch.testing.assert_close(ours, golden, rtol=0, atol=1e-5)


def test_outputs(model, golden):
    with torch.no_grad():
        output = model(golden["x"])
        alone = torch.cat([model(image[None]).logits for image in golden["x"]])
    close(output.logits, golden["out.logits"])
    close(output.boundary, golden["out.boundary"])
    close(output.direction, golden["out.direction"])
    assert output.refined is None
    close(alone[..., ::4, ::4], golden["out.logits_alone_every_4"])
    assert (alone - output.logits).abs().max() > 0.1  # the released self-attention mixes the images of a batch


def test_stages(model, golden):
    found = {}

    def keep(name, cut):
        return lambda _, __, out: found.__setitem__(name, cut(out))

    context = model.context_branch
    tokens = {
        "enc0_attn_out": context.encoder.layers[0].self_attn,
        "enc_layer0": context.encoder.layers[0],
        "memory": context.encoder.layers[1],
        "dec0_selfattn_out": context.decoder.layers[0].self_attn,
        "dec0_crossattn_out": context.decoder.layers[0].cross_attn,
        "decoder_out": context,
    }
    hooks = [module.register_forward_hook(keep(name, lambda out: out[:, ::29])) for name, module in tokens.items()]
    hooks.append(model.spatial_branch.register_forward_hook(keep("spatial", lambda out: out[..., ::11, ::11])))
    hooks.append(model.backbone.register_forward_hook(keep("backbone", lambda out: [m[..., ::5, ::5] for m in out])))
    with torch.no_grad():
        model(golden["x"])
    for hook in hooks:
        hook.remove()
    found |= {f"backbone.{level}": found["backbone"][level] for level in range(3)}
    for stage in STAGES:
        expected = golden[f"stage.{stage}"]  # up to 15, and single precision: 1e-5 of the largest
        torch.testing.assert_close(found[stage], expected, rtol=0, atol=1e-5 * expected.abs().max().clamp(min=1).item())


@pytest.mark.parametrize("field", ["spatial_relu_last", "decoder_self"])
def test_the_paper_profile_is_another_model(model, state, golden, field):
    changed = replace(model.config, **{field: {"spatial_relu_last": True, "decoder_self": "pointwise"}[field]})
    other = UNEPT(changed, model.backbone).eval()
    other.load_state_dict(state)
    with torch.no_grad():
        assert (other(golden["x"]).logits - golden["out.logits"]).abs().max() > 1e-2


def test_heads_matter(state, golden):
    with torch.no_grad():
        assert (unept.load_released(state, heads=2)(golden["x"]).logits - golden["out.logits"]).abs().max() > 1e-2
        other = unept.load_released(state, heads=4, backbone_heads=4)
        assert (other(golden["x"]).logits - golden["out.logits"]).abs().max() > 1e-2


def test_what_is_read_from_the_shapes(model):
    config = model.config
    assert not model.training
    assert (config.backbone, config.size, config.classes, config.levels, config.points) == ("deit_base", 96, 7, 3, 4)
    assert (config.width, config.ffn, config.encoder_layers, config.decoder_layers) == (64, 128, 2, 2)
    assert (config.spatial_widths, config.head_width) == ((64, 128), 64)
    assert (config.decoder_self, config.refine_test, config.edge_threshold) == ("batch", False, "logit")
    assert model.backbone.blocks[0].attn.num_heads == 3


def narrow_resnet(**changes):
    released, _ = unept.released_profile()
    settings = {
        "classes": 5, "size": 48, "levels": 2, "points": 3, "heads": 2, "width": 16, "ffn": 24, "encoder_layers": 1,
        "decoder_layers": 3, "spatial_widths": (6, 10), "head_width": 12,
    } | changes  # fmt: skip
    backbone = ResNet(depths=(1, 2, 1, 3), widths=(4, 6, 8, 10), stem_width=5)
    return UNEPT(replace(released, **settings), backbone).eval()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_narrow_resnet_comes_back(levels):
    source = narrow_resnet(levels=levels)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.2)
    loaded = unept.load_released(source.state_dict(), heads=2)
    assert loaded.config == source.config
    image = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        for ours, theirs in zip(loaded(image), source(image), strict=True):
            assert (ours is None and theirs is None) or torch.equal(ours, theirs)


def narrow_deit(width, heads, hidden):
    released, _ = unept.released_profile()
    config = replace(released, backbone="deit_base", classes=3, size=32, width=8, heads=2, ffn=8)
    ratio = (hidden + 0.5) / width
    return UNEPT(
        config, VisionTransformer(size=32, patch=16, width=width, depth=3, heads=heads, prefix=2, mlp_ratio=ratio)
    )


@pytest.mark.parametrize(("width", "heads"), [(128, 2), (64, 1), (96, 3), (48, 3)])
def test_backbone_heads_default_to_width_by_64_where_whole_else_3(width, heads):
    loaded = unept.load_released(narrow_deit(width, heads, width).state_dict(), heads=2)
    assert [block.attn.num_heads for block in loaded.backbone.blocks] == [heads] * 3
    assert loaded.backbone.position_resize == "bicubic"


def test_any_hidden_width_of_a_transformer():
    """61 / 56 * 56 is less than 61 in floating point."""
    assert int(56 * (61 / 56)) == 60
    loaded = unept.load_released(narrow_deit(56, 4, 61).state_dict(), heads=2, backbone_heads=4)
    assert loaded.backbone.blocks[0].mlp.fc1.out_features == 61


@pytest.mark.parametrize("kind", ["resnet", "deit"])
def test_every_tensor_of_another_shape_is_a_clear_error(kind):
    state = (narrow_resnet() if kind == "resnet" else narrow_deit(24, 3, 30)).state_dict()
    read_from = [name for name in state if name.endswith((".0.conv1.weight", "stem.0.weight"))]
    read_from += [
        "cls.weight", "query_embed.weight", "context_branch.level_embed", "backbone.patch_embed.proj.weight",
        "backbone.pos_embed", "backbone.blocks.0.mlp.fc1.weight", "backbone.blocks.2.norm1.bias", "mask_head.0.weight",
        "spatial_branch.convblock1.conv1.weight", "spatial_branch.convblock2.conv1.weight",
        "context_branch.decoder.layers.0.cross_attn.sampling_offsets.bias", "dir_head.1.num_batches_tracked",
        "context_branch.decoder.layers.0.linear1.weight", "context_branch.encoder.layers.0.norm2.weight",
    ]  # fmt: skip
    for name in sorted({*read_from} & {*state}):
        tensor = state[name]
        others = [tensor[None], torch.zeros(0), torch.zeros(1, 1, 1, 1, 1)]
        if tensor.dim():
            others += [torch.zeros(()), tensor.flatten()[:-1], tensor[:0], torch.cat((tensor, tensor[:1]))]
        for other in others:
            if other.shape == tensor.shape:
                continue
            with pytest.raises(ValueError, match=r".") as caught:
                unept.load_released(state | {name: other}, heads=2)
            named = (*state, "backbone heads=3 does not divide", "levels=4, but deit_base has 3")
            assert any(words in str(caught.value) for words in named), str(caught.value)


def test_dicts_that_are_none(state):
    def without(name):
        return {key: tensor for key, tensor in state.items() if key != name}

    cases = [
        ({}, "the state dict has no cls.weight"),
        ({"state_dict": state, "meta": {}, "optimizer": {}}, "this is a whole checkpoint: load its 'state_dict'"),
        ({f"module.{key}": tensor for key, tensor in state.items()}, "the state dict has no cls.weight"),
        (without("backbone.cls_token"), "has no backbone.cls_token"),
        (state | {"backbone.pos_embed": torch.zeros(1, 37, 48)}, "backbone.pos_embed has 37 tokens"),
        (without("dir_head.3.weight"), "the state dict has no dir_head.3.weight"),
        (without("backbone.patch_embed.proj.weight"), "has no backbone.patch_embed.proj.weight"),
        (state | {"auxiliary.weight": torch.zeros(1)}, "auxiliary.weight is no tensor of a released model"),
        (state | {"query_embed.weight": torch.zeros(143, 64)}, "query_embed.weight has 143 rows, no square grid"),
        (state | {"mask_head.3.weight": torch.zeros(1, 64, 1, 1)}, r"mask_head.3.weight is \(1, 64, 1, 1\), where"),
    ]
    for tensors, message in cases:
        with pytest.raises(ValueError, match=message):
            unept.load_released(tensors, heads=4)
    with pytest.raises(ValueError, match="heads=5 does not divide"):
        unept.load_released(state, heads=5)
    with pytest.raises(ValueError, match="heads=7 does not divide the backbone's width of 48"):
        unept.load_released(state, heads=4, backbone_heads=7)
