"""What is planted into the second scenes is found, and what is not there is not: both through a user's module."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_attention import HalfDense, SameDense

from bench.config.grid import with_field_values
from bench.config.presets import preset
from bench.config.settings import settings_to_dict
from bench.stats.seed_statistics import welch_test
from bench.training.loop import train_and_evaluate
from unept.attention.multihead import DenseSelf

MODULE = "planted_attention"
RECIPE = ("heads=4", "lr=0.004", "lr_drop=0.9", "steps=500", "probes=0")
SHAPES = ((4, 4), (2, 2))


def both(cls: type[DenseSelf]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens, and what dense attention and `cls` with its parameters make of them."""
    torch.manual_seed(0)
    dense, planted = DenseSelf(width=16, heads=2, dropout=0.0), cls(width=16, heads=2, dropout=0.0)
    planted.load_state_dict(dense.state_dict())
    tokens = torch.randn(2, 20, 16, requires_grad=True)
    return tokens, dense(tokens, None, SHAPES), planted(tokens, None, SHAPES)


def test_the_null_is_dense_attention_to_the_bit() -> None:
    _, dense, planted = both(SameDense)
    assert torch.equal(dense, planted)


def test_the_difference_is_that_right_halves_are_not_sampled() -> None:
    tokens, _, planted = both(HalfDense)
    (gradient,) = torch.autograd.grad(planted[0, 3].sum(), tokens)  # of the upper right token of the first map
    seen = gradient[0].abs().sum(-1) > 0
    left = [column < 2 for _ in range(4) for column in range(4)] + [column < 1 for _ in range(2) for column in range(2)]
    assert seen.tolist() == [is_left or number == 3 for number, is_left in enumerate(left)]


def share_of_context(attention: str, seed: int, folder: Path) -> float:
    """The share of context that a training recovers."""
    slots = (f"encoder_self={attention}", f"decoder_self={attention}")
    settings = with_field_values(preset("quick", "scenes:v2"), [*RECIPE, *slots])
    settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, classes=7))
    spec: dict[str, Any] = {"settings": settings_to_dict(settings), "seed": seed}
    result = train_and_evaluate(spec, folder / f"{attention.partition(':')[2]}-{seed}", lambda *_: None)
    return float(result["metrics"]["context_share"])


@pytest.mark.slow
def test_a_planted_difference_is_found_and_a_planted_null_is_not(tmp_path: Path) -> None:
    """Six trainings. The null has seeds of its own: with the same ones it would have the same bits."""
    dense = [share_of_context("dense", seed, tmp_path) for seed in (110, 111)]
    same = [share_of_context(f"{MODULE}:SameDense", seed, tmp_path) for seed in (112, 113)]
    half = [share_of_context(f"{MODULE}:HalfDense", seed, tmp_path) for seed in (110, 111)]
    print(f"share of context: dense {dense}, same {same}, half {half}")
    assert welch_test(same, dense).p > 0.05
    difference = welch_test([*dense, *same], half)
    assert difference.p < 0.05
    assert 0.25 < sum(half) / 2 < 0.65
