"""What the parameters of our attentions may be, checked without torch: by a class and before it is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

LONGFORMER_WINDOWS: Mapping[str, int] = MappingProxyType(
    {"raster": 512, "window2d": 15}
)  # defaults: tokens of the sequence, side of the square


def check_longformer(
    *, window: int, order: str, dilation: tuple[int, ...], global_tokens: int, joint: bool, heads: int
) -> None:
    """Check the parameters of `LongformerSelf`. ValueError for the first that is not possible."""
    if order not in LONGFORMER_WINDOWS:
        raise ValueError(f"longformer: order={order}: expected raster or window2d")
    if window < 0 or window == 1:
        usual = LONGFORMER_WINDOWS[order]
        raise ValueError(f"longformer: window={window}: expected at least 2, or 0 for {usual}")
    if global_tokens < 0:
        raise ValueError(f"longformer: global_tokens={global_tokens}: expected at least 0")
    if joint and order == "window2d":
        raise ValueError("longformer: joint=true goes with order=raster: a square lies on one level's map")
    written = "+".join(map(str, dilation))
    if len(dilation) not in (0, 1, heads):
        raise ValueError(f"longformer: dilation={written}: expected one value, or one for each of {heads} heads")
    if any(value < 1 for value in dilation):
        raise ValueError(f"longformer: dilation={written}: expected at least 1")


def check_reformer(*, hashes: int, chunk: int, buckets: int, before: int, after: int, strict: bool, heads: int) -> None:
    """Check the parameters of `ReformerSelf`. ValueError for the first that is not possible."""
    del strict, heads
    for name, value in (("hashes", hashes), ("chunk", chunk)):
        if value < 1:
            raise ValueError(f"reformer: {name}={value}: expected at least 1")
    for name, value in (("before", before), ("after", after)):
        if value < 0:
            raise ValueError(f"reformer: {name}={value}: expected at least 0")
    if buckets < 0 or buckets % 2:
        raise ValueError(f"reformer: buckets={buckets}: expected an even number, or 0 for two to each chunk")


def check_sparse_transformer(
    *, mode: str, split: str, stride: int, block: int, summary: int, joint: bool, heads: int
) -> None:
    """Check the parameters of `SparseTransformerSelf`. ValueError for the first that is not possible."""
    del joint
    if mode not in ("strided", "fixed"):
        raise ValueError(f"sparse_transformer: mode={mode}: expected strided or fixed")
    if split not in ("heads", "layers"):
        raise ValueError(f"sparse_transformer: split={split}: expected heads or layers")
    if stride < 0:
        raise ValueError(f"sparse_transformer: stride={stride}: expected at least 1, or 0 for the map's width")
    if block < 1:
        raise ValueError(f"sparse_transformer: block={block}: expected at least 1")
    if not 1 <= summary <= block:
        raise ValueError(f"sparse_transformer: summary={summary}: expected 1 to the block, {block}")
    if split == "heads" and heads < 2:
        raise ValueError(f"sparse_transformer: split=heads needs 2 heads or more, heads={heads}: take split=layers")


RULES: Mapping[str, Callable[..., None]] = MappingProxyType(
    {"longformer": check_longformer, "reformer": check_reformer, "sparse_transformer": check_sparse_transformer}
)
"""The check of each attention that has parameters of its own, by name; it takes all of them, and the heads."""
