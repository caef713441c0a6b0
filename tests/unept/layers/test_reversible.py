"""Reversible layers and chunked feed-forward networks: the same numbers, less kept."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

import unept
from bench.profiling.memory.layer_peak import layer_peak
from unept.attention import reformer
from unept.attention.reformer import ReformerSelf
from unept.context import ContextBranch, EncoderLayer
from unept.layers import reversible

CONFIG = unept.ModelConfig(width=16, heads=2, ffn=32, levels=2, encoder_layers=3, decoder_layers=1, dropout=0.3)
SHAPES = ((5, 4), (3, 3))


def gradients(config, seed=3):
    torch.manual_seed(0)
    branch = ContextBranch(config).double().train()
    maps = [torch.randn(2, 16, *shape, dtype=torch.float64, requires_grad=True) for shape in SHAPES]
    queries = torch.randn(2, 6, 16, dtype=torch.float64)
    cotangent = torch.randn(2, 6, 16, dtype=torch.float64)
    torch.manual_seed(seed)
    out = branch(maps, queries, (2, 3))
    return out, torch.autograd.grad(out, [*maps, *branch.parameters()], cotangent, materialize_grads=True)


def keep_everything(halves, x):
    streams = [x, x]
    for index, half in enumerate(halves):
        streams[index % 2] = streams[index % 2] + half.function(streams[1 - index % 2])
    return (streams[0] + streams[1]) / 2


@pytest.mark.parametrize("name", ["reformer", "longformer", "dense_math"])
def test_recomputed_gradients_are_the_kept_ones(name, monkeypatch):
    """With dropout, and with the buckets that the hash found the first time."""
    config = replace(CONFIG, reversible=True, encoder_self=name)
    if name == "reformer":
        config = replace(config, attention_options=(("encoder_self.chunk", 4),))
    out, found = gradients(config)
    monkeypatch.setattr(reversible, "run_reversible", keep_everything)
    kept, expected = gradients(config)
    torch.testing.assert_close(out, kept, rtol=1e-12, atol=1e-12)
    assert sum(each.abs().max() > 1e-3 for each in expected) > 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_nothing_is_hashed_again(monkeypatch):
    """A hash of recomputed tokens could differ from the first by a rounding error."""
    calls = []
    right = reformer.hashed
    monkeypatch.setattr(reformer, "hashed", lambda *given: calls.append(1) or right(*given))
    gradients(replace(CONFIG, reversible=True, encoder_self="reformer"))
    assert len(calls) == CONFIG.encoder_layers


def test_as_many_parameters():
    plain, other = (
        sum(p.numel() for p in ContextBranch(replace(CONFIG, reversible=each)).parameters()) for each in (0, 1)
    )
    assert plain == other


class Layers(nn.Module):
    """A number of encoder layers around one attention, reversible or not."""

    def __init__(self, number: int, *, back: bool, chunks: int = 1, ffn: int = 64) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(16, ffn, 0.0, chunks) for _ in range(number))
        for layer in self.layers:
            layer.self_attn = ReformerSelf(width=16, heads=2, dropout=0.0)
        self.back = back

    def forward(self, tokens, position, shapes):
        if self.back:
            return reversible.run_reversible(
                [half for layer in self.layers for half in layer.halves(position, shapes)], tokens
            )
        for layer in self.layers:
            tokens = layer(tokens, position, shapes)
        return tokens


def test_memory_does_not_grow_with_depth():
    """But for the buckets, which are kept: a number for each token, head and round, beside the weights' 128."""
    saved = {
        (back, number): layer_peak(lambda: Layers(number, back=back), ((20, 20),), 16).saved  # noqa: B023
        for back in (False, True)
        for number in (1, 4)
    }
    assert saved[False, 4] > 3.5 * saved[False, 1]
    assert saved[True, 4] < 0.15 * saved[False, 4]
    buckets = 400 * 2 * 4 * 8
    assert saved[True, 4] - saved[True, 1] <= 3 * (buckets + 8000)  # 8000: the states of the random numbers


def chunked_peak(chunks):
    return layer_peak(lambda: Layers(1, back=False, chunks=chunks, ffn=2048), ((30, 30),), 16).peak


def test_chunks_keep_less_and_give_the_same():
    whole, parts = (chunked_peak(chunks) for chunks in (1, 10))
    assert parts < 0.6 * whole
    config = replace(CONFIG, dropout=0.0)
    (out, found), (expected, kept) = (gradients(replace(config, ffn_chunks=chunks)) for chunks in (3, 1))
    torch.testing.assert_close(out, expected)
    for one, other in zip(found, kept, strict=True):
        torch.testing.assert_close(one, other)


def test_autocast():
    torch.manual_seed(0)
    branch = ContextBranch(replace(CONFIG, reversible=True, encoder_self="reformer")).train()
    maps = [torch.randn(2, 16, *shape, requires_grad=True) for shape in SHAPES]
    with torch.autocast("cpu", torch.bfloat16):
        out = branch(maps, torch.randn(2, 6, 16), (2, 3))
    out.float().square().sum().backward()
    assert all(level.grad.isfinite().all() and level.grad.any() for level in maps)
