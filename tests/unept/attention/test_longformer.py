"""Longformer attention against masked dense attention, and what it reaches."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from attention_checks import HEADS, LARGE, NOT_DIVIDING, WIDTH, Case, apart, failures, places, prepared, softmax_over
from torch.nn import functional as F

from bench.profiling.receptive_field import measure_receptive_field
from unept.attention import windows
from unept.attention.longformer import LongformerSelf


def windows_of(shapes, half, dilation, order, joint):
    """The window of one head as (S, S), from the places of the tokens alone."""
    at = places(shapes)
    if order == "raster":
        steps = [apart(at.joint if joint else at.raster)]
    else:
        steps = [apart(at.y), apart(at.x)]
    seen = at.same | joint
    for step in steps:
        seen = seen & (step.abs() <= half * dilation) & (step % dilation == 0)
    return seen


def spaced(shapes, number):
    """Places of the tokens in the middle of ``number`` equal parts of each level."""
    found, start = [], 0
    for size in (height * width for height, width in shapes):
        count = min(number, size)
        found += [start + (2 * i + 1) * size // (2 * count) for i in range(count)]
        start += size
    return found


def case(shapes=NOT_DIVIDING, kind=LongformerSelf, **options):
    module = prepared(kind(width=WIDTH, heads=HEADS, dropout=0.0, **options))
    order, joint = options.get("order", "raster"), options.get("joint", False)
    half = (options.get("window", 0) or {"raster": 512, "window2d": 15}[order]) // 2
    usual = (1, 2, 2) if options.get("layer") else (1, 1, 1)
    dilation = (options.get("dilation", ()) * HEADS)[:HEADS] or usual
    seen = torch.stack([windows_of(shapes, half, each, order, joint) for each in dilation])
    chosen = spaced(shapes, options.get("global_tokens", 0))
    seen[:, :, chosen] = True

    def twin(tokens, position):
        found = softmax_over(module, tokens, position, seen)
        if chosen:
            weights, biases = module.global_in_proj_weight.chunk(3), module.global_in_proj_bias.chunk(3)
            sources = (tokens + position, tokens + position, tokens)
            q, k, v = (
                F.linear(x, w, b).unflatten(-1, (HEADS, -1)).transpose(1, 2)
                for x, w, b in zip(sources, weights, biases, strict=True)
            )
            everything = ((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2)
            is_global = torch.zeros(tokens.shape[1], 1, 1, dtype=torch.bool)
            is_global[chosen] = True
            found = torch.where(is_global, everything, found)
        return module.output(found)

    meet = seen.any(0)
    meet[chosen] = True
    return Case(module, shapes, twin, meet)


@pytest.mark.parametrize("shapes", [NOT_DIVIDING, LARGE, ((1, 1), (1, 6)), ((40, 1),)], ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"window": 6},
        {"window": 7, "dilation": (1, 2, 3)},
        {"window": 2, "dilation": (2,)},
        {"window": 8, "joint": True, "dilation": (1, 1, 3)},
        {"window": 3, "order": "window2d"},
        {"window": 5, "order": "window2d", "dilation": (2, 1, 2)},
        {"window": 4, "global_tokens": 2, "layer": 1},
        {"window": 3, "order": "window2d", "global_tokens": 1, "dilation": (2,)},
        {"window": 4, "joint": True, "global_tokens": 3},
        {},
        {"order": "window2d", "layer": 3},
    ],
    ids=str,
)
def test_is_masked_dense_attention(shapes, options):
    assert failures(case(shapes, **options)) == set()


def test_a_map_of_many_tiles_is_cut_into_them():
    assert windows.tiling(143, 3, 1) == windows.Tiling(tiles=5, side=32, margin=3)
    assert windows.tiling(13, 1, 2) == windows.Tiling(tiles=2, side=8, margin=1)
    assert windows.tiling(3600, 256, 1) == windows.Tiling(tiles=15, side=256, margin=256)
    assert windows.tiling(40, 9, 1) == windows.Tiling(tiles=1, side=40, margin=0)


class OneTooWide(LongformerSelf):
    """Wrong: sees one token more to each side."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.each_side += 1


class Averaging(LongformerSelf):
    """Wrong: the result depends on the batch."""

    def forward(self, tokens, position, shapes):
        return super().forward(tokens - 1e-6 * tokens.mean(0), position, shapes)


class Undilated(LongformerSelf):
    """Wrong: every head takes the first one's dilation."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.dilation = self.dilation[:1] * len(self.dilation)


@pytest.mark.parametrize(
    ("options", "caught"),
    [
        ({"kind": OneTooWide, "window": 6}, {"is_its_twin", "has_its_gradients", "reaches"}),
        ({"kind": OneTooWide, "window": 3, "order": "window2d"}, {"is_its_twin", "reaches"}),
        ({"kind": Undilated, "window": 6, "dilation": (1, 2, 3)}, {"is_its_twin", "reaches"}),
        ({"kind": Averaging, "window": 6}, {"keeps_images_apart"}),
    ],
    ids=["wide", "wide-2d", "undilated", "batch"],
)
def test_a_wrong_one_is_caught(options, caught):
    assert caught <= failures(case(LARGE, **options))


def test_one_that_sees_padding_is_caught():
    right = windows._seen

    def seeing(*arguments):
        seen = right(*arguments)
        return None if seen is None else torch.ones_like(seen)

    with mock.patch.object(windows, "_seen", seeing):
        assert {"is_its_twin", "is_blind_to_padding"} <= failures(case(LARGE, window=6))


def test_one_that_leaks_over_a_levels_border_is_caught():
    right = case(window=6)
    leaking = prepared(LongformerSelf(width=WIDTH, heads=HEADS, dropout=0.0, window=6, joint=True))
    assert {"is_its_twin", "reaches"} <= failures(Case(leaking, right.shapes, right.twin, right.meet))


def test_reach_of_two_layers_stays_in_the_level_without_global_tokens():
    shapes = ((6, 6), (3, 4))
    plain = measure_receptive_field(lambda layer: LongformerSelf(width=8, heads=2, layer=layer), shapes, 8)
    assert plain.two_layers == ((1.0, 0.0), (0.0, 1.0))
    bridged = measure_receptive_field(
        lambda layer: LongformerSelf(width=8, heads=2, layer=layer, global_tokens=1), shapes, 8
    )
    assert bridged.two_layers == ((1.0, 1.0), (1.0, 1.0))


def test_share_of_a_square_window():
    found = measure_receptive_field(
        lambda _: LongformerSelf(width=8, heads=2, window=3, order="window2d"), ((6, 6),), 8, queries=36
    )
    assert found.share == pytest.approx((16 * 8 + 16 * 5 + 4 * 3) / 36 / 35)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -2}, "window=-2: expected at least 2, or 0 for 512"),
        ({"window": 1, "order": "window2d"}, "window=1: expected at least 2, or 0 for 15"),
        ({"global_tokens": -1}, "global_tokens=-1: expected at least 0"),
        ({"dilation": (0,)}, "dilation=0: expected at least 1"),
        ({"dilation": (1, 2, 3)}, r"dilation=1\+2\+3: expected one value, or one for each of 2 heads"),
        ({"order": "rows"}, "order=rows: expected raster or window2d"),
        ({"order": "window2d", "joint": True}, "joint=true goes with order=raster"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=f"longformer: {message}"):
        LongformerSelf(**{"width": 8, "heads": 2} | options)
