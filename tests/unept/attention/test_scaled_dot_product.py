"""Products whose weights are computed again for the gradient, against those that keep them."""

from __future__ import annotations

from contextlib import nullcontext
from unittest import mock

import pytest
import torch
from torch.nn import functional as F

from unept.attention import recomputed_block, scaled_dot_product
from unept.attention.lsh import Look, lsh_attention
from unept.attention.scaled_dot_product import product
from unept.utils import rng

SIZES = [(2, 3, 5, 7), (1, 2, 9, 4), (3, 1, 1, 1)]
BLOCKS = [1, 40, 1 << 20]  # a query, a few, everything


def recomputed(q, k, v, seen, dropout):
    """Whatever the number of weights."""
    return scaled_dot_product._Recomputed.apply(q * q.shape[-1] ** -0.5, k, v, seen, dropout)


def inputs(N, H, Q, K):
    generator = torch.Generator().manual_seed(0)
    sizes = ((N, H, Q, 4), (N, H, K, 4), (N, H, K, 4))
    return [torch.randn(*size, generator=generator, dtype=torch.float64, requires_grad=True) for size in sizes]


def masks(N, Q, K):
    seen = torch.rand(N, 1, Q, K, generator=torch.Generator().manual_seed(1)) < 0.5
    seen[..., 0] = True
    return [None, seen, seen[:1], seen[:, :, :1]]


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("N", "H", "Q", "K"), SIZES)
def test_without_a_dropped_weight_it_is_torchs(monkeypatch, block, N, H, Q, K):
    monkeypatch.setattr(recomputed_block, "MOST", block)
    monkeypatch.setattr(scaled_dot_product, "PARTS", 1 << 20)
    given = inputs(N, H, Q, K)
    for seen in masks(N, Q, K):
        found, expected = recomputed(*given, seen, 1e-18), F.scaled_dot_product_attention(*given, attn_mask=seen)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        like = torch.randn_like(found)
        pairs = zip(*(torch.autograd.grad(each, given, like) for each in (found, expected)), strict=True)
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_dropped_weights_in_one_block_are_torchs_random_numbers():
    given = inputs(2, 3, 5, 7)
    torch.manual_seed(3)
    found = recomputed(*given, None, 0.4)
    torch.manual_seed(3)
    kept = torch.empty(6, 5, 7, dtype=torch.float64).bernoulli_(0.6).view(2, 3, 5, 7) / 0.6
    q, k, v = given
    expected = ((q @ k.transpose(-1, -2) / 2).softmax(-1) * kept) @ v
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    like = torch.randn_like(found)
    for one, other in zip(*(torch.autograd.grad(each, given, like) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def reseeded(*given):
    torch.manual_seed(3)
    return recomputed(*given, None, 0.4)


def rounds(qk, v):
    torch.manual_seed(3)
    buckets = torch.tensor([[[[0, 1, 1, 0, 9, 9], [1, 0, 0, 0, 9, 9]]]])
    return lsh_attention(qk, v, buckets, Look(chunk=2), real=4, dropout=0.4)


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_the_gradient_meets_the_same_random_numbers(monkeypatch, block):
    """And goes on with others afterwards; known-wrong: a backward pass that draws new ones."""
    monkeypatch.setattr(recomputed_block, "MOST", block)
    monkeypatch.setattr(scaled_dot_product, "PARTS", 1 << 20)
    some = [torch.randn(1, 1, 6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    for function, given in ((reseeded, inputs(2, 1, 2, 3)), (rounds, some)):
        assert torch.autograd.gradcheck(function, given)
        out = function(*given)
        after = torch.get_rng_state()
        out.sum().backward()
        assert torch.equal(torch.get_rng_state(), after)
        with mock.patch.object(rng, "replay_rng", return_value=nullcontext()), pytest.raises(RuntimeError):
            torch.autograd.gradcheck(function, given)


def test_half_types_are_finite_and_near():
    given = inputs(1, 2, 9, 4)
    expected = recomputed(*given, None, 1e-18)
    for dtype in (torch.bfloat16, torch.float16):
        half = [x.detach().to(dtype).requires_grad_() for x in given]
        found = recomputed(*half, None, 1e-7)
        assert found.dtype == dtype
        torch.testing.assert_close(found.double(), expected, rtol=0.05, atol=0.05)
        assert all(each.isfinite().all() for each in torch.autograd.grad(found.sum(), half))


def test_few_weights_are_kept(monkeypatch):
    monkeypatch.setattr(recomputed_block, "MOST", 6 * 5 * 7)
    with mock.patch.object(scaled_dot_product._Recomputed, "apply", side_effect=AssertionError):
        product(*inputs(2, 3, 5, 7), None, 0.4)
        with pytest.raises(AssertionError):
            product(*inputs(2, 3, 5, 8), None, 0.4)


def test_a_second_derivative_is_refused():
    given = inputs(1, 1, 2, 2)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(recomputed(*given, None, 0.4).sum(), given, create_graph=True)
    given = [torch.randn(1, 1, 6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(rounds(*given).sum(), given, create_graph=True)


def test_the_number_of_blocks_has_a_bound():
    q = torch.empty(1, 8, 3600, 4, device="meta")
    assert 8 * 3600 * 3600 // recomputed_block.MOST == 24
    assert len(list(scaled_dot_product._parts(q, q))) == 25
    q = torch.empty(1, 8, 14400, 4, device="meta")
    assert 8 * 14400 * 14400 // recomputed_block.MOST > 300
    assert len(list(scaled_dot_product._parts(q, q))) == 64
