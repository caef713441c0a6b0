"""How the memory of one attention layer grows with its tokens, on fake tensors: nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.profiling.memory.layer_peak import MAP_SIDES, layer_peak, memory_exponent, power_law_exponent
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
    return lambda: attention.make_attention("encoder_self", name, SETTINGS | {"dropout": dropout}, options)


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
        ("longformer", {"window": 128, "dropout": 0.1}, 0.6, 1.10),
        ("longformer", {"window": 128, "dilation": (2,)}, 0.6, 1.10),
        ("longformer", {"window": 128, "global_tokens": 4}, 0.6, 1.10),
        ("longformer", {"window": 128, "joint": True}, 0.6, 1.10),
        ("sparse_transformer", {"dropout": 0.1}, 1.05, 1.60),
        ("sparse_transformer", {"joint": True, "dropout": 0.1}, 0.6, 1.60),
        ("sparse_transformer", {"mode": "fixed", "dropout": 0.1}, 0.6, 1.60),
        ("reformer", {"dropout": 0.1}, 0.6, 1.20),
        ("reformer", {"strict": True}, 0.6, 1.20),
        ("dense_math", {}, 1.9, 2.0),
        ("dense_fused", {}, 0.9, 2.0),
        ("none", {}, 0.9, 1.0001),
    ],
    ids=str,
)
def test_growth(name: str, options: dict[str, Any], least: float, most: float) -> None:
    assert MAP_SIDES == (30, 60, 90, 120)
    assert least <= memory_exponent(maker(name, **options), WIDTH) <= most


class Largest(TorchDispatchMode):
    """The most numbers that any tensor of an operator's result has."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        owned = [
            leaf.untyped_storage().nbytes() // leaf.element_size()
            for leaf in tree_leaves(found)
            if isinstance(leaf, Tensor)
        ]
        self.most = max(self.most, *owned, 0)
        return found


def largest(name: str, options: dict[str, Any], side: int) -> int:
    layer = attention.make_attention("encoder_self", name, SETTINGS | {"width": 16, "heads": 2}, options)
    tokens = torch.randn(1, side**2, 16, requires_grad=True)
    with Largest() as seen:
        layer(tokens, torch.zeros_like(tokens), ((side, side),)).sum().backward()
    return seen.most


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deformable", {}),
        ("longformer", {"window": 128}),
        ("longformer", {"window": 128, "dilation": (2,), "global_tokens": 2}),
        ("longformer", {"order": "window2d", "window": 7}),
        ("sparse_transformer", {}),
        ("sparse_transformer", {"mode": "fixed"}),
        ("reformer", {}),
        ("reformer", {"strict": True}),
    ],
    ids=str,
)
def test_nothing_as_large_as_the_attention_that_it_saves_is_ever_made(name: str, options: dict[str, Any]) -> None:
    side = 48
    assert largest(name, options, side) < 0.5 * side**4  # half of one head's matrix; there are two heads
    assert largest("dense_math", {}, side) >= 2 * side**4


def test_a_full_mask_shows() -> None:
    """A window that is dense with a mask would not pass for a sparse one."""

    class Masked(nn.Module):
        def forward(self, tokens: Tensor, *_: Any) -> Tensor:
            place = torch.arange(tokens.shape[1])
            seen = (place[:, None] - place).abs() < 64
            return nn.functional.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=seen)

    assert memory_exponent(Masked, 8) > 1.7


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
    assert power_law_exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2)
    assert power_law_exponent([2, 4, 8], [5, 5, 5]) == pytest.approx(0)
