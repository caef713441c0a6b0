"""Sizes of a call of the operator.

Shape legend: see `unept.ops.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from unept.ops import Shapes


class OperatorCase(NamedTuple):
    """Sizes of a call of the operator.

    Attributes:
        shapes: Height and width of each level.
        batch: B.
        queries: Q.
        heads: H.
        channels: D, per head.
        points: P, per level.
        spread: Standard deviation of the offsets, in pixels.
        seed: Of the random inputs.
        ordered: Queries look from one pixel's centre after the other, as in the models; else from random positions.
    """

    shapes: Shapes
    batch: int = 1
    queries: int = 5
    heads: int = 2
    channels: int = 4
    points: int = 3
    spread: float = 3.0
    seed: int = 0
    ordered: bool = False

    @property
    def tokens(self) -> int:
        """S: the pixels of all levels together."""
        return sum(height * width for height, width in self.shapes)

    @property
    def samples(self) -> int:
        """Sampling points of the whole call."""
        return self.batch * self.queries * self.heads * len(self.shapes) * self.points


def model_case(side: int, batch: int, queries: int, *, levels: int = 3, points: int = 16) -> OperatorCase:
    """Return a call as the models make it: 8 heads of 32 channels, square maps, ordered queries, offsets of about 4
    pixels.

    Args:
        side: Side of the maps, in tokens.
        batch: Number of images.
        queries: Number of queries.
        levels: Number of maps.
        points: Points per level.
    """
    return OperatorCase(((side, side),) * levels, batch, queries, 8, 32, points, 4.0, ordered=True)


# A small one, and the layers of the two backbones at 480 px. The queries of an encoder are its tokens.
CASES = {
    "small": model_case(12, 2, 432),
    "deit-encoder": model_case(30, 1, 2700),
    "deit-encoder-2": model_case(30, 2, 2700),
    "r50-decoder": model_case(60, 1, 3600),
    "r50-encoder": model_case(60, 1, 10800),
}
QUICK_CASES = {"tiny": model_case(6, 1, 108)}


def select_cases(names: Sequence[str], shapes: dict[str, OperatorCase]) -> dict[str, OperatorCase]:
    """Return the cases of these names, all of them for none.

    Raises:
        ValueError: There is no case of a name.
    """
    for name in names:
        if name not in shapes:
            raise ValueError(f"unknown shape {name!r}; there are {', '.join(shapes)}")
    return {name: shapes[name] for name in names} if names else dict(shapes)
