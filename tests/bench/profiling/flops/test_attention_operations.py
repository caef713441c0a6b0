"""Products of every drop-in by the counter, against formulas by hand: what is computed, masked or padding too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.profiling.flops import counter
from unept import attention

C, H, D = 24, 3, 8  # width, heads, width of a head
SETTINGS = {"width": C, "heads": H, "levels": 1, "points": 4, "offset_init": "released", "dropout": 0.1, "layer": 0}
PRODUCTS = 2 * D  # queries with keys, weights with values: for each pair of a head


class Alone(nn.Module):
    """One attention as a model of an image, whose size is all that it takes from it."""

    def __init__(self, layer: nn.Module, shapes: tuple[tuple[int, int], ...]) -> None:
        super().__init__()
        self.layer, self.shapes = layer, shapes

    def forward(self, image: Tensor) -> Tensor:
        tokens = image.new_zeros(1, sum(height * width for height, width in self.shapes), C)
        return self.layer(tokens, tokens, self.shapes)


def macs(name: str, shapes: tuple[tuple[int, int], ...], **options: Any) -> float:
    with torch.device("meta"):
        layer = attention.make_attention("encoder_self", name, SETTINGS, options)
    return counter.count_model(Alone(layer, shapes), (8, 8)).matrix_gmacs * 1e9


def projections(tokens: int) -> int:
    return 4 * tokens * C * C


@pytest.mark.parametrize("name", ["dense", "dense_math", "dense_fused"])
def test_dense(name: str) -> None:
    assert macs(name, ((6, 5), (2, 2))) == pytest.approx(projections(34) + H * 34 * 34 * PRODUCTS)


def test_none_costs_nothing() -> None:
    assert macs("none", ((6, 5),)) == 0


@pytest.mark.parametrize(
    ("options", "near", "far"),
    [
        ({}, 30 * 5, 30 * 6),
        ({"stride": 4}, 8 * 4 * 4, 4 * 8 * 8),  # 30 tokens are padded to 8 rows of 4
        ({"mode": "fixed", "block": 8, "summary": 3}, 4 * 8 * 8, 30 * (3 * 3 + 3)),
    ],
    ids=str,
)
def test_sparse_transformer(options: dict[str, Any], near: int, far: int) -> None:
    """Two heads of three see the near set."""
    expected = projections(30) + (2 * near + 1 * far) * PRODUCTS
    assert macs("sparse_transformer", ((6, 5),), **options) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("shape", "options", "pairs"),
    [
        ((8, 10), {"window": 6}, 3 * 32 * (32 + 6)),  # three tiles of 32 queries, with 3 keys more on each side
        ((20, 20), {"window": 3, "order": "window2d"}, 9 * 64 * 100),  # 3 x 3 tiles of 8 x 8, rectangles of 10 x 10
        ((8, 10), {"window": 512}, 80 * 80),
        ((8, 10), {"window": 6, "dilation": (2,)}, 2 * 2 * 32 * 38),  # two sequences of 40, each in two tiles
    ],
    ids=str,
)
def test_longformer(shape: tuple[int, int], options: dict[str, Any], pairs: int) -> None:
    tokens = shape[0] * shape[1]
    expected = projections(tokens) + H * pairs * PRODUCTS
    assert macs("longformer", (shape,), **options) == pytest.approx(expected)


def test_global_tokens() -> None:
    plain = projections(80) + H * 3 * 32 * 38 * PRODUCTS
    seen_by_all = H * 3 * 32 * 2 * PRODUCTS
    own = (2 * 80 + 2) * C * C + H * 2 * 80 * PRODUCTS
    assert macs("longformer", ((8, 10),), window=6, global_tokens=2) == pytest.approx(plain + seen_by_all + own)


@pytest.mark.parametrize(
    ("tokens", "options", "hashing", "pairs"),
    [
        (80, {"chunk": 8, "hashes": 2}, 2 * 80 * 10, 2 * 80 * 16),  # 20 buckets: 10 directions
        (30, {"chunk": 8, "hashes": 3, "after": 1}, 3 * 30 * 3, 3 * 32 * 24),  # 6 buckets; padded to 4 chunks
        (30, {"chunk": 64}, 4 * 30 * 1, 4 * 64 * 64),  # one chunk, which has no neighbour
    ],
    ids=str,
)
def test_reformer(tokens: int, options: dict[str, Any], hashing: int, pairs: int) -> None:
    expected = 3 * tokens * C * C + H * D * hashing + H * pairs * PRODUCTS
    assert macs("reformer", ((1, tokens),), **options) == pytest.approx(expected)


def test_deformable() -> None:
    """Offsets, weights, values and output; the sampling is counted by its own formula."""
    assert macs("deformable", ((6, 5),)) == pytest.approx(30 * C * (2 * C + H * 4 * 3))
