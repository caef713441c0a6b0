"""The published networks' loss against torch's own on one image at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F

from bench.profiling.memory.tracker import MemoryTracker
from unept.config import LossConfig
from unept.losses import banded_cross_entropy
from unept.published import Auxiliary, Output, total_loss


def label(height: int = 32, width: int = 32) -> torch.Tensor:
    torch.manual_seed(0)
    found = torch.randint(0, 4, (2, height, width))
    found[:, :3] = 255
    return found


def test_cross_entropy_at_full_size_and_auxiliary_terms_at_their_weights() -> None:
    target, logits, extra = label(), torch.randn(2, 4, 4, 4), torch.randn(2, 4, 8, 8)
    main, other = (
        F.cross_entropy(F.interpolate(x, size=(32, 32), mode="bilinear"), target, ignore_index=255)
        for x in (logits, extra)
    )
    found = total_loss(Output(logits, (Auxiliary(extra),)), target, LossConfig())
    torch.testing.assert_close(found.ce, main)
    torch.testing.assert_close(found.total, main + 0.4 * other)
    assert (found.refined, found.boundary, found.direction) == (0, 0, 0)


def test_padding_never_counts() -> None:
    """A label of 20 x 40 under logits of the padded 32 x 64."""
    target, logits = label(20, 40), torch.randn(2, 4, 4, 8)
    full = F.interpolate(logits, size=(32, 64), mode="bilinear")[..., :20, :40]
    for average, count in (("valid", (target != 255).sum()), ("all", target.numel())):
        expected = F.cross_entropy(full, target, ignore_index=255, reduction="sum") / count
        torch.testing.assert_close(total_loss(Output(logits), target, LossConfig(ce_average=average)).ce, expected)


def test_points_take_the_label_under_them() -> None:
    target, logits = label(), torch.zeros(2, 4, 4, 4)
    places = torch.tensor([[[0.5 / 32, 10.5 / 32], [0.999, 0.999]], [[0.3, 0.7], [0.5, 0.01]]])
    points = torch.randn(2, 4, 2)
    wanted = torch.stack((target[0, [10, 31], [0, 31]], target[1, [22, 0], [9, 16]]))
    assert (wanted == 255).any()
    expected = F.cross_entropy(points, wanted, ignore_index=255)
    found = total_loss(Output(logits, (Auxiliary(points, 1.0, places),)), target, LossConfig())
    torch.testing.assert_close(found.total - found.ce, expected)


def test_presence_of_classes() -> None:
    target = torch.full((1, 32, 32), 255)
    target[0, 5, 5], target[0, 6, 6] = 2, 0
    logits = torch.randn(1, 4)
    expected = F.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0, 0, 1, 0]]))
    output = Output(torch.zeros(1, 4, 4, 4), (Auxiliary(logits, 0.2),))
    found = total_loss(output, target, LossConfig())
    torch.testing.assert_close(found.total - found.ce, 0.2 * expected)


def test_no_labelled_pixel_is_no_loss_and_a_logit_that_is_not_finite_is_seen() -> None:
    target = torch.full((1, 32, 32), 255)
    logits = torch.zeros(1, 4, 4, 4)
    assert total_loss(Output(logits), target, LossConfig()).total == 0
    logits[0, 0, 0, 0] = torch.inf
    assert not total_loss(Output(logits), target, LossConfig()).total.isfinite()


@pytest.mark.parametrize("weight", [1.0, 0.8])
def test_the_weight_of_the_cross_entropy_scales_all(weight: float) -> None:
    output = Output(torch.randn(2, 4, 4, 4), (Auxiliary(torch.randn(2, 4, 4, 4)),))
    whole = total_loss(output, label(), LossConfig()).total
    torch.testing.assert_close(total_loss(output, label(), LossConfig(weight_ce=weight)).total, weight * whole)


def losses_and_gradients(stride: int, size: tuple[int, int], config: LossConfig) -> list[torch.Tensor]:
    """Of main and auxiliary logits at 1 / stride and at half of that, under a label that is padded."""
    generator = torch.Generator().manual_seed(stride)
    target = torch.randint(0, 5, (2, *size), generator=generator)
    target[:, :3] = 255
    height, width = (-(-side // 32) * 32 for side in size)
    given = [
        torch.randn(2, 5, height // each, width // each, generator=generator).mul(3).requires_grad_()
        for each in (stride, 2 * stride)
    ]
    found = total_loss(Output(given[0], (Auxiliary(given[1]),)), target, config)
    return [found.total.detach(), found.ce.detach(), *torch.autograd.grad(found.total, given)]


def furthest(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    return max(
        ((one - other).abs().max() / other.abs().max()).item() for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize(("stride", "average"), [(1, "all"), (2, "valid"), (4, "all"), (8, "valid"), (16, "all")])
def test_large_maps_are_computed_in_bands_to_the_same_loss(
    stride: int, average: Literal["valid", "all"], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = LossConfig(ce_average=average)
    expected = losses_and_gradients(stride, (40, 72), replace(config, bounded=False))
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", 0)
    for band in (5000, 1 << 20):
        monkeypatch.setattr(banded_cross_entropy, "BAND_CPU", band)
        assert furthest(losses_and_gradients(stride, (40, 72), config), expected) < 1e-5


def test_a_stride_that_is_not_the_maps_own_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = losses_and_gradients(4, (64, 64), LossConfig(bounded=False))
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", 0)
    whole = banded_cross_entropy.bilinear

    def half(source: int, like: torch.Tensor, *, align_corners: bool, stride: int) -> torch.Tensor:
        return whole(source, like, align_corners=align_corners, stride=2 * stride)

    monkeypatch.setattr(banded_cross_entropy, "bilinear", half)
    assert furthest(losses_and_gradients(4, (64, 64), LossConfig()), expected) > 1e-2


def test_small_maps_and_maps_of_no_whole_stride_keep_their_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    small = [losses_and_gradients(8, (64, 41), LossConfig(bounded=bounded)) for bounded in (True, False)]
    assert all(map(torch.equal, *small))
    monkeypatch.setattr(banded_cross_entropy, "WHOLE", 0)
    output = Output(torch.randn(2, 4, 10, 7, generator=torch.Generator().manual_seed(0)))
    odd = [total_loss(output, label(), LossConfig(bounded=bounded)).total for bounded in (True, False)]
    assert torch.equal(*odd)


def test_large_maps_take_less_memory() -> None:
    """150 classes at 256 x 256: enlarged logits and their log-probabilities are 75 MiB, a band is 4."""
    peaks = []
    for bounded in (True, False):
        with FakeTensorMode(), MemoryTracker() as tracker:
            logits = torch.zeros(2, 150, 32, 32, requires_grad=True)
            target = torch.zeros(2, 256, 256, dtype=torch.int64)
            total_loss(Output(logits), target, LossConfig(bounded=bounded)).total.backward()
        peaks.append(tracker.peak().bytes)
    assert peaks[0] < 0.35 * peaks[1]
