"""Sparse Transformer attention against masked dense attention, and what it reaches."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from attention_checks import HEADS, LARGE, NOT_DIVIDING, WIDTH, Case, apart, failures, places, prepared, softmax_over

from bench.profiling.receptive_field import measure_receptive_field
from unept.attention import sparse_transformer
from unept.attention.sparse_transformer import SparseTransformerSelf


def sets(shapes, mode, stride, block, summary, joint):
    """The near and the far set as (S, S), from the places of the tokens alone."""
    at = places(shapes)
    raster = at.joint if joint else at.raster
    same = at.same | joint
    row = torch.tensor([shapes[0][1] if joint else shapes[level][1] for level in at.level.tolist()])
    step = torch.full_like(row, stride) if stride else row
    if mode == "strided":
        return same & (apart(raster // step) == 0), same & (apart(raster) % step == 0)
    sizes = [height * width for height, width in shapes]
    end = torch.tensor([sum(sizes) if joint else sizes[level] for level in at.level.tolist()])
    left = torch.minimum((raster // block + 1) * block, end) - raster  # to the end of the token's block
    return same & (apart(raster // block) == 0), same & (left <= summary)


def case(shapes=NOT_DIVIDING, kind=SparseTransformerSelf, layer=0, **options):
    module = prepared(kind(width=WIDTH, heads=HEADS, dropout=0.0, layer=layer, **options))
    settings = {"mode": "strided", "stride": 0, "block": 128, "summary": 32, "joint": False} | options
    split = settings.pop("split", "heads")
    near, far = sets(shapes, **settings)
    heads = [near, near, far] if split == "heads" else [far if layer % 2 else near] * HEADS

    def twin(tokens, position):
        return module.output(softmax_over(module, tokens, position, torch.stack(heads)))

    return Case(module, shapes, twin, torch.stack(heads).any(0))


@pytest.mark.parametrize("shapes", [NOT_DIVIDING, ((1, 1), (1, 6)), ((6, 1),)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 4},
        {"stride": 100},
        {"joint": True},
        {"joint": True, "stride": 6},
        {"split": "layers"},
        {"split": "layers", "layer": 1},
        {"mode": "fixed", "block": 8, "summary": 3},
        {"mode": "fixed", "block": 8, "summary": 8, "joint": True},
        {"mode": "fixed", "block": 6, "summary": 1, "split": "layers", "layer": 1},
        {"mode": "fixed"},
    ],
    ids=str,
)
def test_is_masked_dense_attention(shapes, options):
    assert failures(case(shapes, **options)) == set()


def test_large_maps():
    assert failures(case(LARGE)) == set()


class Causal(SparseTransformerSelf):
    """Wrong: no token sees what comes after it."""

    def forward(self, tokens, position, shapes):
        whole = super().forward(tokens, position, shapes)
        first = shapes[0][1]
        return torch.cat((super().forward(tokens[:, :first], position[:, :first], ((1, first),)), whole[:, first:]), 1)


class Averaging(SparseTransformerSelf):
    """Wrong: takes something from the other images."""

    def forward(self, tokens, position, shapes):
        found = super().forward(tokens, position, shapes)
        return found + 1e-6 * found.mean(0)


def seeing_padding(length, multiple, like):
    return torch.ones(-(-length // multiple), multiple, dtype=torch.bool)


@pytest.mark.parametrize(
    ("wrong", "caught"),
    [
        ({"kind": Causal}, {"is_its_twin", "has_its_gradients", "reaches"}),
        ({"kind": Averaging}, {"keeps_images_apart", "is_its_twin"}),
    ],
    ids=["causal", "batch"],
)
def test_a_wrong_one_is_caught(wrong, caught):
    assert caught <= failures(case(**wrong))


def test_one_that_sees_padding_is_caught():
    with mock.patch.object(sparse_transformer, "real_tokens", seeing_padding):
        assert {"is_its_twin", "is_blind_to_padding"} <= failures(case(stride=4))


def test_one_that_leaks_over_a_levels_border_is_caught():
    right = case()
    leaking = prepared(SparseTransformerSelf(width=WIDTH, heads=HEADS, dropout=0.0, joint=True))
    assert {"is_its_twin", "reaches"} <= failures(Case(leaking, right.shapes, right.twin, right.meet))


def test_two_layers_reach_all_of_a_level_and_nothing_else():
    found = measure_receptive_field(
        lambda layer: SparseTransformerSelf(width=8, heads=2, layer=layer), ((6, 6), (3, 4)), 8, queries=36
    )
    assert found.two_layers == ((1.0, 0.0), (0.0, 1.0))
    row_and_column = 36 * 10 + 12 * 5  # pairs of two different tokens: 5 + 5, and 3 + 2
    assert found.share == pytest.approx(row_and_column / 48 / 47)


def test_order_of_the_fixed_pattern():
    """Block first and summary second reaches everything; the other way round only what summaries pass on."""
    options = {"width": 8, "heads": 2, "mode": "fixed", "split": "layers", "block": 16, "summary": 4}
    forward = measure_receptive_field(
        lambda layer: SparseTransformerSelf(layer=layer, **options), ((8, 9),), 8, queries=72
    )
    backward = measure_receptive_field(
        lambda layer: SparseTransformerSelf(layer=1 - layer, **options), ((8, 9),), 8, queries=72
    )
    assert forward.two_layers == ((1.0,),)
    blocks = 4 * 16 * (16 + 4 * 4) + 8 * (8 + 4 * 4)  # the own block, and the summaries of the other four
    assert backward.two_layers[0][0] == pytest.approx(blocks / 72**2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": -1}, "stride=-1: expected at least 1"),
        ({"block": 0}, "block=0: expected at least 1"),
        ({"summary": 0}, "summary=0: expected 1 to the block, 128"),
        ({"block": 8, "summary": 9}, "summary=9: expected 1 to the block, 8"),
        ({"mode": "fix"}, "mode=fix: expected strided or fixed"),
        ({"split": "head"}, "split=head: expected heads or layers"),
        ({"heads": 1}, "split=heads needs 2 heads or more, heads=1"),
    ],
)
def test_values_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=f"sparse_transformer: {message}"):
        SparseTransformerSelf(**{"width": 8, "heads": 2} | options)
