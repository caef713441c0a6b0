"""Implementations that answer the same queries, each in the layout and with the padding that it wants.

Shape legend: B batch, S tokens, H heads, D width of a head. A comparison's inputs are (B, S, H, D), float32.
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
    """Height and width of one map in tokens, number of heads, and channels of a head."""

    height: int
    width: int
    heads: int = 8
    head_width: int = 32

    @property
    def tokens(self) -> int:
        """S, the number of tokens."""
        return self.height * self.width


@dataclass(frozen=True, kw_only=True)
class PreparedCall:
    """One implementation prepared for one size: `take` converts inputs, `run` is timed, `give` converts the output
    back.

    Attributes:
        take: From the comparison's inputs to what the implementation is called with.
        run: The call.
        give: From its result to (B, S, H, D).
        kept: Tensors that it holds between calls, such as a mask; they count as its memory.
    """

    take: Callable[[Tensors], Tensors]
    run: Callable[[Tensors], Tensor]
    give: Callable[[Tensor], Tensor]
    kept: Sequence[Tensor] = ()


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """Something that computes the attention of a comparison.

    Attributes:
        name: Shown in the table.
        prepare: Prepares a size; raises ImportError where its package is not installed.
        difference: What is not equal to the first implementation.
        install: Command that installs its package.
        same_result: The result must equal the first implementation's, to RESULT_TOLERANCE.
        ours: It is this project's.
        needed_bytes: Bytes at a size, roughly, where they may be more than there are.
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
    """Implementations of one attention pattern, ours first.

    Attributes:
        name: Shown in the table.
        implementations: At least one.
        inputs: Number of input tensors: 3 for queries, keys and values; 2 where queries and keys are shared.
    """

    name: str
    implementations: tuple[Implementation, ...]
    inputs: int = 3

    def draw_inputs(self, size: MapSize) -> Tensors:
        """Return the inputs of one image, normally distributed, the same every time: a list of (1, S, H, D)."""
        generator = torch.Generator().manual_seed(0)
        shape = (1, size.tokens, size.heads, size.head_width)
        return [torch.randn(shape, generator=generator) for _ in range(self.inputs)]


@torch.no_grad()
def compute_result(call: PreparedCall, inputs: Tensors) -> Tensor:
    """Return the result of a prepared call in the layout of the inputs, (B, S, H, D)."""
    return call.give(call.run(call.take(inputs)))


def result_disagreement(result: Tensor, expected: Tensor) -> float:
    """Return the largest difference, relative to the largest number expected."""
    return ((result - expected).abs().max() / expected.abs().max()).item()
