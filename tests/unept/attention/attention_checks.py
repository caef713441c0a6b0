"""What every drop-in has to hold, as one function that names what fails; and the masked dense twins it is held against.

The twins know nothing of windows, blocks or chunks: a full matrix of logits, a mask made of the tokens' places, a
softmax. `failures` is itself tested, on attentions that are wrong on purpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.attention_layer.attention_under_test import AttentionCall
from bench.attention_layer.behaviour import PadWith, change_beside_others, change_when_alone
from bench.profiling.receptive_field import dependency_mask

Shapes = tuple[tuple[int, int], ...]
WIDTH, HEADS = 24, 3
NOT_DIVIDING = ((5, 7), (3, 4))  # 47 tokens: a multiple of nothing
LARGE = ((11, 13), (6, 9))  # more than one tile of any window


@dataclass(frozen=True)
class Places:
    """Level, row, column and place in the level's raster of every token, and the place among all."""

    level: Tensor
    y: Tensor
    x: Tensor
    raster: Tensor
    joint: Tensor

    @property
    def same(self) -> Tensor:
        return self.level[:, None] == self.level


def places(shapes: Shapes) -> Places:
    rows = [(level, i // w, i % w, i) for level, (h, w) in enumerate(shapes) for i in range(h * w)]
    level, y, x, raster = torch.tensor(rows).T
    return Places(level, y, x, raster, torch.arange(len(rows)))


def apart(values: Tensor) -> Tensor:
    return values[:, None] - values


def softmax_over(module: nn.Module, tokens: Tensor, position: Tensor, seen_HSS: Tensor) -> Tensor:
    """Dense attention with the module's own projections, and a mask."""
    q, k, v = (x.transpose(1, 2) for x in module.project(tokens + position, tokens + position, tokens))
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return (logits.masked_fill(~seen_HSS, float("-inf")).softmax(-1) @ v).transpose(1, 2)


@dataclass(frozen=True)
class Case:
    """A drop-in, its dense twin, and the pairs that it lets meet (query, key), whichever head or round does."""

    module: nn.Module
    shapes: Shapes
    twin: Callable[[Tensor, Tensor], Tensor]
    meet: Tensor | None


def inputs(shapes: Shapes, seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = sum(height * width for height, width in shapes)
    return torch.randn(2, batch, size, WIDTH, generator=generator, dtype=torch.float64).unbind()


def prepared(module: nn.Module, seed: int = 1) -> nn.Module:
    """In double precision, with weights and biases that none of the initial zeros hides."""
    generator = torch.Generator().manual_seed(seed)
    module = module.double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return module


def close(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=1e-9, atol=1e-10)


def is_its_twin(case: Case) -> bool:
    tokens, position = inputs(case.shapes)
    return close(case.module(tokens, position, case.shapes), case.twin(tokens, position))


def has_its_gradients(case: Case) -> bool:
    """Of the tokens, of their position and of every parameter."""
    tokens, position = (tensor.requires_grad_() for tensor in inputs(case.shapes))
    asked = [tokens, position, *case.module.parameters()]
    cotangent = inputs(case.shapes, seed=2)[0]
    outputs = (case.module(tokens, position, case.shapes), case.twin(tokens, position))
    found, expected = (torch.autograd.grad(each, asked, cotangent, materialize_grads=True) for each in outputs)
    return all(map(close, found, expected))


def reaches(case: Case) -> bool:
    """The measured matrix is the pattern; a token itself counts nowhere, since it is seen through its query too."""
    size = sum(height * width for height, width in case.shapes)
    queries = torch.arange(0, size, 1 + size // 60)
    measured = dependency_mask([case.module], case.shapes, WIDTH, queries, residual=False)
    assert case.meet is not None
    others = ~torch.eye(size, dtype=torch.bool)
    return torch.equal(measured & others[queries], (case.meet & others)[queries])


def is_blind_to_padding(case: Case) -> bool:
    """Whatever the padding holds, the result is the same."""
    tokens, position = inputs(case.shapes)
    expected = case.module(tokens, position, case.shapes)
    with torch.no_grad(), PadWith(3.0):
        return close(case.module(tokens, position, case.shapes), expected)


def keeps_images_apart(case: Case) -> bool:
    first, second = (
        AttentionCall(
            tensors=dict(zip(("tokens", "position"), inputs(case.shapes, seed, batch=3), strict=True)),
            sizes=(case.shapes,),
        )
        for seed in (0, 1)
    )
    return max(change_when_alone(case.module, first), change_beside_others(case.module, first, second)) < 1e-9


CHECKS = (is_its_twin, has_its_gradients, reaches, is_blind_to_padding, keeps_images_apart)


def failures(case: Case) -> set[str]:
    """Names of the checks that the case does not pass."""
    return {check.__name__ for check in CHECKS if not (check is reaches and case.meet is None) and not check(case)}
