"""The sizes of a call of the operator and its inputs: the same for speed, memory and correctness.

Shape legend: see `unept.ops.reference`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unept.layers import positions
from unept.ops import Shapes


class Case(NamedTuple):
    """The sizes of a call, and how its offsets are drawn: normally, `spread` pixels wide.

    The queries look from random places or, if `ordered`, as in the models: from one pixel's centre after the other.
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


def usual(side: int, batch: int, queries: int, *, levels: int = 3, points: int = 16) -> Case:
    """A call as the models make it: 8 heads of 32 channels, square maps, a query a pixel, offsets of about 4 pixels."""
    return Case(((side, side),) * levels, batch, queries, 8, 32, points, 4.0, ordered=True)


# A small one, and the layers of the two backbones at 480 px. The queries of an encoder are its tokens.
SHAPES = {
    "small": usual(12, 2, 432),
    "deit-encoder": usual(30, 1, 2700),
    "deit-encoder-2": usual(30, 2, 2700),
    "r50-decoder": usual(60, 1, 3600),
    "r50-encoder": usual(60, 1, 10800),
}
TINY = {"tiny": usual(6, 1, 108)}


def make(case: Case, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Value, reference, offsets, logits and a gradient; single-precision numbers, whatever the type.

    No point lies within 1e-3 px of a pixel line, where the derivative jumps.
    """
    shapes, B, Q, H, D, P, spread, seed, ordered = case
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator)

    value, place = normal(B, case.tokens, H, D), torch.rand(Q, 2, generator=generator)
    if ordered:
        place = positions.pixel_centres(shapes, like=value).repeat(-(-Q // case.tokens), 1)[:Q]
    sizes = torch.tensor([(w, h) for h, w in shapes])[:, None]
    offsets = spread * normal(B, Q, H, len(shapes), P, 2)
    pixels = (place[:, None, None, None] * sizes).double() - 0.5 + offsets.double()
    offsets += ((pixels - pixels.round()).abs() < 2e-3) * 8e-3
    made = [value, place, offsets, normal(B, Q, H, len(shapes), P), normal(B, Q, H * D)]
    return [tensor.to(dtype) for tensor in made]


def chosen(names: Sequence[str], shapes: dict[str, Case]) -> dict[str, Case]:
    """The shapes of these names, all of them for none. ValueError for a name that there is not."""
    for name in names:
        if name not in shapes:
            raise ValueError(f"unknown shape {name!r}; there are {', '.join(shapes)}")
    return {name: shapes[name] for name in names} if names else dict(shapes)
