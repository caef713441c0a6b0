"""The published networks' mechanisms against their definitions, written out place by place."""

from __future__ import annotations

import itertools

import pytest
import torch

from unept.published.anl import Asymmetric
from unept.published.ccnet import CrissCross
from unept.published.dnlnet import TEMPERATURE, Disentangled
from unept.published.encnet import Encoding
from unept.published.ocrnet import OCRHead
from unept.published.pointrend import PointHead, sample, uncertain_places
from unept.published.psanet import spread


@pytest.mark.parametrize(("side", "shape"), [(5, (3, 4)), (4, (3, 4)), (3, (4, 3)), (9, (2, 5)), (1, (2, 2))])
def test_the_mask_of_psanet_lies_around_each_place(side: int, shape: tuple[int, int]) -> None:
    h, w = shape
    mask = torch.randn(2, side**2, h, w)
    laid = spread(mask, side)
    half = (side - 1) // 2
    for (y, x), (other_y, other_x) in itertools.product(itertools.product(range(h), range(w)), repeat=2):
        row, column = other_y - y + half, other_x - x + half
        reached = 0 <= row < side and 0 <= column < side
        expected = mask[:, row * side + column, y, x] if reached else torch.zeros(2)
        torch.testing.assert_close(laid[:, other_y * w + other_x, y * w + x], expected, rtol=0, atol=0)


def test_criss_cross_attends_to_its_row_and_column_once_each() -> None:
    torch.manual_seed(0)
    module = CrissCross(16).double()
    with torch.no_grad():
        module.gamma.fill_(0.7)
    x = torch.randn(1, 16, 3, 4, dtype=torch.double)
    query, key, value = module.query(x)[0], module.key(x)[0], module.value(x)[0]
    expected = torch.empty_like(x[0])
    for i, j in itertools.product(range(3), range(4)):
        places = [(i, column) for column in range(4)] + [(row, j) for row in range(3) if row != i]
        scores = torch.stack([query[:, i, j] @ key[:, a, b] for a, b in places])
        values = torch.stack([value[:, a, b] for a, b in places])
        expected[:, i, j] = 0.7 * scores.softmax(0) @ values + x[0, :, i, j]
    torch.testing.assert_close(module(x)[0], expected)


def test_criss_cross_starts_as_the_identity() -> None:
    x = torch.randn(1, 8, 2, 3)
    torch.testing.assert_close(CrissCross(8)(x), x, rtol=0, atol=0)


def test_disentangled_attention_by_definition() -> None:
    torch.manual_seed(0)
    module = Disentangled(8).double().eval()
    x = torch.randn(1, 8, 2, 3, dtype=torch.double)
    query, key, value, mask = (part(x)[0].flatten(1) for part in (module.query, module.key, module.value, module.mask))
    query, key = (part - part.mean(1, keepdim=True) for part in (query, key))
    unary = mask[0].softmax(0) @ value.T
    rows = []
    for place in range(6):
        scores = torch.stack([query[:, place] @ key[:, other] for other in range(6)]) / (4**0.5 * TEMPERATURE)
        rows.append(scores.softmax(0) @ value.T + unary)
    mixed = torch.stack(rows, dim=1).view(1, 4, 2, 3)
    torch.testing.assert_close(module(x), x + module.out(mixed))


def test_encoding_is_the_weighted_sum_of_residuals() -> None:
    torch.manual_seed(0)
    module = Encoding(6, 3).double()
    x = torch.randn(2, 6, 2, 4, dtype=torch.double)
    places = x.flatten(2).transpose(1, 2)
    residuals = places[:, :, None] - module.codewords
    shares = (module.scale * residuals.square().sum(-1)).softmax(-1)
    torch.testing.assert_close(module(x), (shares[..., None] * residuals).sum(1))


