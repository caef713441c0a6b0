"""What a token's result depends on, measured: the gradient of an output with respect to every input.

The attention layers are called as they are, with random tokens, at their initial weights; where the gradient of a
result is not 0, there the token was seen. So it needs no formula for a mechanism, and holds for a user's own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.config.settings import Settings

Shapes = tuple[tuple[int, int], ...]

QUERIES = 32  # tokens of each level whose dependence is measured, evenly spaced
MOST_TOKENS = 4096  # of all levels; beyond it a gradient for each query takes minutes on a CPU


@dataclass(frozen=True, kw_only=True)
class Reach:
    """Shares from 0 to 1.

    ``share``: of the other tokens, those that one layer lets a token see, on average. ``two_layers``: row a, column b
    is the share of the tokens of level b on which a token of level a depends after two layers with their residuals.
    """

    share: float
    two_layers: tuple[tuple[float, ...], ...]


def reach(make: Callable[[int], nn.Module], shapes: Shapes, width: int, queries: int = QUERIES) -> Reach:
    """The reach of the self-attention that ``make`` gives for layer 0 and layer 1, over maps of ``shapes``."""
    layers = (make(0), make(1))
    sizes = [height * columns for height, columns in shapes]
    places = [_spaced(size, queries) + sum(sizes[:level]) for level, size in enumerate(sizes)]
    chosen = torch.cat(places)
    once = depends(layers[:1], shapes, width, chosen, residual=False)
    once[torch.arange(len(chosen)), chosen] = False
    twice = depends(layers, shapes, width, chosen, residual=True).split([len(place) for place in places])
    return Reach(
        share=once.float().sum(1).mean().item() / max(1, sum(sizes) - 1),
        two_layers=tuple(tuple(part.float().mean().item() for part in rows.split(sizes, dim=1)) for rows in twice),
    )


def depends(
    layers: Sequence[nn.Module], shapes: Shapes, width: int, queries: Tensor, *, residual: bool, seed: int = 0
) -> Tensor:
    """(len(queries), S): does the result of a query depend on a token, after all ``layers``, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    like = next((parameter for layer in layers for parameter in layer.parameters()), torch.zeros(()))
    total = sum(height * columns for height, columns in shapes)
    random = torch.randn(3, total, width, generator=generator).to(like)
    tokens = random[:1].requires_grad_()
    x = tokens
    for layer in layers:
        found = layer.eval()(x, random[1:2], shapes)
        x = x + found if residual else found
    rows = []
    for query in queries.tolist():
        (gradient,) = (
            torch.autograd.grad((x[0, query] * random[2, query]).sum(), tokens, retain_graph=True, allow_unused=True)
            if x.requires_grad
            else (None,)
        )
        rows.append(torch.zeros(total) if gradient is None else gradient[0].abs().sum(-1).cpu())
    return torch.stack(rows) > 0


def slot_reach(settings: Settings, slot: str) -> Reach | None:
    """The reach of what stands in a self-attention slot, on the maps of the training size; None beyond MOST_TOKENS."""
    from unept.context import make_slot

    shapes = level_shapes(settings) if slot == "encoder_self" else (query_shape(settings),)
    if sum(height * width for height, width in shapes) > MOST_TOKENS:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return reach(lambda layer: make_slot(settings.model, slot, layer), shapes, settings.model.width)


def level_shapes(settings: Settings) -> Shapes:
    """Height and width of each level's map at the training size, found without computing."""
    from unept import backbones

    model = settings.model
    side = _padded(model.size)
    with torch.device("meta"), torch.no_grad():
        backbone = backbones.make_backbone(model.backbone, model.size, model.position_resize, "").eval()
        maps = backbone(torch.zeros(1, 3, side, side))[-model.levels :]
    return tuple((level.shape[2], level.shape[3]) for level in maps)


def query_shape(settings: Settings) -> tuple[int, int]:
    """Height and width of the decoder's grid of queries at the training size."""
    from unept.model import STRIDE

    side = _padded(settings.model.size) // STRIDE
    return side, side


def _padded(side: int) -> int:
    from unept.model import MULTIPLE

    return side + -side % MULTIPLE


def _spaced(size: int, number: int) -> Tensor:
    number = min(size, number)
    return ((torch.arange(number, dtype=torch.float64) + 0.5) * size / number).long()
