"""Refinement: equal to sampling a shifted grid, right at the border, and able to mend a wrong boundary."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from unept.boundary import OFFSETS, distance_angle, targets
from unept.config import LossConfig
from unept.layers.boundary_refinement import edge_mask, refine, source_pixels


def random_heads(channels: int, size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    edge = torch.randn(2, channels, *size, generator=generator, dtype=torch.float64)
    return edge, torch.randn(2, 8, *size, generator=generator, dtype=torch.float64)


def by_grid_sample(logits: Tensor, edge: Tensor, direction: Tensor) -> Tensor:
    """The released way: a grid moved by one pixel at edges, bilinear sampling, border padding, corners aligned."""
    height, width = logits.shape[2:]
    moved = torch.zeros(*edge.shape, 2, dtype=logits.dtype)
    for index, (dy, dx) in enumerate(OFFSETS):
        moved[edge & (direction.argmax(1) == index)] = torch.tensor([dx, dy], dtype=logits.dtype)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pixel = torch.stack([x, y], -1) + moved
    grid = 2 * pixel / (torch.tensor([width, height]) - 1) - 1
    return F.grid_sample(logits, grid, mode="bilinear", padding_mode="border", align_corners=True)


@pytest.mark.parametrize(("channels", "threshold"), [*itertools.product((1, 2), ("probability", "logit"))])
def test_refine_equals_sampling_a_shifted_grid(channels: int, threshold: str) -> None:
    boundary, direction = random_heads(channels, (3, 4))
    logits = torch.randn(2, 5, 24, 32, dtype=torch.float64)
    big_boundary, big_direction = (
        F.interpolate(each, size=(24, 32), mode="bilinear", align_corners=True) for each in (boundary, direction)
    )
    edge = edge_mask(big_boundary, threshold)
    assert 0.05 < edge.double().mean() < 0.95
    expected = by_grid_sample(logits, edge, big_direction)
    refined = refine(logits, boundary, direction, threshold)
    torch.testing.assert_close(refined, expected, atol=1e-12, rtol=0)
    assert (refined != logits).any()
    torch.testing.assert_close(refined[~edge.unsqueeze(1).expand_as(logits)], logits[~edge[:, None].expand_as(logits)])


def test_edge_masks() -> None:
    for channels in (1, 2):
        boundary, _ = random_heads(channels, (30, 30))
        probability = boundary[:, 0].sigmoid() if channels == 1 else boundary.softmax(1)[:, 1]
        assert torch.equal(edge_mask(boundary, "probability"), probability > 0.5)
        assert torch.equal(edge_mask(boundary, "logit"), boundary[:, -1] > 0.5)
        assert not torch.equal(edge_mask(boundary, "logit"), edge_mask(boundary, "probability"))
    with pytest.raises(AssertionError):
        edge_mask(torch.zeros(1, 3, 2, 2), "logit")


@pytest.mark.parametrize("index", range(8))
def test_every_direction_and_the_clamp(index: int) -> None:
    height, width = 4, 5
    direction = torch.zeros(1, 8, height, width)
    direction[:, index] = 1
    source = source_pixels(torch.ones(1, height, width, dtype=torch.bool), direction)[0]
    dy, dx = OFFSETS[index]
    for y, x in itertools.product(range(height), range(width)):
        row, column = min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)
        assert source[y, x] == row * width + column
    stay = source_pixels(torch.zeros(1, height, width, dtype=torch.bool), direction)[0]
    assert torch.equal(stay.flatten(), torch.arange(height * width))


def test_gradient_reaches_the_segmentation_only() -> None:
    boundary, direction = (each.requires_grad_() for each in random_heads(2, (2, 2)))
    logits = torch.randn(2, 3, 16, 16, dtype=torch.float64, requires_grad=True)
    refined = refine(logits, boundary, direction, "probability")
    refined.sum().backward()
    assert boundary.grad is None
    assert direction.grad is None
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.sum(), torch.tensor(float(logits.numel()), dtype=torch.float64))


def test_gradcheck() -> None:
    boundary, direction = random_heads(1, (1, 1))
    logits = torch.randn(2, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda each: refine(each, boundary, direction, "probability"), logits)


def test_true_boundaries_mend_a_wrong_label_map() -> None:
    """With the truth as logits, pixels that are wrong beside a boundary take the class of the inside."""
    y, x = np.mgrid[:40, :40] - 19.5
    label = (np.hypot(y, x) < 12).astype(np.uint8)
    edge, direction = targets(*distance_angle(label), label, LossConfig())
    wrong = label.copy()
    wrong[(label == 1) & (distance_angle(label)[0] == 1)] = 0  # the disc, one pixel too small
    logits = F.one_hot(torch.from_numpy(wrong).long(), 2).permute(2, 0, 1)[None].float()
    heads = (
        torch.from_numpy(edge == 1)[None, None].float() * 2 - 1,
        F.one_hot(torch.from_numpy(direction).clamp(max=7), 8).permute(2, 0, 1)[None].float(),
    )
    mended = refine(logits, *heads, "probability").argmax(1)[0].numpy()
    assert (wrong != label).sum() > 50
    assert (mended != label).sum() < 0.1 * (wrong != label).sum()
    outward = (heads[0], heads[1].roll(4, 1))
    assert (refine(logits, *outward, "probability").argmax(1)[0].numpy() != label).sum() > (wrong != label).sum()
