"""What a ratio could be at most: the arithmetic of the bounds, and a stand-in that computes nothing."""

from __future__ import annotations

import sys
from unittest import mock

import pytest
import torch

from bench.microbench.operator import lower_bounds
from bench.microbench.operator.cases import model_case
from bench.microbench.operator.inputs import make_inputs
from bench.microbench.rows import RowContext
from unept import attention
from unept.config import ModelConfig
from unept.ops import reference

PLACE = RowContext(part="operator", malloc="tuned", shape="small", threads=2)
CASE = model_case(5, 2, 75)


def test_a_backward_pass_gathers_once_more_and_scatters() -> None:
    samples = {
        ("pyramid", "gather"): [1.0, 2.0],
        ("pyramid", "scatter"): [3.0, 4.0],
        ("mmcv", "forward"): [10.0, 30.0],
        ("mmcv", "forward+backward"): [50.0, 80.0],
    }
    found = {row.phase: row for row in lower_bounds.operator_bound_rows(PLACE, samples, ["mmcv", "absent"], "pyramid")}
    assert found["forward"].value == pytest.approx((10 / 1 + 30 / 2) / 2)
    assert found["forward+backward"].value == pytest.approx((50 / 5 + 80 / 8) / 2)
    assert {row.quantity for row in found.values()} == {"ratio_at_most"}


def test_without_probes_or_layers_nothing_is_said() -> None:
    samples = {("mmcv", "forward"): [10.0]}
    assert not list(lower_bounds.operator_bound_rows(PLACE, samples, ["mmcv"], "pyramid"))
    assert not list(lower_bounds.module_bound_rows(PLACE, samples, ["mmcv"]))


def test_the_least_memory_is_that_of_result_and_gradients() -> None:
    *given, _ = make_inputs(CASE, torch.float32)
    value, place, offsets, logits = given
    leaves = [tensor.requires_grad_() for tensor in (value, offsets, logits)]
    result = reference.msda(value, place, offsets, logits, CASE.shapes)
    gradients = torch.autograd.grad(result.sum(), leaves)
    least = lower_bounds.min_bytes(CASE)
    assert least["forward"] == least["held"] == result.nbytes
    assert least["forward+backward"] == result.nbytes + sum(gradient.nbytes for gradient in gradients)


def test_a_free_operator_leaves_the_layers_and_takes_their_gradients() -> None:
    width = CASE.heads * CASE.channels
    config = ModelConfig()
    settings = {"width": width, "heads": CASE.heads, "levels": 3, "points": 16, "dropout": 0.0, "layer": 0}
    made = attention.make_attention("encoder_self", config.encoder_self, settings | {"offset_init": config.offset_init})
    tokens = torch.randn(CASE.batch, CASE.tokens, width, requires_grad=True)
    products: list[str] = []
    for name, module in made.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda *_, name=name: products.append(name))
    with mock.patch.object(sys.modules[type(made).__module__], "msda", lower_bounds.zero_operator):
        result = made(tokens, None, CASE.shapes)
        gradients = torch.autograd.grad(result.sum(), [tokens, *made.parameters()])
    assert len(products) == 4
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert torch.equal(result, made.get_parameter("output_proj.bias").expand_as(result))
