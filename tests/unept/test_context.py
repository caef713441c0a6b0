"""The context branch: where dropout acts, the order of the norms, and what the layers start from."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from unept.config import ModelConfig
from unept.context import ContextBranch, DecoderLayer, EncoderLayer

SHAPES = ((3, 4), (2, 2))
CONFIG = ModelConfig(width=64, ffn=96, heads=2, points=2, levels=2, dropout=0.3)


class Dropped(nn.Module):
    """Stands for dropout: keeps what it is given, and gives a seventh of it."""

    def __init__(self):
        super().__init__()
        self.given = []

    def forward(self, x):
        self.given.append(x.clone())
        return x / 7


class Attends(nn.Module):
    """Stands for an attention: its first argument through a fixed function."""

    def __init__(self, gain):
        super().__init__()
        self.gain = gain

    def forward(self, tokens, *_):
        return (tokens * self.gain).sin()


def shaken(layer):
    """The layer with norms of their own, and `Dropped` for its dropout."""
    layer.dropout = Dropped()
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            nn.init.normal_(parameter)
    return layer


def same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_encoder_layer_is_the_papers():
    layer, x = shaken(EncoderLayer(8, 12, 0.1)), torch.randn(2, 16, 8)
    layer.self_attn = Attends(2)
    with torch.no_grad():
        out = layer(x, torch.zeros(2, 16, 8), SHAPES)
        attended = (2 * x).sin()
        first = layer.norm1(x + attended / 7)
        hidden = layer.linear1(first).relu()
        wide = layer.linear2(hidden / 7)
        same([out, *layer.dropout.given], [layer.norm2(first + wide / 7), attended, hidden, wide])


def test_decoder_layer_is_the_papers():
    layer, x = shaken(DecoderLayer(8, 12, 0.1)), torch.randn(2, 15, 8)
    layer.self_attn, layer.cross_attn = Attends(2), Attends(3)
    with torch.no_grad():
        out = layer(x, torch.randn(2, 16, 8), (3, 5), SHAPES)
        own = (2 * x).sin()
        first = layer.norm2(x + own / 7)
        crossed = (3 * first).sin()
        second = layer.norm1(first + crossed / 7)
        hidden = layer.linear1(second).relu()
        wide = layer.linear2(hidden / 7)
        same([out, *layer.dropout.given], [layer.norm3(second + wide / 7), own, crossed, hidden, wide])


@pytest.mark.parametrize("decoder_self", ["batch", "dense"])
def test_one_rate_of_dropout_everywhere(decoder_self):
    branch = ContextBranch(replace(CONFIG, decoder_self=decoder_self))
    modules = [module for module in branch.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in modules] == [0.3] * 4
    assert [layer.self_attn.dropout for layer in branch.decoder.layers] == [0.3] * 2


def test_start():
    branch = ContextBranch(replace(CONFIG, width=128, ffn=256, levels=3, heads=8))
    assert branch.level_embed.std().item() == pytest.approx(1, rel=0.15)
    for layer in (*branch.encoder.layers, *branch.decoder.layers):
        for linear in (layer.linear1, layer.linear2):
            limit = math.sqrt(6 / (128 + 256))  # Xavier, uniform
            assert 0.98 * limit < linear.weight.abs().max() <= limit
            assert linear.bias.abs().max() > 0
        for norm in (layer.norm1, layer.norm2):
            assert (norm.weight == 1).all()
            assert (norm.bias == 0).all()


def test_offsets_start_as_asked():
    reach = {}
    for how in ("released", "scaled"):
        branch = ContextBranch(replace(CONFIG, points=8, offset_init=how))
        first, last = branch.encoder.layers[0], branch.decoder.layers[-1]
        slots = (first.self_attn, last.self_attn, last.cross_attn)
        reach[how] = {slot.sampling_offsets.bias.abs().max().item() for slot in slots}
    assert reach == {"released": {8}, "scaled": {4}}
