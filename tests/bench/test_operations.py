"""Operations against hand counts, and against what leaves a mechanism out."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.measures import operations
from bench.measures.variant import count_operations
from bench.presets import preset
from experiments import table5


def test_convolution_and_linear_by_hand() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
            self.linear = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.linear(self.conv(x).mean((2, 3)))

    with torch.device("meta"):
        model = Small()
    counted = operations.count(model, (12, 10))
    assert counted.gmacs == pytest.approx((6 * 5 * 8 * 3 * 9 + 8 * 5) / 1e9)
    assert counted.gflops == 2 * counted.gmacs


def test_fused_attention_is_counted_not_skipped() -> None:
    class Attends(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return F.scaled_dot_product_attention(tokens, tokens, tokens)

    counted = operations.count(Attends(), (4, 5))
    assert counted.gmacs == pytest.approx(2 * 20 * 20 * 3 / 1e9)


def test_sampling_is_added_where_a_module_declares_it() -> None:
    class Samples(nn.Module):
        def sampling_macs(self, queries: int, batch: int) -> int:
            return 7 * queries * batch

        def forward(self, tokens: Tensor) -> Tensor:
            return tokens

    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Samples()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.flatten(2).transpose(1, 2))

    counted = operations.count(Around(), (4, 4))
    assert counted.sampling_gmacs == pytest.approx(7 * 16 / 1e9)
    assert counted.matrix_gmacs == 0


def test_sampling_of_the_quick_model_by_formula() -> None:
    settings = preset("quick")
    model = settings.model
    queries = tokens = (model.size // 8) ** 2
    head = model.width // model.heads
    per_point = 5 * head * model.heads * model.points
    sampled = model.levels * tokens * model.levels + queries * 1 + queries * model.levels
    assert count_operations(settings).sampling_gmacs == pytest.approx(per_point * sampled / 1e9)


@pytest.mark.parametrize("index", range(4))
def test_every_row_of_the_component_table_can_be_counted(index: int) -> None:
    variant = table5.variants(preset("quick"))[index]
    assert count_operations(variant.settings).gmacs > 0


def test_more_points_cost_more() -> None:
    base = preset("quick")
    few, many = (dataclasses.replace(base, model=dataclasses.replace(base.model, points=points)) for points in (4, 16))
    assert count_operations(many).gmacs > count_operations(few).gmacs
