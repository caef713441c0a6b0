"""Our attention cores beside what one would install for the same pattern: the comparisons of `unept-bench attention`.

Every side has the same heads, width and pattern, without dropout, without causal order; what is not equal is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from bench.microbench.attention.implementations import Comparison, Implementation, MapSize, PreparedCall
from experiments.attention import third_party
from unept import attention
from unept.attention import NO_OPTIONS

COMPARISONS = f"{__name__}:attention_comparisons"  # where a worker process finds them
WINDOW, SQUARE = 512, 15  # tokens, half to each side; side of the square
BLOCK, SUMMARY = 128, 32
CHUNK, HASHES = 64, 4
COPIES = 6  # of a matrix of all weights, at most, that a dense side has at once

Mask = Callable[[MapSize], Tensor]


def attention_comparisons() -> tuple[Comparison, ...]:
    """Return all comparisons; the first implementation of each is ours."""
    return (
        _windows_of_tokens(),
        Comparison(
            name="longformer-window2d",
            implementations=(_ours("longformer", {"order": "window2d", "window": SQUARE}), _masked((8, square_mask))),
        ),
        _locality_hashing(),
        Comparison(
            name="sparse-strided",
            implementations=(_ours("sparse_transformer"), _masked((4, row_mask), (4, column_mask))),
        ),
        Comparison(
            name="sparse-fixed",
            implementations=(
                _ours("sparse_transformer", {"mode": "fixed", "block": BLOCK, "summary": SUMMARY}),
                _masked((4, block_mask), (4, summary_mask)),
            ),
        ),
        _all_pairs(),
    )


def _windows_of_tokens() -> Comparison:
    return Comparison(
        name="longformer",
        implementations=(
            _ours("longformer", {"window": WINDOW}),
            Implementation(
                name="local-attention",
                prepare=lambda size: third_party.local_attention_windows(size, WINDOW // 2),
                install="pip install local-attention",
                difference="exact_windowsize, autopad to a multiple of 256, and a mask that hides that padding",
            ),
            Implementation(
                name="transformers",
                prepare=lambda size: third_party.transformers_longformer(size, WINDOW),
                install="pip install transformers",
                difference="LongformerSelfAttention with its projections replaced by their results; padded to a "
                "multiple of 512",
            ),
            _masked((8, raster_band_mask)),
        ),
    )


def _locality_hashing() -> Comparison:
    return Comparison(
        name="reformer",
        inputs=2,
        implementations=(
            _reformer(),
            Implementation(
                name="reformer-pytorch",
                prepare=lambda size: third_party.reformer_lsh(size, CHUNK, HASHES),
                install="pip install reformer-pytorch",
                same_result=False,
                difference="other random buckets, as many (above 128 ours hashes twice); logits also divided by "
                "the root of the width; a round's first chunk sees the last one of the round before; padded to "
                "a multiple of 128",
            ),
        ),
    )


def _all_pairs() -> Comparison:
    return Comparison(
        name="dense",
        implementations=(
            _ours("dense_fused"),
            Implementation(
                name="torch",
                prepare=lambda _: third_party.scaled_dot_product(()),
                difference="no mask: all is seen",
            ),
            _ours("dense_math", difference="ours too: keeps the matrix of weights on purpose", needed_bytes=_matrix),
        ),
    )


def _ours(name: str, options: Mapping[str, object] = NO_OPTIONS, **more: Any) -> Implementation:
    return Implementation(name=name, prepare=lambda size: _core(name, options, size), ours=True, **more)


def _core(name: str, options: Mapping[str, object], size: MapSize) -> PreparedCall:
    module: Any = attention.make_attention("encoder_self", name, _settings(size), options).eval()
    maps = ((size.height, size.width),)
    return PreparedCall(take=list, run=lambda inputs: module.mix(*inputs, maps), give=lambda output: output)


def _reformer() -> Implementation:
    def make(size: MapSize) -> PreparedCall:
        options = {"hashes": HASHES, "chunk": CHUNK, "buckets": third_party.reformer_buckets(size, CHUNK)}
        module: Any = attention.make_attention("encoder_self", "reformer", _settings(size), options).eval()
        return PreparedCall(
            take=lambda inputs: [x.transpose(1, 2).contiguous() for x in inputs],
            run=lambda inputs: module.mix(*inputs),
            give=lambda output: output.transpose(1, 2),
        )

    return Implementation(name="reformer", prepare=make, ours=True)


def _settings(size: MapSize) -> dict[str, object]:
    return {
        "width": size.heads * size.head_width,
        "heads": size.heads,
        "levels": 1,
        "points": 1,
        "offset_init": "released",
        "dropout": 0.0,
        "layer": 0,
    }


def _masked(*masks: tuple[int, Mask]) -> Implementation:
    """Torch's product with a mask; a mask for so many of each 8 heads."""

    def make(size: MapSize) -> PreparedCall:
        return third_party.scaled_dot_product([(share * size.heads // 8, mask(size)) for share, mask in masks])

    what = "a call for each half of the heads" if len(masks) > 1 else "one call"
    return Implementation(
        name="torch with a mask",
        prepare=make,
        difference=f"{what}; the boolean mask of all pairs is made before and counts as its memory",
        needed_bytes=lambda size: 5 * len(masks) * size.tokens**2 + 4 * size.tokens**2,
    )


def _matrix(size: MapSize) -> int:
    return 4 * COPIES * size.heads * size.tokens**2


def _apart(values: Tensor) -> Tensor:
    return values[:, None] - values


def _places(size: MapSize) -> Tensor:
    return torch.arange(size.tokens)


def raster_band_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): half a window to each side in the row-major sequence."""
    return _apart(_places(size)).abs() <= WINDOW // 2


def square_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): half a square's side to each side in both directions."""
    rows, columns = _places(size) // size.width, _places(size) % size.width
    return (_apart(rows).abs() <= SQUARE // 2) & (_apart(columns).abs() <= SQUARE // 2)


def row_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): tokens of the same row."""
    return _apart(_places(size) // size.width) == 0


def column_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): tokens of the same column."""
    return _apart(_places(size) % size.width) == 0


def block_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): tokens of the same block."""
    return _apart(_places(size) // BLOCK) == 0


def summary_mask(size: MapSize) -> Tensor:
    """Return a mask (S, S): the last tokens of any block; the last block may be shorter."""
    positions = _places(size)
    end = ((positions // BLOCK + 1) * BLOCK).clamp(max=size.tokens)
    return (end - positions <= SUMMARY).expand(size.tokens, -1)
