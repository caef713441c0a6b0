"""What is compared: sides that answer the same queries, each in the layout and with the padding that it wants.

Shape legend: B batch, S tokens, H heads, D width of a head. A comparison's inputs are (B, S, H, D).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Tensors = list[Tensor]
RESULT_TOLERANCE = 1e-4  # relative; a side of which the same result is expected and that differs more is not timed


@dataclass(frozen=True, kw_only=True)
class MapSize:
    """One map of tokens, and the heads."""

    height: int
    width: int
    heads: int = 8
    head_width: int = 32

    @property
    def tokens(self) -> int:
        """S."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """A side at one size: from the inputs to what it is called with, the call, and from its result to (B, S, H, D).

    Only the call is timed. ``kept`` is what it holds between calls, such as a mask; it counts as its memory.
    """

    take: Callable[[Tensors], Tensors]
    run: Callable[[Tensors], Tensor]
    give: Callable[[Tensor], Tensor]
    kept: Sequence[Tensor] = ()


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """Something that answers; ``prepare`` raises ImportError where it is not there, and ``install`` says what to do.

    ``difference`` says what is not equal to the first side; ``same_result`` that the results must be. ``needed_bytes``
    gives bytes at a size, roughly, where they may be more than there are.
    """

    name: str
    prepare: Callable[[MapSize], PreparedCall]
    difference: str = ""
    install: str = ""
    same_result: bool = True
    ours: bool = False
    needed_bytes: Callable[[MapSize], int] = field(default=lambda _: 0)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Sides with one pattern, ours first; so many inputs: queries, keys and values, or shared queries and values."""

    name: str
    implementations: tuple[Implementation, ...]
    inputs: int = 3

    def draw_inputs(self, size: MapSize) -> Tensors:
        """Inputs of one image, normally distributed, the same every time."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, size.tokens, size.heads, size.head_width)
        return [torch.randn(shape, generator=generator) for _ in range(self.inputs)]


@torch.no_grad()
def compute_result(core: PreparedCall, inputs: Tensors) -> Tensor:
    """The result in the layout of the inputs, (B, S, H, D)."""
    return core.give(core.run(core.take(inputs)))


def result_disagreement(found: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()
