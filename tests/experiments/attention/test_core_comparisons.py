"""Our cores beside other packages: the same results where the pattern is the same. Absent packages skip."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bench.microbench.attention.implementations import Implementation, MapSize, PreparedCall
from bench.microbench.attention.run import QUICK_SIZES
from experiments.attention import core_comparisons, third_party
from experiments.attention.comparison_names import COMPARISON_NAMES
from unept.attention.lsh import Look, lsh_attention

(SIZE,) = QUICK_SIZES
PAIRS = [(each, side) for each in core_comparisons.attention_comparisons() for side in each.implementations[1:]]


def made(side: Implementation, size: MapSize) -> PreparedCall:
    try:
        return side.prepare(size)
    except ImportError as error:
        pytest.skip(f"{error}; {side.install}")


def derived(core: PreparedCall, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """The result and the gradients, in the layout of the inputs."""
    leaves = [x.clone().requires_grad_() for x in inputs]
    found = core.give(core.run(core.take(leaves)))
    like = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    return [found.detach(), *torch.autograd.grad(found, leaves, like)]


@pytest.mark.filterwarnings("ignore")  # of their imports
@pytest.mark.parametrize(("comparison", "side"), PAIRS, ids=lambda each: each.name)
def test_a_side_with_the_same_pattern_finds_what_ours_does(comparison: Any, side: Implementation) -> None:
    core, ours = made(side, SIZE), comparison.implementations[0].prepare(SIZE)
    inputs = comparison.draw_inputs(SIZE)
    found, expected = derived(core, inputs), derived(ours, inputs)
    assert all(one.shape == other.shape for one, other in zip(found, expected, strict=True))
    if side.same_result:
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_only_the_random_one_may_differ() -> None:
    assert [side.name for _, side in PAIRS if not side.same_result] == ["reformer-pytorch"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("rounds", "tokens"), [(1, 256), (4, 512)])
def test_with_its_buckets_ours_is_reformer_pytorch(rounds: int, tokens: int) -> None:
    """But for a round's first chunk, which sees the last of the round before there and of its own round here."""
    try:
        kind: Any = importlib.import_module("reformer_pytorch").LSHAttention
    except ImportError as error:
        pytest.skip(f"{error}; pip install reformer-pytorch")
    torch.manual_seed(0)
    chunk, heads, width = 16, 2, 8
    qk, v = torch.randn(2, heads, tokens, width)
    buckets = torch.randint(0, tokens // chunk, (heads, rounds, tokens))

    class Given(kind):  # type: ignore[misc, valid-type]
        def hash_vectors(self, number: int, *_: Any, **__: Any) -> torch.Tensor:
            return (buckets + number * torch.arange(rounds)[:, None]).flatten(1)

    theirs = Given(bucket_size=chunk, n_hashes=rounds, causal=False).eval()(qk, v)[0]
    scaled = qk * width**-0.5
    ours = lsh_attention(scaled[None], v[None], buckets[None], Look(chunk=chunk), real=tokens)[0]
    places = buckets.argsort(dim=-1, stable=True).argsort(dim=-1)
    alike = (places >= chunk).all(1) if rounds > 1 else torch.ones(heads, tokens, dtype=torch.bool)
    assert alike.float().mean() > 0.8
    torch.testing.assert_close(ours[alike], theirs[alike], rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_padding_that_a_package_needs_is_never_seen() -> None:
    """Without the mask that hides it, local-attention would see its own padding: the comparison must notice."""
    size = MapSize(height=26, width=50, heads=2, head_width=8)
    (comparison,) = [each for each in core_comparisons.attention_comparisons() if each.name == "longformer"]
    side = next(side for side in comparison.implementations if side.name == "local-attention")
    made(side, size)
    kind: Any = importlib.import_module("local_attention").LocalAttention
    module = kind(window_size=256, look_backward=1, look_forward=1, autopad=True, exact_windowsize=True)
    inputs = comparison.draw_inputs(size)
    bare = module(*third_party.heads_first(inputs)).transpose(1, 2)
    ours = comparison.implementations[0].prepare(size).run(inputs)
    assert (bare - ours).abs().max() > 1e-3


def test_masks_by_hand() -> None:
    size = MapSize(height=3, width=4)
    row, column = core_comparisons.row_mask(size), core_comparisons.column_mask(size)
    assert row.sum(1).tolist() == [4] * 12
    assert column.sum(1).tolist() == [3] * 12
    assert (row & column).equal(torch.eye(12, dtype=torch.bool))
    size = MapSize(height=20, width=20)
    assert core_comparisons.square_mask(size).sum(1)[[0, 210, 399]].tolist() == [64, 225, 64]
    assert core_comparisons.block_mask(size).sum(1)[[0, 399]].tolist() == [128, 16]
    assert core_comparisons.summary_mask(size).sum(1).tolist() == [3 * 32 + 16] * 400
    assert core_comparisons.raster_band_mask(MapSize(height=30, width=20)).sum(1)[[0, 300]].tolist() == [257, 513]


def test_lengths_that_a_package_pads() -> None:
    for height, chunks in ((60, 58), (180, 170)):
        assert third_party.reformer_buckets(MapSize(height=height, width=60), 64) == chunks
    assert F.pad(torch.zeros(1), (0, 1)).numel() == 2


def test_the_names_that_are_known_without_torch_are_those_of_the_comparisons() -> None:
    assert tuple(comparison.name for comparison in core_comparisons.attention_comparisons()) == COMPARISON_NAMES
