"""The rivals' loss against torch's own on one image at a time."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from unept.config import LossConfig
from unept.peers import Auxiliary, Output, total_loss


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
