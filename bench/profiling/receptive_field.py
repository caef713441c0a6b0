"""Receptive field of a self-attention, measured: the gradient of an output with respect to every input.

The attention layers are called as they are, with random tokens, at their initial weights. A token is seen where the
gradient of a result is not 0. This needs no formula for a mechanism, and holds for a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.config.settings import Settings

Shapes = tuple[tuple[int, int], ...]

QUERIES_PER_LEVEL = 32  # tokens of each level whose dependence is measured, evenly spaced
MAX_TOKENS = 4096  # of all levels; beyond it a gradient for each query takes minutes on a CPU


@dataclass(frozen=True, kw_only=True)
class ReceptiveField:
    """Shares of tokens that a token sees, from 0 to 1.

    Attributes:
        share: Share of the other tokens that one layer lets a token see, on average.
        two_layers: Row a, column b is the share of the tokens of level b on which a token of level a depends after two
            layers with their residuals.
    """

    share: float
    two_layers: tuple[tuple[float, ...], ...]


def measure_receptive_field(
    make: Callable[[int], nn.Module], shapes: Shapes, width: int, queries: int = QUERIES_PER_LEVEL
) -> ReceptiveField:
    """Measure the receptive field of a self-attention in one layer and in two.

    Args:
        make: Builds the module for layer 0 and for layer 1.
        shapes: Height and width of each level's map, in tokens.
        width: Channels of a token.
        queries: Number of evenly spaced tokens of each level whose dependence is measured.
    """
    layers = (make(0), make(1))
    sizes = [height * columns for height, columns in shapes]
    queries_by_level = [_spaced(size, queries) + sum(sizes[:level]) for level, size in enumerate(sizes)]
    indices = torch.cat(queries_by_level)
    one_layer = dependency_mask(layers[:1], shapes, width, indices, residual=False)
    one_layer[torch.arange(len(indices)), indices] = False
    two_layers = dependency_mask(layers, shapes, width, indices, residual=True).split(
        [len(level_queries) for level_queries in queries_by_level]
    )
    return ReceptiveField(
        share=one_layer.float().sum(1).mean().item() / max(1, sum(sizes) - 1),
        two_layers=tuple(tuple(part.float().mean().item() for part in rows.split(sizes, dim=1)) for rows in two_layers),
    )


def dependency_mask(
    layers: Sequence[nn.Module], shapes: Shapes, width: int, queries: Tensor, *, residual: bool, seed: int = 0
) -> Tensor:
    """Return which results depend on which tokens after all layers, bool (Q, S).

    Args:
        layers: Self-attentions, called in order, in evaluation mode.
        shapes: Height and width of each level's map, in tokens; S tokens in all.
        width: Channels of a token.
        queries: Indices of the Q tokens whose results are differentiated, int64 (Q,).
        residual: Add each layer's input to its result.
        seed: Of the random tokens, positions and directions.
    """
    generator = torch.Generator().manual_seed(seed)
    like = next((parameter for layer in layers for parameter in layer.parameters()), torch.zeros(()))
    total = sum(height * columns for height, columns in shapes)
    random = torch.randn(3, total, width, generator=generator).to(like)
    tokens = random[:1].requires_grad_()
    x = tokens
    for layer in layers:
        result = layer.eval()(x, random[1:2], shapes)
        x = x + result if residual else result
    rows = []
    for query in queries.tolist():
        (gradient,) = (
            torch.autograd.grad((x[0, query] * random[2, query]).sum(), tokens, retain_graph=True, allow_unused=True)
            if x.requires_grad
            else (None,)
        )
        rows.append(torch.zeros(total) if gradient is None else gradient[0].abs().sum(-1).cpu())
    return torch.stack(rows) > 0


def slot_receptive_field(settings: Settings, slot: str) -> ReceptiveField | None:
    """Return the receptive field of the attention in a self-attention slot at the training size; None beyond
    MAX_TOKENS.
    """
    from unept.context import make_slot

    shapes = level_shapes(settings) if slot == "encoder_self" else (query_shape(settings),)
    if sum(height * width for height, width in shapes) > MAX_TOKENS:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return measure_receptive_field(
            lambda layer: make_slot(settings.model, slot, layer), shapes, settings.model.width
        )


def level_shapes(settings: Settings) -> Shapes:
    """Return height and width of each level's map at the training size, in tokens, without computing."""
    from unept import backbones

    model = settings.model
    side = _padded(model.size)
    with torch.device("meta"), torch.no_grad():
        backbone = backbones.make_backbone(model.backbone, model.size, model.position_resize, "").eval()
        maps = backbone(torch.zeros(1, 3, side, side))[-model.levels :]
    return tuple((level.shape[2], level.shape[3]) for level in maps)


def query_shape(settings: Settings) -> tuple[int, int]:
    """Return height and width of the decoder's grid of queries at the training size."""
    from unept.model import STRIDE

    side = _padded(settings.model.size) // STRIDE
    return side, side


def _padded(side: int) -> int:
    from unept.model import MULTIPLE

    return side + -side % MULTIPLE


def _spaced(size: int, number: int) -> Tensor:
    number = min(size, number)
    return ((torch.arange(number, dtype=torch.float64) + 0.5) * size / number).long()
