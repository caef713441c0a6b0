"""Every published network: the published number of parameters, any size of image, and training."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import unept
from unept import published

PUBLISHED = {  # 150 classes, auxiliary heads included
    ("psanet", "resnet101"): 73_057_420,
    ("upernet", "resnet101"): 85_508_236,
    ("encnet", "resnet101"): 55_052_162,
    ("ccnet", "resnet101"): 68_919_053,
    ("ccnet", "resnet50"): 49_926_925,
    ("pointrend", "resnet101"): 47_880_560,
    ("dnlnet", "resnet101"): 69_117_325,
    ("ocrnet", "hrnet_w48"): 70_533_100,
    ("anl", "resnet101"): 65_321_612,
    ("anl", "resnet50"): 46_329_484,
}
SETR = {"setr_naive": 305.56, "setr_pup": 317.29, "setr_mla": 309.57}  # millions
TINY = unept.ModelConfig(architecture="ccnet", backbone="tiny_conv", classes=5, size=64, width=16, dropout=0.0)


def tiny(architecture: str, **changes: object) -> nn.Module:
    torch.manual_seed(0)
    backbone = "tiny_vit" if architecture.startswith("setr") else "tiny_conv"
    return unept.build(replace(TINY, architecture=architecture, backbone=backbone, **changes))


def full(architecture: str, backbone: str) -> nn.Module:
    with torch.device("meta"):
        return unept.build(unept.ModelConfig(architecture=architecture, backbone=backbone, width=512))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("architecture", "backbone"), PUBLISHED)
def test_parameters_are_the_published_ones(architecture: str, backbone: str) -> None:
    assert parameters(full(architecture, backbone)) == PUBLISHED[architecture, backbone]


@pytest.mark.parametrize("architecture", SETR)
def test_parameters_of_setr(architecture: str) -> None:
    assert parameters(full(architecture, "vit_large")) / 1e6 == pytest.approx(SETR[architecture], abs=0.005)


def test_every_published_network_has_a_published_number() -> None:
    assert {name for name, _ in PUBLISHED} | set(SETR) == set(published.PUBLISHED)


def test_a_resnet_below_a_pyramid_goes_down_to_a_32nd() -> None:
    assert full("upernet", "resnet101").backbone.strides == (4, 8, 16, 32)
    assert full("ccnet", "resnet101").backbone.strides == (4, 8, 8, 8)


@pytest.mark.parametrize("architecture", published.PUBLISHED)
@pytest.mark.parametrize("size", [(37, 75), (64, 33)])
def test_any_size_of_image(architecture: str, size: tuple[int, int]) -> None:
    model = tiny(architecture).eval()
    with torch.no_grad():
        output = model(torch.randn(2, 3, *size))
    assert output.logits.shape == (2, 5, *size)
    assert output.logits.isfinite().all()
    assert output.auxiliary == ()
    assert output.refined is None


@pytest.mark.parametrize("architecture", published.PUBLISHED)
def test_a_training_step_reaches_every_parameter_and_lowers_the_loss(architecture: str) -> None:
    model = tiny(architecture).train()
    label = torch.randint(0, 5, (2, 64, 48))
    label[:, :9] = 255
    image = torch.randn(2, 3, 64, 48)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(4):
        torch.manual_seed(1)  # the points that are drawn
        loss = published.total_loss(model(image), label, unept.LossConfig())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == []
    assert math.isfinite(losses[0])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize(
    ("architecture", "weights"),
    [("ccnet", [0.4]), ("pointrend", [1.0]), ("encnet", [0.2, 0.4]), ("ocrnet", [0.4]), ("setr_mla", [0.4] * 3)],
)
def test_auxiliary_terms_in_training(architecture: str, weights: list[float]) -> None:
    output = tiny(architecture).train()(torch.randn(2, 3, 32, 32))
    assert [term.weight for term in output.auxiliary] == weights


@pytest.mark.parametrize("architecture", ["ccnet", "psanet", pytest.param("ocrnet", marks=pytest.mark.slow)])
def test_the_full_networks_take_other_sizes(architecture: str) -> None:
    model = full(architecture, "hrnet_w48" if architecture == "ocrnet" else "resnet50").eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 75, 130, device="meta")).logits.shape == (1, 150, 75, 130)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architecture": "ccnets"},
            r"architecture cannot be 'ccnets' \(nearest: ccnet\); it is one of unept, psanet,",
        ),
        ({"backbone": "resnet10"}, r"no backbone 'resnet10' \(nearest: resnet101\)"),
        ({"width": 12}, "width=12: a multiple of 8"),
        ({"classes": 0}, "classes=0: at least 1"),
        ({"architecture": "pointrend", "classes": 1}, "classes=1: pointrend compares"),
        ({"dropout": 1.0}, "dropout=1.0: from 0 to below 1"),
    ],
)
def test_mistakes_are_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unept.build(replace(TINY, **changes))


def test_weights_of_the_backbone_are_read(tmp_path) -> None:
    torch.manual_seed(3)
    donor = unept.build(TINY)
    torch.save(donor.backbone.state_dict(), tmp_path / "weights.pt")
    torch.manual_seed(4)
    model = unept.build(TINY, weights=str(tmp_path / "weights.pt"))
    torch.testing.assert_close(model.backbone.state_dict(), donor.backbone.state_dict())
    with pytest.raises(ValueError, match="no file of backbone weights"):
        unept.build(TINY, weights=str(tmp_path / "absent.pt"))
