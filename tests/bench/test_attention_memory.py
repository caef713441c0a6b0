"""How the memory of one attention layer grows with its tokens, on fake tensors: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.measures.attention_memory import SIDES, exponent, growth, layer_peak
from unept import attention

WIDTH = 256
SETTINGS = {
    "width": WIDTH,
    "heads": 8,
    "levels": 1,
    "points": 16,
    "offset_init": "released",
    "dropout": 0.0,
    "layer": 0,
}


def maker(name: str, **options: Any) -> Callable[[], nn.Module]:
    dropout = options.pop("dropout", 0.0)
    return lambda: attention.make("encoder_self", name, SETTINGS | {"dropout": dropout}, options)


@pytest.fixture(autouse=True)
def reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sampling in plain PyTorch: the compiled kernel keeps less."""
    monkeypatch.setenv("UNEPT_BACKEND", "reference")


@pytest.mark.parametrize(
    ("name", "options", "least", "most"),
    [
        ("deformable", {}, 0.9, 1.10),
        ("longformer", {"window": 128}, 0.9, 1.10),
        ("longformer", {"order": "window2d", "window": 7}, 0.9, 1.10),
        ("longformer", {"order": "window2d", "window": 7, "dropout": 0.1}, 0.6, 1.10),  # few weights are kept, many not
        ("sparse_transformer", {"dropout": 0.1}, 1.05, 1.60),
        ("sparse_transformer", {"mode": "fixed", "dropout": 0.1}, 0.6, 1.60),
        ("reformer", {"dropout": 0.1}, 0.6, 1.20),
        ("dense_math", {}, 1.9, 2.0),
        ("dense_fused", {}, 0.9, 2.0),
        ("none", {}, 0.9, 1.0001),
    ],
    ids=str,
)
def test_growth(name: str, options: dict[str, Any], least: float, most: float) -> None:
    assert SIDES == (30, 60, 90, 120)
    assert least <= growth(maker(name, **options), WIDTH) <= most


def test_a_full_mask_shows() -> None:
    """A window that is dense with a mask would not pass for a sparse one."""

    class Masked(nn.Module):
        def forward(self, tokens: Tensor, *_: Any) -> Tensor:
            place = torch.arange(tokens.shape[1])
            seen = (place[:, None] - place).abs() < 64
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=seen)

    assert growth(Masked, 8) > 1.7


def test_bytes_by_hand() -> None:
    """exp keeps its result; then come the gradient that is given and the one that is asked for."""

    class Exponential(nn.Module):
        def forward(self, tokens: Tensor, *_: Any) -> Tensor:
            return tokens.exp()

    found = layer_peak(Exponential, ((10, 10),), 16, batch=2)
    size = 2 * 100 * 16 * 4
    assert found.saved == size
    assert found.peak == 3 * size


def test_a_view_and_a_temporary() -> None:
    class Views(nn.Module):
        def forward(self, tokens: Tensor, *_: Any) -> Tensor:
            (tokens + 1).sum()
            return tokens.transpose(1, 2).transpose(1, 2)[:, :50]

    found = layer_peak(Views, ((10, 10),), 16)
    assert found.saved == 0
    assert 100 * 16 * 4 < found.peak < 300 * 16 * 4


def test_exponent() -> None:
    assert exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)
    assert exponent([2, 4, 8], [5, 5, 5]) == pytest.approx(0)