def test_asymmetric_attention_has_110_tokens() -> None:
    module = Asymmetric(4, 6, 8, 5)
    tokens = module._pooled(module.key(torch.randn(1, 4, 16, 16)))
    assert tokens.shape == (1, 8, 110)
    assert module(torch.randn(1, 6, 9, 7), torch.randn(1, 4, 16, 16)).shape == (1, 5, 9, 7)
    assert Asymmetric(4, 4, 8, 5, shared=True).query is not None


def test_asymmetric_attention_by_definition() -> None:
    torch.manual_seed(0)
    module = Asymmetric(4, 6, 8, 5).double().eval()
    queries, keys = torch.randn(1, 6, 2, 3, dtype=torch.double), torch.randn(1, 4, 16, 24, dtype=torch.double)
    tokens = []
    for side in (1, 3, 6, 8):
        for i, j in itertools.product(range(side), repeat=2):  # bins from the floor to the ceiling
            rows = slice(16 * i // side, -(-16 * (i + 1) // side))
            columns = slice(24 * j // side, -(-24 * (j + 1) // side))
            tokens.append([part(keys)[0, :, rows, columns].mean((1, 2)) for part in (module.key, module.value)])
    key, value = (torch.stack(parts, dim=1) for parts in zip(*tokens, strict=True))
    query = module.query(queries)[0].flatten(1)
    mixed = torch.stack([value @ ((query[:, place] @ key) / 8**0.5).softmax(0) for place in range(6)], dim=1)
    torch.testing.assert_close(module(queries, keys), module.out(mixed.view(1, 8, 2, 3)))


def test_class_vectors_of_ocrnet_are_means_by_predicted_share() -> None:
    head = OCRHead((6,), 8, 3, 0.0).eval()
    given = {}
    head.attention.register_forward_pre_hook(lambda _, args: given.update(x=args[0], vectors=args[1]))
    x = torch.randn(1, 6, 4, 4)
    with torch.no_grad():
        head([x])
        share = head.guess(x)[0].flatten(1).softmax(1)
    expected = torch.stack([(share[k] * given["x"][0].flatten(1)).sum(1) for k in range(3)], dim=1)
    torch.testing.assert_close(given["vectors"][0], expected)


def test_uncertain_places_come_first_and_at_their_centres(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unept.published.pointrend.TEST_POINTS", 2)
    logits = torch.zeros(1, 3, 2, 4)
    logits[0, 0] = torch.tensor([[9.0, 1.0, 9.0, 9.0], [9.0, 9.0, 9.0, 2.0]])
    index, places = uncertain_places(logits)
    assert index.tolist() == [[1, 7]]
    torch.testing.assert_close(places, torch.tensor([[[1.5 / 4, 0.5 / 2], [3.5 / 4, 1.5 / 2]]]))


def test_a_point_at_a_centre_reads_that_place() -> None:
    x = torch.randn(2, 3, 4, 5)
    places = torch.tensor([[[2.5 / 5, 1.5 / 4]], [[4.5 / 5, 3.5 / 4]]])
    torch.testing.assert_close(sample(x, places)[:, :, 0], torch.stack((x[0, :, 1, 2], x[1, :, 3, 4])))


def test_refined_places_take_the_points_logits_and_others_keep_the_coarse_ones(monkeypatch) -> None:
    monkeypatch.setattr("unept.published.pointrend.TEST_POINTS", 3)
    monkeypatch.setattr("unept.published.pointrend.SUBDIVISIONS", 1)
    backbone = type("Maps", (), {"channels": (4, 4), "strides": (8, 8)})()
    head = PointHead(backbone, 16, 3, 0.0).eval()
    maps = [torch.randn(1, 4, 4, 4) for _ in range(2)]
    with torch.no_grad():
        coarse = head.coarse(head.pyramid(maps))
        enlarged = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        index, _ = uncertain_places(enlarged)
        changed = (head(maps).logits != enlarged).any(1).flatten(1)
    assert set(changed[0].nonzero().flatten().tolist()) == set(index[0].tolist())
